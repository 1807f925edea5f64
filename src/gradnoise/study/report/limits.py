"""What part of an axis is drawn: all values, but for an arm so far away that the others would shrink to a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: An arm stays out of the picture where it would make the axis longer by more than this factor.
FACTOR = 15.0
#: Room at either end, as a part of the axis.
ROOM = 0.04


@dataclass(frozen=True)
class Limits:
    """Limits of an axis, and the arms that lie beyond them altogether or in part."""

    low: float
    high: float
    beyond: tuple[str, ...] = ()

    def sentence(self, titles: Mapping[str, str]) -> str:
        """Say in a caption which arms the picture leaves out; empty for none."""
        names = " and ".join(titles[arm] for arm in self.beyond)
        return f" Beyond the picture, which would show nothing else: {names}." if names else ""


def limits(values: Mapping[str, Sequence[float]], always: Sequence[float] = ()) -> Limits:
    """Choose limits that show as many arms as can be told apart on one linear axis.

    Args:
        values: arm -> its values; those that are not finite do not count.
        always: values that have to be visible, such as 0.

    Example:
        >>> limits({"a": [0.0, 1.0], "b": [0.5, 2.0], "c": [300.0]}).beyond
        ('c',)
    """
    spans = {arm: (min(v), max(v)) for arm, x in values.items() if (v := [y for y in x if np.isfinite(y)])}
    beyond: list[str] = []
    while len(spans) > 1:
        whole = _length(spans.values(), always)
        rest = {arm: _length([s for a, s in spans.items() if a != arm], always) for arm in spans}
        rest = {arm: length for arm, length in rest.items() if length > 0.0}  # one value alone has no scale
        arm = min(rest, key=lambda a: rest[a], default=None)
        if arm is None or rest[arm] * FACTOR >= whole:
            break
        beyond.append(arm)
        del spans[arm]
    ends = [*always, *(end for span in spans.values() for end in span)] or [0.0, 1.0]
    room = ROOM * (max(ends) - min(ends)) or 1.0
    return Limits(min(ends) - room, max(ends) + room, tuple(a for a in values if a in beyond))


def _length(spans: Iterable[tuple[float, float]], always: Sequence[float]) -> float:
    ends = [*always, *(end for span in spans for end in span)]
    return max(ends) - min(ends)
