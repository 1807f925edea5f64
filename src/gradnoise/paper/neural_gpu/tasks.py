"""What a Neural GPU learns: tasks on strings of bits, made exactly, and numbers as such strings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from gradnoise.errors import nearest
from gradnoise.population import PopulationError

#: Symbols; the digit v is the symbol v + 1.
PAD, ZERO, ONE, OPERATOR = range(4)
SYMBOLS = 4


class Problems(NamedTuple):
    """Minibatches of P replicas, padded to N positions.

    Args:
        tokens: symbols in, int64 [P, B, N].
        targets: symbols out, int64 [P, B, N].
        length: positions that count, n <= N, int64 [P].
    """

    tokens: Tensor
    targets: Tensor
    length: Tensor


class Task(ABC):
    """A function of strings of bits; a network has as many steps and positions as the problem has symbols, n."""

    name: ClassVar[str]
    title: ClassVar[str]
    #: The smallest n.
    least: ClassVar[int] = 1

    def fit(self, length: Tensor) -> Tensor:
        """Return the largest n <= length that a problem of this task can have, int64 [P]."""
        return length

    @abstractmethod
    def make(self, length: Tensor, bits: Tensor) -> Problems:
        """Make problems of n = fit(length).

        Args:
            length: at least `least` and at most N, int64 [P].
            bits: fair random bits, int64 [P, B, N].
        """


class _Digits(Task):
    """A task with one operand that fills all positions."""

    def make(self, length: Tensor, bits: Tensor) -> Problems:
        """Make problems, see `Task.make`."""
        n = self.fit(length)
        k, size = _positions(bits), n[:, None, None]
        there = k < size
        return Problems(_symbols(bits, there), _symbols(self._answer(bits, k, size), there), n)

    @abstractmethod
    def _answer(self, x: Tensor, k: Tensor, n: Tensor) -> Tensor:
        """Return digits [P, B, N] given the operand's; what stands from n on is not used."""


class Copy(_Digits):
    """The operand itself."""

    name, title = "id", "copy"

    def _answer(self, x: Tensor, k: Tensor, n: Tensor) -> Tensor:
        return x


class Reverse(_Digits):
    """The operand from its end."""

    name, title = "rev", "reverse"

    def _answer(self, x: Tensor, k: Tensor, n: Tensor) -> Tensor:
        return x.gather(-1, (n - 1 - k).clamp(min=0).expand_as(x))


class Sort(_Digits):
    """The operand's zeros, then its ones."""

    name, title = "sort", "sort bits"

    def _answer(self, x: Tensor, k: Tensor, n: Tensor) -> Tensor:
        zeros = ((x == 0) & (k < n)).sum(-1, keepdim=True)
        return (k >= zeros).long()


class Duplicate(Task):
    """The operand twice; it fills the first half of the positions."""

    name, title, least = "dup", "duplicate", 2

    def fit(self, length: Tensor) -> Tensor:
        """Return the even numbers."""
        return length // 2 * 2

    def make(self, length: Tensor, bits: Tensor) -> Problems:
        """Make problems, see `Task.make`."""
        n = self.fit(length)
        k, half = _positions(bits), n[:, None, None] // 2
        twice = bits.gather(-1, torch.where(k < half, k, k - half).expand_as(bits))
        return Problems(_symbols(bits, k < half), _symbols(twice, k < 2 * half), n)


class _Arithmetic(Task):
    """Two numbers of d bits each, lowest bit first, with the operator between them: n = 2 d + 1.

    The answer stands at the first positions, lowest bit first, without high zeros; that of zero is one zero.
    """

    least = 3

    def fit(self, length: Tensor) -> Tensor:
        """Return the odd numbers."""
        return (length - 1) // 2 * 2 + 1

    def make(self, length: Tensor, bits: Tensor) -> Problems:
        """Make problems, see `Task.make`."""
        n = self.fit(length)
        most = (bits.shape[-1] - 1) // 2
        k, size, d = _positions(bits), n[:, None, None], n[:, None, None] // 2
        inside = (k[..., :most] < d).long()
        x, y = bits[..., :most] * inside, bits[..., most : 2 * most] * inside
        second = y.gather(-1, (k - d - 1).clamp(0, most - 1).expand_as(bits))
        first = torch.nn.functional.pad(x, (0, bits.shape[-1] - most))
        tokens = torch.where(k < d, first + ZERO, torch.where(k == d, OPERATOR, second + ZERO))
        answer = carried(self._sums(x, y, bits.shape[-1]))
        last = (answer * k).amax(-1, keepdim=True)
        return Problems(torch.where(k < size, tokens, PAD), _symbols(answer, k <= last), n)

    @abstractmethod
    def _sums(self, x: Tensor, y: Tensor, size: int) -> Tensor:
        """Return the digits of the answer before carrying [P, B, size]."""


class Add(_Arithmetic):
    """The sum."""

    name, title = "badd", "binary addition"

    def _sums(self, x: Tensor, y: Tensor, size: int) -> Tensor:
        return torch.nn.functional.pad(x + y, (0, size - x.shape[-1]))


class Multiply(_Arithmetic):
    """The product."""

    name, title = "bmul", "binary multiplication"

    def _sums(self, x: Tensor, y: Tensor, size: int) -> Tensor:
        d = x.shape[-1]
        sums = x.new_zeros(*x.shape[:-1], size)
        for i in range(d):
            sums[..., i : i + d] += x[..., i : i + 1] * y
        return sums


TASKS: dict[str, Task] = {task.name: task for task in (Multiply(), Add(), Copy(), Reverse(), Duplicate(), Sort())}


def task_of(name: str) -> Task:
    """Return the task of a name.

    Raises:
        PopulationError: there is none.
    """
    if name not in TASKS:
        raise PopulationError(f"no task {name!r}: there are {', '.join(TASKS)}{nearest(name, TASKS)}")
    return TASKS[name]


def carried(sums: Tensor) -> Tensor:
    """Carry: turn sums of digits [..., N], lowest first, into the bits of the same number; what leaves N is lost."""
    bits, carry = torch.empty_like(sums), torch.zeros_like(sums[..., 0])
    for k in range(sums.shape[-1]):
        total = sums[..., k] + carry
        bits[..., k], carry = total & 1, total >> 1
    return bits


def _positions(bits: Tensor) -> Tensor:
    return torch.arange(bits.shape[-1], device=bits.device)


def _symbols(digits: Tensor, there: Tensor) -> Tensor:
    return torch.where(there, digits + ZERO, PAD)


# --- numbers ------------------------------------------------------------------------------------------


def encode(a: int, b: int, digits: int) -> list[int]:
    """Return the symbols of a problem: two numbers of so many bits, lowest bit first, the operator between them.

    Raises:
        ValueError: a number is negative or has more bits.
    """
    if digits < 1:
        raise ValueError(f"{digits} digits: a number has 1 or more")
    for number in (a, b):
        if not 0 <= number < 2**digits:
            raise ValueError(f"{number} is no number of {digits} bits: allowed are 0 to 2^{digits} - 1")
    x, y = ([number >> k & 1 for k in range(digits)] for number in (a, b))
    return [ZERO + v for v in x] + [OPERATOR] + [ZERO + v for v in y]


def decode(symbols: Sequence[int]) -> int | None:
    """Return the number that symbols stand for, lowest bit first; None where they are none.

    A number is one digit or more, then nothing but `PAD`.
    """
    digits = list(symbols)
    while digits and digits[-1] == PAD:
        digits.pop()
    if not digits or any(s not in (ZERO, ONE) for s in digits):
        return None
    return sum((s - ZERO) << k for k, s in enumerate(digits))
