"""A trained network that reads a text word by word, and goes on with words drawn from what it expects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gradnoise.data.ptb import EOS, Corpus
from gradnoise.errors import nearest
from gradnoise.paper.lstm_lm.experiment import LanguageModelExperiment
from gradnoise.paper.lstm_lm.model import LSTMLanguageModel
from gradnoise.paper.runs import Wanted, find
from gradnoise.paper.training import weights_cache
from gradnoise.study import StudyError, TrialResult, trained_weights

#: What stands for rare words.
UNKNOWN = "<unk>"
VALID = "valid_log_perplexity"
#: Nats per word by which a network that is trained once more may differ before that is told: 0.1 % of a perplexity.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Word:
    """A word that was read.

    Args:
        text: the word; `<eos>` ends a sentence.
        bits: its surprise, -log2 of its probability after all words before it.
    """

    text: str
    bits: float


@dataclass(frozen=True)
class Reader:
    """A trained network and what is known of it.

    Args:
        model: the network, in evaluation mode.
        corpus: the text whose words it knows.
        description: which run it is.
        warning: how it differs from the stored run; empty where it does not.
    """

    model: LSTMLanguageModel
    corpus: Corpus
    description: str
    warning: str = ""


def trained(
    folder: Path,
    wanted: Wanted,
    *,
    epochs: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Reader:
    """Return the network of a run, of all that fit the one with the lowest validation perplexity.

    It comes from the cache, or is trained once more on a CPU and kept there.

    Args:
        folder: of a `gradnoise run lstm-lm`.
        wanted: which run.
        epochs: train so many only; None for all.
        progress: called with (updates done, updates in all).
        notice: called with a sentence where the cache is damaged or cannot be written.

    Raises:
        StudyError: there is no such run, or it has fewer epochs.
    """
    found = find(folder, "lstm-lm", wanted, merit=lambda run: -run.final.get(VALID, math.inf))
    experiment, trial = found.study.experiment, found.trial
    assert isinstance(experiment, LanguageModelExperiment)
    epoch = experiment.epoch(experiment.configured(trial.config))
    most = trial.config["steps"] // epoch
    if epochs is not None and not 1 <= epochs <= most:
        raise StudyError(f"--epochs {epochs}: this run has 1 to {most}")
    steps = None if epochs is None else epochs * epoch
    kept = trained_weights(experiment, [trial], weights_cache(), steps=steps, progress=progress, notice=notice)
    assert isinstance(kept.model, LSTMLanguageModel)
    whole = epochs in (None, most)
    length = f"{'' if whole else f'{epochs} of '}{most} epoch{'s' if most > 1 else ''}"
    perplexity = f"validation perplexity {math.exp(kept.metrics[VALID]):,.4g}"
    who = f"row {trial.row}, {trial.arm}, seed {trial.seed}, {length}, {perplexity}"
    return Reader(kept.model, experiment.corpus, who, _difference(found.run, kept.metrics[VALID]) if whole else "")


def _difference(run: TrialResult, now: float) -> str:
    then = run.final.get(VALID, math.nan)
    if abs(now - then) <= TOLERANCE or math.isnan(then):
        return ""
    return (
        f"This is another network than the stored run, whose validation perplexity is {math.exp(then):,.4g}: trained"
        " alone or on another device, sums are rounded in another order, and a run can end elsewhere."
    )


def known_words(corpus: Corpus, text: str) -> tuple[list[str], list[str]]:
    """Return the words of a text as a network of this corpus reads them, and those that became `<unk>`.

    A word that is only known in lower case is read in lower case.

    Raises:
        StudyError: a word is unknown, and so is `<unk>`.
    """
    vocabulary = frozenset(corpus.words)
    read, unknown = [], []
    for word in text.split():
        form = next((form for form in (word, word.lower()) if form in vocabulary), None)
        if form is None:
            if UNKNOWN not in vocabulary:
                raise StudyError(
                    f"{word!r} is not among the {len(vocabulary):,} words of the text, which has no {UNKNOWN}"
                    f"{nearest(word.lower(), corpus.words)}"
                )
            unknown.append(word)
        read.append(form or UNKNOWN)
    return read, unknown


class Reading:
    """A text as a network reads it, from the beginning of a sentence with a hidden state of zero.

    Args:
        reader: the network.

    Attributes:
        words: read so far.
    """

    def __init__(self, reader: Reader) -> None:
        self.words: list[Word] = []
        self._model, self._names = reader.model, reader.corpus.words
        self._ids = {word: i for i, word in enumerate(self._names)}
        softmax = self._model.softmax
        self._h = self._c = softmax.weight.new_zeros(len(self._model.layers), 1, softmax.in_features)
        self._step(self._ids[EOS])

    @torch.no_grad()
    def _step(self, id: int) -> None:
        features, self._h, self._c = self._model(torch.tensor([[id]]), self._h, self._c)
        self._expected = self._model.softmax(features[0, 0]).double().log_softmax(0)  # [V]

    def read(self, words: Sequence[str]) -> None:
        """Read words of the vocabulary."""
        for word in words:
            id = self._ids[word]
            self.words.append(Word(word, -self._expected[id].item() / math.log(2)))
            self._step(id)

    def go_on(self, count: int, temperature: float, generator: torch.Generator) -> None:
        """Draw and read words.

        Args:
            count: how many.
            temperature: their probabilities are taken to the power 1 / temperature; 0 takes the likeliest word.
            generator: of the draws.
        """
        for _ in range(count):
            if temperature:
                shares = (self._expected / temperature).softmax(0)
                id = int(torch.multinomial(shares, 1, generator=generator))
            else:
                id = int(self._expected.argmax())
            self.read([self._names[id]])
