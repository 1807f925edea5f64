"""What a population trains: an ordinary model, its loss, its minibatches and its metrics, for one replica."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradnoise.population.draws import Draws
from gradnoise.population.randomness import permutation

Batch = Any  # a tensor, or any nesting of tuples, lists and dicts of tensors
Model = nn.Module
State = dict[str, Tensor]
Metrics = dict[str, Tensor]


class Experiment(ABC):
    """Model, loss, minibatches and metrics, written for one replica; the engine runs hundreds of them.

    Subclass it and write four methods. Nothing in them knows of populations: `model` in `loss` and
    `evaluate` is called like the module that the method `model` returned.

    Neither `loss` nor `evaluate` may draw random numbers: draw in `batch`, and test data beforehand.

    Data made on the fly, curricula, early ends: write `generate` in place of `batch`, let `state` hold what a
    replica keeps beside its weights, let `loss` return metrics with the loss and `updated` learn from them,
    and say in `finished` which replicas have reached their goal. These see all replicas at once, [P, ...].

    Example:
        >>> class Parity(Experiment):
        ...     name = "parity"
        ...     def __init__(self):
        ...         self.test = self.batch(123, 0, {})
        ...     def model(self, config):
        ...         return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2))
        ...     def batch(self, seed, t, config):
        ...         g = torch.Generator().manual_seed(derive_seed(seed, t, "bits"))
        ...         x = torch.randint(0, 2, (64, 8), generator=g)
        ...         return x.float(), x.sum(1) % 2
        ...     def loss(self, model, batch):
        ...         x, y = batch
        ...         return nn.functional.cross_entropy(model(x), y)
        ...     def evaluate(self, model):
        ...         x, y = self.test
        ...         return {"accuracy": (model(x).argmax(1) == y).float().mean()}
    """

    name: str
    #: Hash of the data; trials on different data have different ids.
    fingerprint: str = ""
    #: What reports call the data.
    data_title: str = ""
    #: Whether the data only stands in for a published data set; every report then says so in its title.
    stand_in: bool = False
    #: Configuration keys that may differ between replicas of one population (they change no tensor shape).
    replica_keys: ClassVar[frozenset[str]] = frozenset()
    #: This many non-finite losses or gradients in a row end a replica; updates with fewer are skipped for it.
    patience: ClassVar[int] = 1
    #: Entries of `state` that are recorded with the metrics.
    watched: ClassVar[tuple[str, ...]] = ()
    #: Where and in which precision batches are wanted; set by the engine before training.
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32

    @abstractmethod
    def model(self, config: Mapping[str, Any]) -> nn.Module:
        """A freshly initialised module; called with the global generator seeded for the replica."""

    def batch(self, seed: int, t: int, config: Mapping[str, Any]) -> Batch:
        """The minibatch of update `t` (0, 1, ...) as a pure function of `seed`, on `self.device`.

        Replicas of one seed share it: it may depend on no key that is in `replica_keys`.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method `batch` or `generate`")

    def generate(self, draws: Draws, state: State, config: Mapping[str, Any]) -> Batch:
        """The minibatches of one update for P replicas at once, every tensor with a leading [P].

        Where this is defined the engine uses it in place of `batch`.

        Args:
            draws: uniform random numbers, a row for each replica, and the update's t.
            state: what the replicas keep, see `state`.
            config: what the replicas agree on, which is every key that is not in `replica_keys`.
        """
        raise NotImplementedError

    def state(self, config: Mapping[str, Any]) -> State:
        """What one replica keeps beside its weights, such as the level of a curriculum; the engine adds the [P].

        It travels with the replica and its checkpoints. Settings of the loss that may differ between the
        replicas of a population belong here, too.
        """
        return {}

    def updated(self, state: State, report: Metrics, t: int) -> State:
        """The state [P, ...] after update t, given the metrics [P] that `loss` returned beside the loss."""
        return state

    def stack(self, batches: Sequence[Batch]) -> Batch:
        """Minibatches of one update for R different seeds as one, with a leading [R] on every tensor.

        Override it where the shapes of minibatches differ from seed to seed, to pad them.
        """
        return pytree.tree_map(lambda *xs: torch.stack(xs), *batches)

    @abstractmethod
    def loss(self, model: Model, batch: Batch) -> Tensor | tuple[Tensor, Metrics]:
        """The scalar training loss of one replica on one minibatch, or (loss, metrics for `updated`)."""

    @abstractmethod
    def evaluate(self, model: Model) -> dict[str, Tensor]:
        """Scalar metrics of one replica in evaluation mode, without gradient."""

    def finished(self, metrics: Metrics) -> Tensor | None:
        """Which replicas, bool [P], have reached their goal and may stop, given metrics [P] of `evaluate`."""
        return None

    def confirm(self, model: Model) -> Metrics:
        """Metrics on more data, asked of those alone that look `finished`.

        They replace those of `evaluate` with the same names; others are nan for the rest of the replicas.
        """
        return {}

    def broken(self) -> dict[str, float]:
        """Metrics that a diverged replica counts with; {} leaves it out of means."""
        return {}


@dataclass(frozen=True)
class Minibatches:
    """Minibatches of a data set in memory, reshuffled every epoch.

    Args:
        tensors: tensors of n examples each, [n, ...].
        size: examples per minibatch, B. Each epoch has n // B minibatches; the rest, different in
            every epoch, waits for a later one.
    """

    tensors: tuple[Tensor, ...]
    size: int

    def __post_init__(self) -> None:
        """Check lengths and size."""
        lengths = [len(x) for x in self.tensors]
        if len(set(lengths)) != 1:
            raise ValueError(f"tensors of one data set need equal lengths, got {lengths}")
        if not 1 <= self.size <= lengths[0]:
            raise ValueError(f"minibatch size {self.size} is not in 1..{lengths[0]}, the number of examples")

    def __call__(self, seed: int, t: int) -> tuple[Tensor, ...]:
        """The examples of update `t` in the order that `seed` decides."""
        n = len(self.tensors[0])
        epoch, i = divmod(t, n // self.size)
        rows = permutation(seed, epoch, n)[i * self.size : (i + 1) * self.size]
        return tuple(x[rows.to(x.device)] for x in self.tensors)
