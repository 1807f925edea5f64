"""Minibatches of a data set in memory: which examples an update sees, and how they are fetched."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradnoise.noise.gaussian import split
from gradnoise.population.course import Batch
from gradnoise.population.kernels import kernel, on_cpu_in
from gradnoise.population.randomness import permutation


@dataclass(frozen=True, eq=False)
class Minibatches:
    """Minibatches of a data set in memory, reshuffled every epoch.

    Args:
        tensors: tensors of n examples each, [n, ...].
        size: examples per minibatch, B. Each epoch has n // B minibatches; the rest, different in
            every epoch, waits for a later one.
        bytes_over: tensors of dtype uint8 become floats divided by this, such as 255 for pixels; None leaves them.

    Raises:
        ValueError: the tensors have different lengths, or a minibatch does not fit.

    Example:
        >>> images, labels = Minibatches((images, labels), size=100, bytes_over=255)(seed=0, t=0)
    """

    tensors: tuple[Tensor, ...]
    size: int
    bytes_over: float | None = None

    def __post_init__(self) -> None:
        """Check lengths and size."""
        lengths = [x.shape[0] for x in self.tensors]  # a third of the time of len(x)
        if len(set(lengths)) != 1:
            raise ValueError(f"tensors of one data set need equal lengths, got {lengths}")
        if not 1 <= self.size <= lengths[0]:
            raise ValueError(f"minibatch size {self.size} is not in 1..{lengths[0]}, the number of examples")

    def same(self, other: Minibatches) -> bool:
        """Say whether these are minibatches of the same tensors."""
        mine, theirs = (self.size, self.bytes_over, *map(id, self.tensors)), (other.size, other.bytes_over)
        return mine == (*theirs, *map(id, other.tensors))

    def __call__(self, seed: int, t: int) -> Examples:
        """Return the examples of update `t` in the order that `seed` decides."""
        n = self.tensors[0].shape[0]
        epoch, i = divmod(t, n // self.size)
        return Examples(self, _orders(seed, epoch, n)[i * self.size : (i + 1) * self.size].long())


class Orders:
    """Remembers the order of examples in the epoch that each seed is in, for as many seeds as fit.

    Args:
        most: numbers to keep in all, of four bytes each.
    """

    def __init__(self, most: int = 1 << 27) -> None:
        self._most, self._kept = most, 0
        self._orders: dict[tuple[int, int], tuple[int, Tensor]] = {}  # (seed, n) -> epoch, order; the oldest first

    def __call__(self, seed: int, epoch: int, n: int) -> Tensor:
        """Return `permutation(seed, epoch, n)` as int32 [n]."""
        known = self._orders.get((seed, n))
        if known is not None and known[0] == epoch:
            return known[1]
        self._drop((seed, n))
        while self._orders and self._kept + n > self._most:
            self._drop(next(iter(self._orders)))
        order = permutation(seed, epoch, n).int()
        self._orders[seed, n] = epoch, order
        self._kept += n
        return order

    def _drop(self, key: tuple[int, int]) -> None:
        if self._orders.pop(key, None) is not None:
            self._kept -= key[1]


_orders = Orders()


@dataclass(frozen=True, eq=False)
class Examples:
    """Some examples of a data set, not fetched yet; unpack them like the tuple of tensors that they stand for.

    A population fetches those of all its replicas straight to where they are needed.

    Args:
        source: the data set.
        rows: int64 [B], which examples.
    """

    source: Minibatches
    rows: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        """Fetch the tensors, [B, ...] each."""
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        return len(self.source.tensors)

    def __getitem__(self, i: int) -> Tensor:
        """Fetch one of the tensors, [B, ...]."""
        x = self.source.tensors[i]
        dtype = torch.get_default_dtype() if converted(x, self.source.bytes_over) else x.dtype
        out = torch.empty(len(self.rows), *x.shape[1:], dtype=dtype, device=x.device)
        fetch(x, self.rows.to(x.device), self.source.bytes_over, out)
        return out


def converted(x: Tensor, bytes_over: float | None) -> bool:
    """Say whether a tensor's bytes are to become floats."""
    return bytes_over is not None and x.dtype == torch.uint8


def fetch(x: Tensor, rows: Tensor, bytes_over: float | None, out: Tensor) -> None:
    """Write examples into `out`: out[b] = x[rows[b]], bytes as floats divided by `bytes_over`.

    Args:
        x: [n, ...].
        rows: int64 [B], on the device of x.
        bytes_over: see `Minibatches`.
        out: [B, ...], contiguous.
    """
    if bytes_over is not None and converted(x, bytes_over):
        _as_floats(x, rows, bytes_over, out)
    elif out.dtype == x.dtype:
        torch.index_select(x, 0, rows, out=out)
    else:
        out.copy_(x.index_select(0, rows))


def _as_floats(x: Tensor, rows: Tensor, over: float, out: Tensor) -> None:
    fits = on_cpu_in(x, (torch.uint8,)) and on_cpu_in(out) and x.is_contiguous() and out.numel()
    compiled = kernel("fetch_kernel", "examples") if fits and _all_exist(rows, len(x)) else None
    if compiled is None:
        out.copy_(x.index_select(0, rows)).div_(over)
        return
    place = out.view(-1).numpy()
    work = functools.partial(compiled, x.view(len(x), -1).numpy(), rows.numpy(), place.dtype.type(over), place)
    split(work, place.size, torch.get_num_threads())


def _all_exist(rows: Tensor, n: int) -> bool:
    """Say whether rows are 0 to n - 1: what is compiled does not look, and torch says what is wrong with others."""
    low, high = rows.aminmax()
    return bool((low >= 0) & (high < n))


def fetched(batch: Batch) -> Batch:
    """Return a minibatch with its examples fetched, wherever they stand in it."""
    return pytree.tree_map(lambda x: tuple(x) if isinstance(x, Examples) else x, batch)
