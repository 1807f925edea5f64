"""LSTM language models: windows of text, loss, the hidden state that is carried on, perplexities."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from gradnoise.data.ptb import Corpus, unigram_loss
from gradnoise.paper.lstm_lm.config import Config
from gradnoise.paper.lstm_lm.model import LSTMLanguageModel
from gradnoise.paper.lstm_lm.recurrence import recorded
from gradnoise.paper.lstm_lm.windows import Columns, Window, streams
from gradnoise.population import Course, Data, Experiment, PopulationError

#: Words of a window when a text is read for its perplexity; the result does not depend on it.
EVALUATION_UNROLL = 256
#: Read for their perplexities, the longer one first.
HELD_OUT = ("test", "valid")

State = dict[str, Tensor]


class CarriedState(Course):
    """Carries the hidden state from window to window; it is zero where an epoch begins.

    Beside it stand sums over the epoch so far: of the loss in nats per word, and of updates.
    """

    def __init__(self, experiment: LanguageModelExperiment) -> None:
        self._experiment = experiment

    def start(self, config: Config) -> State:
        """Return zeros."""
        shape = (config.layers, config.batch_size, config.units)
        return {"h": torch.zeros(shape), "c": torch.zeros(shape), "nats": torch.zeros(()), "updates": torch.zeros(())}

    def after(self, state: State, observed: State, t: Tensor, config: Config) -> State:
        """Take the state after the window; set it to zero after the last window of an epoch."""
        epoch = self._experiment.epoch(config)
        goes_on, begins = (t + 1) % epoch != 0, t % epoch == 0
        sums = {name: torch.where(begins, 0, state[name]) for name in ("nats", "updates")}
        return {
            "h": torch.where(goes_on, observed["h"], 0),
            "c": torch.where(goes_on, observed["c"], 0),
            "nats": sums["nats"] + observed["nats"],
            "updates": sums["updates"] + 1,
        }

    def recorded(self, state: State) -> State:
        """Return log-perplexity and perplexity on the training text, as it was read since the epoch began."""
        return _with_perplexity("train", state["nats"] / state["updates"].clamp(min=1))


class LanguageModelExperiment(Experiment):
    """Train an `LSTMLanguageModel` on a text that is read in order, the same for every seed.

    The loss is the sum over the T time steps of the mean over the B columns of -log p (Zaremba et al. 2014).

    Metrics: test_log_perplexity and valid_log_perplexity, nats per word over the whole text, read as one stream from
    the first word to the last with the hidden state carried on; and the perplexities, their exponentials. In training
    also train_log_perplexity and train_perplexity, means over the epoch so far, with dropout.

    Args:
        corpus: the text.
    """

    name = "lstm-lm"
    Config = Config
    replica_keys = frozenset({"dropout", "init"})
    same_batches = True

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.data = Data(corpus.title, corpus.fingerprint, corpus.is_stand_in)
        self.course = CarriedState(self)

    def epoch(self, config: Any) -> int:
        """Return the updates in an epoch: windows in a column."""
        return columns(self.corpus, config.batch_size, config.unroll).windows

    def model(self, config: Config) -> LSTMLanguageModel:
        """Return the network of a configuration."""
        words, dropout = len(self.corpus.words), config.dropout or 0.0
        return LSTMLanguageModel(words, config.units, config.layers, dropout, config.init, config.biases)

    def batch(self, seed: int, t: int, config: Config) -> Window:
        """Return the window of update t, int64 [T, B] each."""
        text = columns(self.corpus, config.batch_size, config.unroll)
        return text[t % text.windows]

    def loss(self, model: nn.Module, batch: tuple[Window, State], config: Config) -> tuple[Tensor, State]:
        """Return the loss, and the states [L, B, H] after the window."""
        (tokens, targets), state = batch
        features, h, c = model(tokens, state["h"], state["c"])
        loss = _inner(model).loss(features, targets) / tokens.shape[1]
        return loss, {"h": h, "c": c, "nats": loss / tokens.shape[0]}

    def held_out(self, config: Config) -> list[Window]:
        """Return test and validation text side by side."""
        return streams([self.corpus.part(name) for name in self._held_out_parts()], EVALUATION_UNROLL)

    def evaluate(self, model: nn.Module, held_out: list[Window], config: Config) -> State:
        """Return log-perplexities and perplexities of validation and test, each read as one stream."""
        network = _inner(model)
        parts = self._held_out_parts()
        like = network.softmax.bias
        h, c = (like.new_zeros(config.layers, len(parts), config.units) for _ in range(2))
        sums = [like.new_zeros((), dtype=torch.float64) for _ in parts]
        with recorded(like.device):
            for tokens, targets in held_out:
                still = tokens.shape[1]
                features, h, c = model(tokens, h[:, :still], c[:, :still])
                losses = network.log_losses(features, targets).double().sum(0)
                sums = [total + losses[k] if k < still else total for k, total in enumerate(sums)]
        metrics = {}
        for part, total in zip(parts, sums, strict=True):
            metrics |= _with_perplexity(part, total / (len(self.corpus.part(part)) - 1))
        return metrics

    def _held_out_parts(self) -> list[str]:
        """Return the names of the parts that are evaluated, the longest first."""
        return sorted(HELD_OUT, key=lambda name: -len(self.corpus.part(name)))

    def diverged_metrics(self) -> dict[str, float]:
        """Return what a guess among all words scores; the perplexity of weights that are nan is infinite."""
        guess = math.log(len(self.corpus.words))
        return {f"{part}_log_perplexity": guess for part in HELD_OUT}

    def chance(self) -> float:
        """Return the test log-perplexity of the training text's frequencies of words: ln 639.3 on the Penn Treebank."""
        return unigram_loss(self.corpus, "test")


@lru_cache(maxsize=8)
def columns(corpus: Corpus, batch_size: int, unroll: int) -> Columns:
    """Return the training text of a corpus in columns; made once."""
    return Columns(corpus.train, batch_size, unroll)


def _inner(model: nn.Module) -> LSTMLanguageModel:
    if not isinstance(model, LSTMLanguageModel):
        raise PopulationError(f"a language model is an LSTMLanguageModel, not a {type(model).__name__}")
    return model


def _with_perplexity(part: str, nats: Tensor) -> State:
    return {f"{part}_log_perplexity": nats, f"{part}_perplexity": nats.double().exp()}
