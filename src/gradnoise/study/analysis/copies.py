"""Whether the pairs of all seeds are copies of one pair: eight copies would pass for eight pieces of evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradnoise.study.results import GRADIENT, LOSS, TrialResult


def copies(baseline: Sequence[TrialResult], treatment: Sequence[TrialResult]) -> bool:
    """Tell whether in every setting all pairs measured the same, to the last bit, in both arms and at all times.

    Runs of which training loss or gradient is not known, or whose training loss ends at 0, are no evidence of that.
    """
    runs = [{(t.setting, t.seed): t for t in trials if t.done} for trials in (baseline, treatment)]
    first: dict[str, tuple[str, int]] = {}
    found = False
    for place in sorted(runs[0].keys() & runs[1].keys()):
        one = first.setdefault(place[0], place)
        if one is place:
            continue
        if not all(_same(arm[one], arm[place]) for arm in runs):
            return False
        found = True
    return found


def _same(a: TrialResult, b: TrialResult) -> bool:
    if not {LOSS, GRADIENT} <= a.curves.keys() or a.curves.keys() != b.curves.keys():
        return False
    last = float(a.curves[LOSS].values[-1]) if len(a.curves[LOSS].values) else math.nan
    if not math.isfinite(last) or last == 0.0:
        return False
    pairs = ((a.curves[name].values, b.curves[name].values) for name in a.curves)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)
