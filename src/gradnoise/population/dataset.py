"""Minibatches of a data set that is read by index, such as a `torch.utils.data.Dataset` of pictures on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch.utils.data import default_collate

from gradnoise.population.course import Batch
from gradnoise.population.minibatches import Orders
from gradnoise.population.randomness import derive_seed, seeded

_orders = Orders()


class ByIndex(Protocol):
    """A data set of n examples, each found by its index."""

    def __len__(self) -> int:
        """Return n."""
        ...

    def __getitem__(self, i: int, /) -> Any:
        """Return example i: a tensor, a number, or tuples, lists and dicts of these."""
        ...


@dataclass(frozen=True, eq=False)
class Loaded:
    """Minibatches of a data set that is read by index, reshuffled every epoch: a DataLoader without its state.

    Which examples an update sees is a function of (seed, t), and so are random transforms of the data set that draw
    from torch's generator: it is seeded while examples are read. `Minibatches` is faster where all data fit in memory.

    Args:
        dataset: n examples, such as a `torch.utils.data.Dataset` with `__len__`.
        size: examples per minibatch, B. Each epoch has n // B minibatches.
        collate: makes a minibatch of B examples.

    Raises:
        ValueError: a minibatch does not fit.

    Example, in an experiment:
        >>> def batch(self, seed, t, config):
        ...     return Loaded(self.pictures, 64)(seed, t)
    """

    dataset: ByIndex
    size: int
    collate: Callable[[list[Any]], Batch] = default_collate

    def __post_init__(self) -> None:
        """Check the size."""
        if not 1 <= self.size <= len(self.dataset):
            raise ValueError(f"minibatch size {self.size} is not in 1..{len(self.dataset)}, the number of examples")

    def __call__(self, seed: int, t: int) -> Batch:
        """Return the minibatch of update t in the order that `seed` decides, tensors with a leading [B]."""
        n = len(self.dataset)
        epoch, i = divmod(t, n // self.size)
        rows = _orders(seed, epoch, n)[i * self.size : (i + 1) * self.size].tolist()
        with seeded(derive_seed(seed, t, "examples")):
            return self.collate([self.dataset[row] for row in rows])
