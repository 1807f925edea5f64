"""What a source of metrics has in the place of a number: a number, a word for none, or something that is neither."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

#: What stands where a number was not to be had; a run that ends with one of them has no finite value.
NO_NUMBER = (
    r"(?i:[-+]?(?:nan|inf(?:inity)?)\b|(?<![\w/])(?:none|null|nil|n/?a|undefined)(?![\w/])|(?<!-)--+(?![-\w.>]))"
)

Raw = Mapping[str, Sequence[tuple[int, object]]]
"""Name -> (step, what stands there), in the order in which they came."""
Points = Mapping[str, list[tuple[int, float]]]
"""Metric -> (step, value), in the order in which they came."""


class UnreadError(Exception):
    """The metric is there and cannot be read; the sentence says why. Nothing earlier may count in its stead."""


def value_of(there: object) -> float | None:
    """Return a value as a number: nan for a word that says that there is none; None for anything else.

    Example:
        >>> value_of("0.5"), value_of("N/A"), value_of(None), value_of("diverged")
        (0.5, nan, nan, None)
    """
    if there is None:
        return math.nan
    if not isinstance(there, int | float | str):
        return None
    try:
        return float(there)
    except (OverflowError, ValueError):
        return math.nan if re.fullmatch(NO_NUMBER, str(there).strip()) else None


def points_of(raw: Raw, metric: str) -> Points:
    """Return the metrics that a source has: the one that decides, and all that are numbers somewhere.

    Args:
        raw: all that it has.
        metric: that decides; its last mention counts, whatever that is.

    Raises:
        UnreadError: the last mention of the metric is neither a number nor a word for none.
    """
    last = raw[metric][-1][1] if raw.get(metric) else 0.0
    if value_of(last) is None:
        raise UnreadError(f"{metric} is {last!r:.100}, which is no number")
    kept = {n: there for n, there in raw.items() if n == metric or any(isinstance(x, int | float) for _, x in there)}
    return {n: [(step, _or_nan(value_of(x))) for step, x in there] for n, there in kept.items()}


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
