"""Numbers of a study as text."""

from __future__ import annotations

import math

from gradnoise.study.analysis.statistics import Interval
from gradnoise.study.analysis.wording import LARGE
from gradnoise.study.spec import Metric

MISSING = "–"


def attached(value: float, unit: str) -> str:
    """Write a number and its unit, such as "80%" or "3 points"."""
    return f"{value:g}{unit}" if unit in ("", "%") else f"{value:g} {unit}"


def decimals(metric: Metric) -> int:
    """Return how many decimals show a tenth of the smallest difference that matters; three where none is declared."""
    if metric.margin is None:
        return 1 if metric.unit == "%" else 3
    return max(0, 1 - math.floor(math.log10(metric.margin))) if metric.margin > 0.0 else 3


def number(value: float, digits: int, signed: bool = False) -> str:
    """Write a number with a fixed count of decimals; a dash for nan, and powers of ten for a run that blew up.

    Example:
        >>> number(-0.04, 1, signed=True)
        '+0.0'
        >>> number(1.25e15, 1)
        '1.25e+15'
    """
    if not math.isfinite(value):
        return MISSING
    if abs(value) >= LARGE:
        return f"{value:{'+' if signed else ''}.3g}"
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # + 0.0 turns -0.0 into 0.0


def bounds(interval: Interval, digits: int, signed: bool = False) -> str:
    """Write an interval in brackets; "" if it is unbounded."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    return f"[{number(interval.low, digits, signed)}, {number(interval.high, digits, signed)}]"


def percent(interval: Interval) -> str:
    """Write an interval of rates in brackets, in percent."""
    return f"[{interval.low:.0%}, {interval.high:.0%}]"


def probability(p: float) -> str:
    """Write a probability in percent, never as certain: "> 99%", "< 1%"."""
    if p > 0.99:
        return "> 99%"
    return "< 1%" if p < 0.01 else f"{p:.0%}"


def p_value(p: float) -> str:
    """Write a p-value with two digits; "< 0.0001" below that."""
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"
