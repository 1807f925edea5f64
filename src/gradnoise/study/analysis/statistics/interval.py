"""A confidence interval as a value."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval, ends included; `x in interval` asks whether it holds x."""

    low: float
    high: float
    level: float
    """Confidence level, in (0, 1)."""

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def scaled(interval: Interval, factor: float) -> Interval:
    """Return the interval in another unit.

    Args:
        interval: what to convert.
        factor: units of the result per unit of the interval, > 0.
    """
    return Interval(factor * interval.low, factor * interval.high, interval.level)


def negated(interval: Interval) -> Interval:
    """Return the interval of the negated quantity."""
    return Interval(-interval.high, -interval.low, interval.level)


def unbounded(level: float) -> Interval:
    """Return (-inf, inf): the interval of a quantity whose spread is unknown."""
    return Interval(-math.inf, math.inf, level)
