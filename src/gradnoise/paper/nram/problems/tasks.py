"""The machine's tasks: memory filled with a problem, and what must stand where in the end (NRAM paper, section 4).

Generators are vectorised over any leading shape [..., B]: a problem is made from an integer n (its length or
difficulty) and uniform random numbers, on any device. NULL is 0; cells that a problem does not use hold 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradnoise.errors import PopulationError

#: (name, count) -> uniform numbers in (0, 1), float64 [..., B, count], for problems of sizes [..., B]
Uniform = Callable[[str, int], Tensor]


@dataclass(frozen=True)
class Problems:
    """A minibatch of problems.

    Args:
        memory: what each cell holds at the start, int64 [..., B, M].
        target: what each cell must hold in the end, int64 [..., B, M].
        mask: which cells count, bool [..., B, M].
        kind: which of the task's kinds a problem is of, for errors by kind, int64 [..., B].
    """

    memory: Tensor
    target: Tensor
    mask: Tensor
    kind: Tensor


@dataclass(frozen=True)
class Task(ABC):
    """A family of problems on a machine with M cells.

    Args:
        cells: M.
        most: n_max, the largest n that is asked for.

    Raises:
        PopulationError: n_max < 1, or M is too small for it.
    """

    cells: int
    most: int

    name: ClassVar[str]
    #: The smallest n that makes sense; smaller ones are raised to it.
    fewest: ClassVar[int] = 1

    @property
    def kinds(self) -> int:
        """Number of kinds of problems."""
        return 1

    def __post_init__(self) -> None:
        """Check that the largest problem fits."""
        if self.most < self.fewest:
            raise PopulationError(f"n_max = {self.most}: {self.name} needs n of at least {self.fewest}")
        least = max(3, self.least(self.most))
        if self.cells < least:
            raise PopulationError(
                f"M = {self.cells}: {self.name} with n_max = {self.most} needs at least {least} cells"
            )

    @abstractmethod
    def least(self, n: int) -> int:
        """Return the smallest M for problems of size n."""

    @abstractmethod
    def outputs(self) -> slice:
        """Return the cells that may count; all others never do."""

    @abstractmethod
    def make(self, n: Tensor, uniform: Uniform) -> Problems:
        """Make problems of sizes n, int64 [..., B]."""

    def _values(self, n: Tensor, uniform: Uniform, high: int | None = None) -> Tensor:
        """Return arrays [..., B, n_max] of n values in 1..high (M - 1), then zeros."""
        values = 1 + (uniform("values", self.most) * (high or self.cells - 1)).long()
        return values * (_places(n, self.most) < n[..., None])

    def _memory(self, *parts: Tensor) -> Tensor:
        """Return parts [..., B, any] side by side, then zeros up to M cells."""
        joined = torch.cat(parts, -1)
        return torch.nn.functional.pad(joined, (0, self.cells - joined.shape[-1]))

    def _cells(self, like: Tensor) -> Tensor:
        return _places(like, self.cells)


def _places(like: Tensor, count: int) -> Tensor:
    return torch.arange(count, device=like.device)


def _at(x: Tensor, index: Tensor) -> Tensor:
    """Return x [..., k] at places [..., any]; places outside are moved inside, for cells that do not count."""
    index = index.clamp(0, x.shape[-1] - 1)
    return x.gather(-1, index.expand(*x.shape[:-1], index.shape[-1]))


def _between(cells: Tensor, low: Tensor | int, high: Tensor) -> Tensor:
    return (cells >= low) & (cells <= high)


class Access(Task):
    """k, A: cell 0 holds an address k in 1..n of the array behind it; put what lies there into cell 0."""

    name = "access"

    def least(self, n: int) -> int:
        """Count the cells of k, array, NULL."""
        return n + 2

    def outputs(self) -> slice:
        """Return cell 0."""
        return slice(0, 1)

    def make(self, n: Tensor, uniform: Uniform) -> Problems:
        """Make problems, see `Task.make`."""
        k = 1 + (uniform("address", 1) * n[..., None]).long()
        memory = self._memory(k, self._values(n, uniform))
        target = torch.where(self._cells(n) == 0, _at(memory, k), memory)
        return Problems(memory, target, (self._cells(n) == 0).expand(memory.shape), torch.zeros_like(n))


class Increment(Task):
    """A: add 1 to each of the n values, in place; values are below M - 1."""

    name = "increment"

    def least(self, n: int) -> int:
        """Count the cells of array, NULL."""
        return n + 2

    def outputs(self) -> slice:
        """Return the array."""
        return slice(0, self.most)

    def make(self, n: Tensor, uniform: Uniform) -> Problems:
        """Make problems, see `Task.make`."""
        memory = self._memory(self._values(n, uniform, self.cells - 2))
        mask = self._cells(n) < n[..., None]
        return Problems(memory, memory + mask, mask, torch.zeros_like(n))


class Copy(Task):
    """p, A: copy the n values to the cells from p = n + 1 on, the first one behind them."""

    name = "copy"

    def least(self, n: int) -> int:
        """Count the cells of p, array, copy."""
        return 2 * n + 1

    def outputs(self) -> slice:
        """Return where copies of all lengths lie."""
        return slice(2, 2 * self.most + 1)

    def make(self, n: Tensor, uniform: Uniform) -> Problems:
        """Make problems, see `Task.make`."""
        n = n[..., None]
        values = self._values(n[..., 0], uniform)
        memory = self._memory(n + 1, values)
        mask = _between(self._cells(n), n + 1, 2 * n)
        return Problems(
            memory, torch.where(mask, _at(values, self._source(n)), memory), mask, torch.zeros_like(n[..., 0])
        )

    def _source(self, n: Tensor) -> Tensor:
        """Return which value each cell gets."""
        return self._cells(n) - n - 1


class Reverse(Copy):
    """p, A: as Copy, last value first."""

    name = "reverse"

    def _source(self, n: Tensor) -> Tensor:
        return 2 * n - self._cells(n)


class Swap(Task):
    """p, q, A: exchange the values at the addresses p != q, which lie in 2..n + 1."""

    name = "swap"
    fewest = 2

    def least(self, n: int) -> int:
        """Count the cells of p, q, array, NULL."""
        return n + 3

    def outputs(self) -> slice:
        """Return the array."""
        return slice(2, self.most + 2)

    def make(self, n: Tensor, uniform: Uniform) -> Problems:
        """Make problems, see `Task.make`."""
        n = n[..., None].clamp(min=self.fewest)
        p = (uniform("first", 1) * n).long()
        q = (p + 1 + (uniform("second", 1) * (n - 1)).long()) % n  # any of the other n - 1
        p, q = p + 2, q + 2
        memory = self._memory(p, q, self._values(n[..., 0], uniform))
        cells = self._cells(n)
        source = torch.where(cells == p, q, torch.where(cells == q, p, cells))
        return Problems(memory, _at(memory, source), _between(cells, 2, n + 1), torch.zeros_like(n[..., 0]))


class Permutation(Task):
    """a, P, A: put A[P[i]] into cell 1 + i, in the place of P; a = n + 1 is the address of A."""

    name = "permutation"

    def least(self, n: int) -> int:
        """Count the cells of a, permutation, array."""
        return 2 * n + 1

    def outputs(self) -> slice:
        """Return the permutation's cells."""
        return slice(1, self.most + 1)

    def make(self, n: Tensor, uniform: Uniform) -> Problems:
        """Make problems, see `Task.make`."""
        n = n[..., None]
        places, cells = _places(n, self.most), self._cells(n)
        order = uniform("order", self.most).masked_fill(places >= n, 2.0).argsort(-1)
        values = self._values(n[..., 0], uniform)
        permutation, array = _between(cells, 1, n), _between(cells, n + 1, 2 * n)
        start = torch.where(permutation, _at(order, cells - 1), torch.where(array, _at(values, cells - n - 1), 0))
        memory = torch.where(cells == 0, n + 1, start)
        target = torch.where(permutation, _at(values, _at(order, cells - 1)), memory)
        return Problems(memory, target, permutation, torch.zeros_like(n[..., 0]))


class ListK(Task):
    """head, k, out, nodes: put the value of the node that is k hops behind the head into cell 2.

    A node is two cells: the address of the next node (0 after the last) and a value. The n nodes lie in random
    order at odd addresses from 3 on. k is uniform on 0..n - 1; cell 2 holds its own address at first.
    """

    name = "listk"

    @property
    def kinds(self) -> int:
        """Numbers of hops."""
        return self.most

    def least(self, n: int) -> int:
        """Count the cells of head, k, out, nodes."""
        return 3 + 2 * n

    def outputs(self) -> slice:
        """Return cell 2."""
        return slice(2, 3)

    def make(self, n: Tensor, uniform: Uniform) -> Problems:
        """Make problems, see `Task.make`."""
        n = n[..., None]
        slots = (self.cells - 3) // 2
        address = 3 + 2 * uniform("slots", slots).argsort(-1)
        used = _places(n, slots) < n
        following = torch.where(_places(n, slots) < n - 1, address.roll(-1, -1), 0)
        values = torch.where(used, 1 + (uniform("values", slots) * (self.cells - 1)).long(), 0)
        k = (uniform("hops", 1) * n).long()
        memory = self._memory(address[..., :1], k, torch.full_like(k, 2))
        memory = memory.scatter(-1, address, following).scatter(-1, address + 1, values)
        out = (self._cells(n) == 2).expand(memory.shape)
        return Problems(memory, torch.where(out, _at(values, k), memory), out, k[..., 0])


TASKS: dict[str, type[Task]] = {t.name: t for t in (Access, Increment, Copy, Reverse, Swap, Permutation, ListK)}
