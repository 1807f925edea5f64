"""Section 4.6 of the paper as a study: an LSTM language model to which noise does not help."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from gradnoise.data.ptb import Corpus, load_corpus
from gradnoise.paper.lstm_lm.experiment import LanguageModelExperiment
from gradnoise.paper.lstm_lm.scales import NONE, SMALL, USUAL, Grid, dense
from gradnoise.paper.system import AUTO, Request
from gradnoise.population import Steps
from gradnoise.study import Claim, Metric, Setting, Study, StudyError

SOURCE = "Neelakantan et al., section 4.6"

#: 0.01 nats are 1 % of the perplexity, about one point at 95: the spread that the published figures are rounded to.
METRIC = Metric(
    name="test_log_perplexity", title="test log-perplexity", unit="nats", higher_is_better=False, margin=0.01
)
#: Arm -> published perplexity, with dropout; those without it are not given.
PUBLISHED = {NONE.name: 95.0, dense(USUAL).name: 98.0, dense(SMALL).name: 95.0}


def _claim(id: str, row: str, eta: float, statement: str) -> Claim:
    arms = (NONE.name, dense(eta).name)
    figures = {arm: {"mean": math.log(PUBLISHED[arm])} for arm in arms} if row != "plain" else {}
    return Claim(id, row, statement, SOURCE, arms[1], "no help", figures)


#: The paper does not say how long it trained: the claims with dropout are tested in both schedules.
CLAIMS = (
    _claim(
        "4.6-ptb/13/0.01", "dropout", USUAL, "Noise of eta 0.01 does not lower the perplexity: 95 to 98 (13 epochs)"
    ),
    _claim("4.6-ptb/13/0.001", "dropout", SMALL, "Nor does noise of eta 0.001: it stays at 95 (13 epochs)"),
    _claim("4.6-ptb/39/0.01", "dropout-long", USUAL, "Noise of eta 0.01 does not lower it: 95 to 98 (39 epochs)"),
    _claim("4.6-ptb/39/0.001", "dropout-long", SMALL, "Nor does noise of eta 0.001: it stays at 95 (39 epochs)"),
    _claim("4.6-ptb-plain/0.01", "plain", USUAL, "Without dropout noise of eta 0.01 does not help either"),
    _claim("4.6-ptb-plain/0.001", "plain", SMALL, "Without dropout noise of eta 0.001 does not help either"),
)

PROTOCOL = (
    ("network", "embedding, 2 LSTM layers, softmax over the vocabulary; 200 units, nothing tied, no peepholes"),
    ("initial weights", "uniform in ±0.1, biases too"),
    ("text", "cut into 20 columns read in order, windows of 20 words, hidden state carried on and zero at each epoch"),
    ("dropout", "on the vertical paths only: embedding, between the layers, before the softmax"),
    ("training", "SGD on the sum over 20 time steps of the mean loss; learning rate 1 for the first epochs (4 of 13, 6"
     " of 39), then divided by 2 (by 1.2) each epoch"),
    ("one update", "gradient; clip at global norm 5; add noise N(0, eta / (1 + t)^0.55) to every coordinate; step"),
    ("reported", "final-step log-perplexity of the whole test text read as one stream, in nats per word; 0.01 nats are"
     " 1 % of the perplexity"),
    ("pairs", "same seed, same initial weights and dropout masks in every arm; the text is the same for all seeds"),
    ("a diverged run", "is frozen and counts with a guess among all words"),
)  # fmt: skip

SILENT = (
    "The paper gives neither the rate of its dropout nor the length of training, nor whether its perplexities are of"
    " validation or test; dropout 0.25 and two schedules of Zaremba et al. are our choice.",
    "The learning rate falls after 4 (6) whole epochs, as Zaremba et al. write; their program waits one epoch longer.",
    "Noise goes on the embeddings of all words in every update, also of those that are not in the minibatch"
    " (study readings has the other ways to read the paper).",
)


def build(request: Request[Grid]) -> Study:
    """Make the study of a request."""
    if request.options.any_corpus and request.data in (AUTO, "generated"):
        raise StudyError(f"--any-corpus with --data {request.recipe.data}: name the folder of the corpus with --data")
    experiment = LanguageModelExperiment(load_corpus(request.data, any_corpus=request.options.any_corpus))
    settings = tuple(_settings(experiment, request))
    return request.study(
        title="LSTM language model on the Penn Treebank (Section 4.6)",
        experiment=experiment,
        metric=dataclasses.replace(METRIC, chance=experiment.chance()),
        settings=settings,
        base={"layers": 2, "biases": 2, "batch_size": 20},
        protocol=PROTOCOL,
        silent=SILENT,
        notes=tuple(_notes(experiment.corpus)),
        data="generated" if experiment.corpus.name == "generated" else "ptb",
        steps=max(s.steps or 0 for s in settings),
        eval_every=max(s.eval_every or 0 for s in settings),
        unit=lambda setting: setting.eval_every or 1,  # as it is built: an epoch
    )


def _notes(corpus: Corpus) -> Iterator[str]:
    """Say which text stands in for the Penn Treebank."""
    if corpus.name == "generated":
        yield "Sentences of a Markov chain, whose entropy is known, instead of the Penn Treebank."
    elif corpus.is_stand_in:
        yield f"Another text instead of the Penn Treebank, with {len(corpus.words):,} different words."


def _settings(experiment: LanguageModelExperiment, request: Request[Grid]) -> Iterator[Setting]:
    """Make the rows; those of a shorter or longer request keep the shape of their learning rate."""
    scale = request.scale
    for row in scale.rows:
        values = scale.values(row)
        epoch = experiment.epoch(experiment.configured({"batch_size": 20} | values))
        epochs, full = (max(1, round(n * request.length / scale.length)) for n in (row.epochs, row.full))
        later = tuple(epoch * e for e in range(full, epochs))
        yield Setting(
            row=row.name,
            title=row.title,
            values=values | {"lr": Steps(1.0, at=later, factor=1 / row.divide)},
            name="",
            steps=epoch * epochs,
            eval_every=epoch,
        )
