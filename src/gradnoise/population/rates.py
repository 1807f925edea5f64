"""Learning-rate schedules: the learning rate of one replica as a function of the update t.

Give one as `lr`. Every schedule may begin with a warm-up of w updates, in which the rate grows in equal steps,
lr (t + 1) / (w + 1), so that update w is the first with the whole of lr; from there on the schedule counts
s = t - w. Each is the torch.optim.lr_scheduler of the same idea, stepped once per update, and is tested against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np


def _check_positive(name: str, value: float) -> None:
    """Refuse a setting that is not a finite number > 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} = {value} is not a finite number > 0")


def _check_count(name: str, value: int, least: int = 0) -> None:
    """Refuse a number of updates that is not a whole number or is too small."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} = {value!r} is not a whole number of updates >= {least}")


def _check_course(lr: float, steps: int, warmup: int, floor: float) -> None:
    """Check the settings of a schedule that falls from lr to floor between updates `warmup` and `steps`."""
    _check_positive("lr", lr)
    _check_count("warmup", warmup)
    _check_count("steps", steps, least=1)
    if warmup >= steps:
        raise ValueError(f"warmup = {warmup} leaves nothing of steps = {steps}; it must be smaller")
    if not 0 <= floor <= lr:
        raise ValueError(f"floor = {floor} is outside [0, lr = {lr}]")


def _warmed(t: Any, warmup: int, after: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Return the rates at t, a number or an array of them, given those after the warm-up as a function of s >= 0."""
    now = np.asarray(t, dtype=np.float64)
    flat = now.reshape(-1)  # a number goes the way of an array, so that both have the same bits
    rates = after(np.maximum(flat - warmup, 0.0)) * np.minimum((flat + 1) / (warmup + 1), 1.0)
    return rates.reshape(now.shape)[()]


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from lr down to a floor: floor + (lr - floor) (1 + cos(pi s / S)) / 2, where S = steps - warmup.

    From update `steps` on the rate is the floor. No rate before it is 0, and a population refuses 0: give at least
    as many steps as the run has updates, or a floor.

    Args:
        lr: the largest rate, > 0.
        steps: number of updates, the warm-up among them.
        warmup: number of updates before the rate is lr, fewer than `steps`.
        floor: the last rate, in [0, lr].

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> rate = Cosine(0.1, steps=100, warmup=4)
        >>> [round(float(rate(t)), 3) for t in (0, 3, 4, 52, 99)]
        [0.02, 0.08, 0.1, 0.05, 0.0]

    Source: Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", eq. 5, without restarts.
    """

    tag: ClassVar[str] = "gradnoise.population.rates:Cosine"  # in the ids of trials: never to be changed
    lr: float
    steps: int
    warmup: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges of the settings."""
        _check_course(self.lr, self.steps, self.warmup, self.floor)

    def __call__(self, t: Any) -> Any:
        """Return the rate in float64, for an int or an array of t >= 0."""

        def after(s: np.ndarray) -> np.ndarray:
            part = np.minimum(s / (self.steps - self.warmup), 1.0)
            return self.floor + (self.lr - self.floor) * (1 + np.cos(math.pi * part)) / 2

        return _warmed(t, self.warmup, after)


@dataclass(frozen=True)
class LinearDecay:
    """A straight line from lr down to a floor: lr + (floor - lr) s / S, where S = steps - warmup.

    From update `steps` on the rate is the floor. No rate before it is 0, and a population refuses 0: give at least
    as many steps as the run has updates, or a floor.

    Args:
        lr: the largest rate, > 0.
        steps: number of updates, the warm-up among them.
        warmup: number of updates before the rate is lr, fewer than `steps`.
        floor: the last rate, in [0, lr].

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> [float(LinearDecay(1.0, steps=4)(t)) for t in range(5)]
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    tag: ClassVar[str] = "gradnoise.population.rates:LinearDecay"
    lr: float
    steps: int
    warmup: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges of the settings."""
        _check_course(self.lr, self.steps, self.warmup, self.floor)

    def __call__(self, t: Any) -> Any:
        """Return the rate in float64, for an int or an array of t >= 0."""

        def after(s: np.ndarray) -> np.ndarray:
            part = np.minimum(s / (self.steps - self.warmup), 1.0)
            return self.lr + (self.floor - self.lr) * part

        return _warmed(t, self.warmup, after)


@dataclass(frozen=True)
class Steps:
    """A rate that is multiplied by a factor at given updates: lr factor^k after k of them.

    Without any it is a constant rate with a warm-up: `Steps(0.1, at=(), warmup=100)`.

    Args:
        lr: the first rate, > 0.
        at: updates t, ascending, that are the first with the next rate; counted from the start of the run.
        factor: what the rate is multiplied by, > 0.
        warmup: number of updates before the rate is lr, fewer than the first of `at`.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> rate = Steps(1.0, at=(30, 60), factor=0.5)
        >>> [float(rate(t)) for t in (0, 29, 30, 60)]
        [1.0, 1.0, 0.5, 0.25]
    """

    tag: ClassVar[str] = "gradnoise.population.rates:Steps"
    lr: float
    at: tuple[int, ...]
    factor: float = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        """Check the ranges of the settings; a list of updates, as JSON gives back, becomes a tuple."""
        if not isinstance(self.at, tuple | list):
            raise ValueError(f"at = {self.at!r} is not a tuple of updates such as (1000, 2000)")
        object.__setattr__(self, "at", tuple(self.at))
        _check_positive("lr", self.lr)
        _check_positive("factor", self.factor)
        _check_count("warmup", self.warmup)
        for t in self.at:
            _check_count("at", t, least=1)
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at = {self.at} is not ascending")
        if self.at and self.warmup >= self.at[0]:
            raise ValueError(f"warmup = {self.warmup} does not end before the first of at = {self.at}")

    def __call__(self, t: Any) -> Any:
        """Return the rate in float64, for an int or an array of t >= 0."""
        rates = np.array([self.lr * self.factor**k for k in range(len(self.at) + 1)])
        later = np.array(self.at, dtype=np.float64) - self.warmup
        return _warmed(t, self.warmup, lambda s: rates[np.searchsorted(later, s, side="right")])


@dataclass(frozen=True)
class Exponential:
    """A rate that is multiplied by a factor at every update: lr factor^s.

    Args:
        lr: the first rate after the warm-up, > 0.
        factor: what the rate is multiplied by, in (0, 1].
        warmup: number of updates before the rate is lr.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> [float(Exponential(1.0, factor=0.5)(t)) for t in range(3)]
        [1.0, 0.5, 0.25]
    """

    tag: ClassVar[str] = "gradnoise.population.rates:Exponential"
    lr: float
    factor: float
    warmup: int = 0

    def __post_init__(self) -> None:
        """Check the ranges of the settings."""
        _check_positive("lr", self.lr)
        _check_positive("factor", self.factor)
        if self.factor > 1:
            raise ValueError(f"factor = {self.factor} is outside (0, 1]")
        _check_count("warmup", self.warmup)

    def __call__(self, t: Any) -> Any:
        """Return the rate in float64, for an int or an array of t >= 0."""
        return _warmed(t, self.warmup, lambda s: self.lr * np.power(float(self.factor), s))


@dataclass(frozen=True)
class InverseSqrt:
    """A rate that falls as one over the root of t: lr sqrt((w + 1) / (t + 1)) after a warm-up of w updates.

    With n = t + 1 and W = w + 1 the whole is lr min(n / W, sqrt(W / n)), the Transformer's schedule with peak lr.

    Args:
        lr: the largest rate, > 0.
        warmup: number of updates before the rate is lr.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> [float(InverseSqrt(1.0)(t)) for t in (0, 3, 99)]
        [1.0, 0.5, 0.1]

    Source: Vaswani et al. 2017, "Attention Is All You Need", eq. 3.
    """

    tag: ClassVar[str] = "gradnoise.population.rates:InverseSqrt"
    lr: float
    warmup: int = 0

    def __post_init__(self) -> None:
        """Check the ranges of the settings."""
        _check_positive("lr", self.lr)
        _check_count("warmup", self.warmup)

    def __call__(self, t: Any) -> Any:
        """Return the rate in float64, for an int or an array of t >= 0."""
        whole = self.warmup + 1
        return _warmed(t, self.warmup, lambda s: self.lr * np.sqrt(whole / (s + whole)))
