"""Memory networks on bAbI: minibatches, loss and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gradnoise.data.babi import BabiData, Encoded, encode
from gradnoise.paper.memory_network.memories import Batch, Memories, noisy_times
from gradnoise.paper.memory_network.model import MemoryNetwork
from gradnoise.population import Course, Data, Experiment, PopulationError, derive_seed

JOINT = "joint"
EVALUATION_BATCH = 250
#: Minibatches that are drawn together: NumPy calls cost more than what they do for one.
BLOCK = 16
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Config:
    """Settings of a memory network and its training.

    Args:
        task: 1..20, or "joint" for all with one dictionary.
        dim, hops, tying, encoding: see `MemoryNetwork`.
        batch_size: B, questions in a minibatch.
        time_noise: largest share of random empty memories in training, in [0, 1).
        linear_epochs: epochs without softmax at the beginning.
    """

    task: int | str = 1
    dim: int = 20
    hops: int = 3
    tying: str = "adjacent"
    encoding: str = "code"
    batch_size: int = 32
    time_noise: float = 0.1
    linear_epochs: int = 0


class Part(NamedTuple):
    """Questions to be evaluated on.

    Args:
        batches: all of them, in order.
        of_task: for joint training, task -> bool [Q], which questions are its.
    """

    batches: list[Batch]
    of_task: dict[int, Tensor]


class RunningError(Course):
    """Keeps the share of wrong answers in training, a running mean over about the last epoch."""

    def __init__(self, experiment: MemoryNetworkExperiment) -> None:
        self._experiment = experiment

    def start(self, config: Config) -> dict[str, Tensor]:
        """Return an error of 1."""
        return {"running_error": torch.ones(())}

    def after(
        self, state: dict[str, Tensor], observed: dict[str, Tensor], t: Tensor, config: Config
    ) -> dict[str, Tensor]:
        """Let the minibatch count with 1 / (updates in an epoch)."""
        memory = 1 - 1 / self._experiment.epoch(config.task, config.batch_size)
        return {"running_error": state["running_error"] * memory + (1 - memory) * observed["wrong"]}

    def recorded(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the running error in %."""
        return {"running_train_error": 100 * state["running_error"]}


class MemoryNetworkExperiment(Experiment):
    """Train a `MemoryNetwork` by cross-entropy summed over the minibatch.

    Metrics: error (%) and cross_entropy (nats per question) of train, validation and test, without time noise;
    running_train_error (%), over the minibatches of about the last epoch as they came; for joint training also
    the errors task by task, such as test_error_7.

    Args:
        stories: the data.
    """

    name = "memory-network"
    Config = Config

    def __init__(self, stories: BabiData) -> None:
        self.stories = stories
        self.data = Data(stories.title, stories.fingerprint, stories.is_stand_in)
        self.course = RunningError(self)

    def epoch(self, task: int | str, batch_size: int = 32) -> int:
        """Return the updates in an epoch: minibatches that fit into the training questions."""
        return len(encoded(self.stories, task).train) // batch_size

    def model(self, config: Config) -> nn.Module:
        """Return the network of a configuration.

        Raises:
            PopulationError: a value is out of range.
            DataError: there is no such task in the data.
        """
        self._check(config)
        train = memories(self.stories, config.task, config.encoding)["train"]
        return MemoryNetwork(train.words, train.slots, config.dim, config.hops, config.tying, config.encoding)

    def _check(self, config: Config) -> None:
        task, size, share = config.task, config.batch_size, config.time_noise
        if task != JOINT and not isinstance(task, int):
            raise PopulationError(f"task = {task!r}: allowed are 1 to 20, and {JOINT!r} for all of them")
        questions = len(encoded(self.stories, task).train)
        if not 1 <= size <= questions:
            raise PopulationError(f"batch_size = {size}: task {task} has {questions:,} questions to train on")
        if not 0 <= share < 1:
            raise PopulationError(f"time_noise = {share}: a share of empty memories lies in [0, 1)")
        if config.linear_epochs < 0:
            raise PopulationError(f"linear_epochs = {config.linear_epochs}: give 0 or more")

    def batch(self, seed: int, t: int, config: Config) -> Batch:
        """Return B training questions drawn with replacement, times with random gaps."""
        block, i = divmod(t, BLOCK)
        size, share = config.batch_size, config.time_noise
        batch = _block(self.stories, config.task, config.encoding, size, share, seed, block)[i]
        linear = t < config.linear_epochs * self.epoch(config.task, size)
        return batch._replace(linear=torch.tensor(linear))

    def stack(self, batches: Sequence[Batch]) -> Batch:
        """Pad the lists of words to the longest."""
        longest = max(b.word.shape[-1] for b in batches)
        return super().stack([_lengthened(b, longest) for b in batches])

    def loss(
        self, model: nn.Module, batch: tuple[Batch, dict[str, Tensor]], config: Config
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy, summed over the questions, and the share of wrong answers."""
        assert isinstance(model, MemoryNetwork)
        questions, _ = batch
        model.linear.copy_(questions.linear)
        logits = model(questions)
        wrong = (logits.argmax(1) != questions.answer).to(logits.dtype).mean()
        return nn.functional.cross_entropy(logits, questions.answer, reduction="sum"), {"wrong": wrong}

    def held_out(self, config: Config) -> dict[str, Part]:
        """Return all questions of training, validation and test."""
        found = {}
        for name, part in memories(self.stories, config.task, config.encoding).items():
            of = part.questions.task
            of_task = {int(k): torch.from_numpy(of == k) for k in np.unique(of)} if config.task == JOINT else {}
            found[name] = Part(part.batches(np.arange(len(of)), EVALUATION_BATCH, pad=False), of_task)
        return found

    def evaluate(self, model: nn.Module, held_out: dict[str, Part], config: Config) -> dict[str, Tensor]:
        """Return errors (%) and cross-entropies on all questions of the three parts."""
        metrics = {}
        for name, part in held_out.items():
            wrong, losses = zip(*_answers(model, part.batches), strict=True)
            wrong = torch.cat(wrong)
            metrics[f"{name}_error"] = 100 * wrong.mean()
            metrics[f"{name}_cross_entropy"] = torch.cat(losses).mean()
            for task, mine in part.of_task.items():
                metrics[f"{name}_error_{task}"] = 100 * (wrong * mine).sum() / mine.sum()
        return metrics

    def diverged_metrics(self) -> dict[str, float]:
        """Return what a model of nans scores: it answers nil, which is always wrong."""
        return {f"{part}_error": 100.0 for part in PARTS}


def _answers(model: nn.Module, batches: Sequence[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
    """Say of each question whether it is answered wrongly, and with which loss."""
    for batch in batches:
        logits = model(batch)
        yield (
            (logits.argmax(1) != batch.answer).to(logits.dtype),
            nn.functional.cross_entropy(logits, batch.answer, reduction="none"),
        )


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
