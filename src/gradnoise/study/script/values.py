"""What a source of metrics has in the place of a number: a number, a word for none, or something that is neither."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

#: What stands where a number was not to be had; a run that ends with one of them has no finite value.
NO_NUMBER = (
    r"(?i:[-+]?(?:nan|inf(?:inity)?)\b|(?<![\w/])(?:none|null|nil|n/?a|undefined)(?![\w/])|(?<!-)--+(?![-\w.>]))"
)

Told = Sequence[tuple[int | None, Mapping[str, object]]]
"""(step, name -> what stands there), in the order in which it was told; None where it has no step."""
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


def points_of(told: Told, metric: str) -> tuple[Points, bool]:
    """Return the metrics that a source has: the one that decides, and all that are numbers somewhere.

    Args:
        told: all that it has.
        metric: that decides; its last mention counts, whatever that is.

    Returns:
        The metrics, each with steps that rise; and whether those are counted, see `laid_out`.

    Raises:
        UnreadError: the last mention of the metric is neither a number nor a word for none.
    """
    last = next((there[metric] for _, there in reversed(told) if metric in there), 0.0)
    if value_of(last) is None:
        raise UnreadError(f"{metric} is {last!r:.100}, which is no number")
    names = {name for _, there in told for name, x in there.items() if name == metric or isinstance(x, int | float)}
    return laid_out([(step, {n: _or_nan(value_of(x)) for n, x in there.items() if n in names}) for step, there in told])


def laid_out(told: Sequence[tuple[int | None, Mapping[str, float]]]) -> tuple[Points, bool]:
    """Give every value a step of its own, so that none takes the place of another.

    Without any step each metric counts its values. A value without one among others that have one goes to the last step
    known, or behind it where the metric has a value there. Where a step comes twice, or after a later one, as when each
    epoch counts from zero, all steps are counted: what was told at one step of one epoch stays together.

    Returns:
        The metrics; and whether their steps are counted although they had some.

    Example:
        >>> laid_out([(0, {"a": 0.5}), (1, {"a": 0.25}), (0, {"a": 0.75}), (1, {"a": 0.75})])
        ({'a': [(0, 0.5), (1, 0.25), (2, 0.75), (3, 0.75)]}, True)
    """
    points: dict[str, list[tuple[int, float]]] = {}
    if all(step is None for step, _ in told):
        for name, value in ((name, value) for _, values in told for name, value in values.items()):
            points.setdefault(name, []).append((len(points.get(name, ())), value))
        return points, False
    rows: list[tuple[tuple[int, int], str, float]] = []
    seen: dict[str, tuple[int, float]] = {}  # name -> its last value since steps began anew
    part = last = 0
    for step, values in told:
        last = last if step is None else step
        new = {name: value for name, value in values.items() if seen.get(name) != (last, value)}
        if any(name in seen and seen[name][0] >= last for name in new):
            if step is None:
                last += 1
            else:
                part, seen = part + 1, {}
        rows += [((part, last), name, value) for name, value in new.items()]
        seen |= {name: (last, value) for name, value in new.items()}
    count = {key: i for i, key in enumerate(dict.fromkeys(key for key, _, _ in rows))}
    for key, name, value in rows:
        points.setdefault(name, []).append((count[key] if part else key[1], value))
    return points, part > 0


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
