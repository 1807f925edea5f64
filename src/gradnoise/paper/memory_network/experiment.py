"""Memory networks on bAbI: minibatches, loss and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradnoise.data.babi import BabiData, Encoded, encode
from gradnoise.paper.memory_network.memories import Batch, Memories, noisy_times
from gradnoise.paper.memory_network.model import MemoryNetwork
from gradnoise.population import Experiment, PopulationError, derive_seed

JOINT = "joint"
EVALUATION_BATCH = 250
#: Minibatches that are drawn together: NumPy calls cost more than what they do for one.
BLOCK = 16
PARTS = ("train", "validation", "test")


class _Learner(MemoryNetwork):
    """A network that knows what it is trained on, for `loss` and `evaluate`, which see no configuration.

    Attributes:
        task, encoding: as in the configuration.
        memory: weight of the past in the running error, 1 - 1 / (updates in an epoch).
        running_error: [], share of wrong answers in training, mean over about the last epoch.
    """

    task: int | str
    encoding: str
    memory: float
    running_error: Tensor

    def __init__(self, words: int, slots: int, **options: Any) -> None:
        super().__init__(words, slots, **options)
        self.register_buffer("running_error", torch.ones(()))


class MemoryNetworkExperiment(Experiment):
    """Train a `MemoryNetwork` by cross-entropy summed over the minibatch.

    Keys of a configuration: task (1..20, or "joint" for all with one dictionary), dim, hops, tying, encoding,
    batch_size, time_noise (largest share of random empty memories in training), linear_epochs (without softmax,
    at the beginning).

    Metrics: error (%) and cross_entropy (nats per question) of train, validation and test, without time noise;
    running_train_error (%), over the minibatches of about the last epoch as they came; for joint training also
    the errors task by task, such as test_error_7.

    Args:
        data: the stories.
    """

    name = "memory-network"

    def __init__(self, data: BabiData) -> None:
        self.data = data
        self.fingerprint = data.fingerprint
        self.data_title, self.stand_in = data.title, data.is_stand_in

    def epoch(self, task: int | str, batch_size: int = 32) -> int:
        """Updates in an epoch: minibatches that fit into the training questions."""
        return len(encoded(self.data, task).train) // batch_size

    def model(self, config: Mapping[str, Any]) -> nn.Module:
        """The network of `config`.

        Raises:
            PopulationError: a value is out of range.
            DataError: there is no such task in the data.
        """
        self._check(config)
        train = memories(self.data, config["task"], config.get("encoding", "code"))["train"]
        wanted = {k: config[k] for k in ("dim", "hops", "tying", "encoding") if k in config}
        model = _Learner(train.words, train.slots, **wanted)
        model.task, model.encoding = config["task"], config.get("encoding", "code")
        model.memory = 1 - 1 / self.epoch(config["task"], config.get("batch_size", 32))
        return model

    def _check(self, config: Mapping[str, Any]) -> None:
        task, size = config["task"], config.get("batch_size", 32)
        if task != JOINT and not isinstance(task, int):
            raise PopulationError(f"task = {task!r}: allowed are 1 to 20, and {JOINT!r} for all of them")
        questions = len(encoded(self.data, task).train)
        if not 1 <= size <= questions:
            raise PopulationError(f"batch_size = {size}: task {task} has {questions:,} questions to train on")
        if not 0 <= (share := config.get("time_noise", 0.1)) < 1:
            raise PopulationError(f"time_noise = {share}: a share of empty memories lies in [0, 1)")
        if (linear := config.get("linear_epochs", 0)) < 0:
            raise PopulationError(f"linear_epochs = {linear}: give 0 or more")

    def batch(self, seed: int, t: int, config: Mapping[str, Any]) -> Batch:
        """B training questions drawn with replacement, times with random gaps."""
        size = config.get("batch_size", 32)
        task, share = config["task"], config.get("time_noise", 0.1)
        block, i = divmod(t, BLOCK)
        batch = _block(self.data, task, config.get("encoding", "code"), size, share, seed, block)[i]
        linear = t < config.get("linear_epochs", 0) * self.epoch(task, size)
        return self._placed(batch._replace(linear=torch.tensor(linear)))

    def stack(self, batches: Sequence[Batch]) -> Batch:
        """Pad the lists of words to the longest."""
        longest = max(b.word.shape[-1] for b in batches)
        return super().stack([_lengthened(b, longest) for b in batches])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, summed over the questions."""
        assert isinstance(model, _Learner)
        model.linear.copy_(batch.linear)
        logits = model(batch)
        with torch.no_grad():
            wrong = (logits.argmax(1) != batch.answer).to(logits.dtype).mean()
            model.running_error.mul_(model.memory).add_((1 - model.memory) * wrong)
        return nn.functional.cross_entropy(logits, batch.answer, reduction="sum")

    def evaluate(self, model: nn.Module) -> dict[str, Tensor]:
        """Errors (%) and cross-entropies on all questions of the three parts."""
        assert isinstance(model, _Learner)
        metrics = {"running_train_error": 100 * model.running_error}
        for name, part in memories(self.data, model.task, model.encoding).items():
            wrong, losses = zip(*self._answers(model, part), strict=True)
            wrong = torch.cat(wrong)
            metrics[f"{name}_error"] = 100 * wrong.mean()
            metrics[f"{name}_cross_entropy"] = torch.cat(losses).mean()
            if model.task == JOINT:
                for task in np.unique(part.questions.task):
                    mine = torch.from_numpy(part.questions.task == task).to(self.device)
                    metrics[f"{name}_error_{task}"] = 100 * (wrong * mine).sum() / mine.sum()
        return metrics

    def _answers(self, model: MemoryNetwork, part: Memories) -> Iterator[tuple[Tensor, Tensor]]:
        """Whether each question is answered wrongly, and its loss."""
        rows = np.arange(len(part.questions))
        for batch in part.batches(rows, EVALUATION_BATCH, pad=False):
            batch = self._placed(batch)
            batch = batch._replace(weight=batch.weight.to(self.dtype), question=batch.question.to(self.dtype))
            logits = model(batch)
            yield (
                (logits.argmax(1) != batch.answer).to(self.dtype),
                nn.functional.cross_entropy(logits, batch.answer, reduction="none"),
            )

    def _placed(self, batch: Batch) -> Batch:
        return Batch(*(x.to(self.device) for x in batch))

    def broken(self) -> dict[str, float]:
        """A model of nans answers nil, which is always wrong."""
        return {f"{part}_error": 100.0 for part in PARTS}


@lru_cache(maxsize=32)
def encoded(data: BabiData, task: int | str) -> Encoded:
    """The arrays of a task, or of all tasks for "joint"."""
    return encode(data, sorted(data.tasks) if task == JOINT else [int(task)])


@lru_cache(maxsize=2)
def memories(data: BabiData, task: int | str, encoding: str) -> dict[str, Memories]:
    """Train, validation and test questions of a task, ready for batches."""
    found = encoded(data, task)
    return {part: Memories(found, getattr(found, part), encoding) for part in PARTS}


@lru_cache(maxsize=64)
def _block(
    data: BabiData, task: int | str, encoding: str, size: int, share: float, seed: int, block: int
) -> list[Batch]:
    """The next BLOCK minibatches of a seed."""
    train = memories(data, task, encoding)["train"]
    rng = np.random.Generator(np.random.PCG64(derive_seed(seed, block, "questions")))
    rows = rng.integers(len(train.questions), size=BLOCK * size)
    times = noisy_times(rng, train.questions.n[rows], share, train.slots)
    return train.batches(rows, size, times)


def _lengthened(batch: Batch, length: int) -> Batch:
    """The batch with lists of `length` words; the weight of those added is 0."""
    pad = (0, length - batch.word.shape[-1])
    lists = {name: nn.functional.pad(getattr(batch, name), pad) for name in ("word", "slot", "weight")}
    return batch._replace(**lists)
