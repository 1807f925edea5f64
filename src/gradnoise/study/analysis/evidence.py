"""What the comparisons of one declared family prove together: p-values for a difference and for none, adjusted.

Two hypotheses are tested of every comparison. That the treatment changes nothing: its rejection proves that it helps
or hurts. That it changes the metric by at least the margin: its rejection proves that no difference matters. Both
kinds are adjusted over the same family, in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradnoise.study.analysis.comparison import Comparison
from gradnoise.study.analysis.looks import Monitoring
from gradnoise.study.analysis.statistics import (
    anytime_sign_flip,
    gated_holm,
    holm,
    joint_sign_flips,
    rates_within,
    sequential_sign_flips,
    share_excluded,
    sign_flip,
)

JOINT, HOLM, GATE = "max-T", "Holm", "pooled gate and Holm"
SPENDING, ANYTIME = "max-T and alpha spending", "e-process and Holm"


@dataclass(frozen=True)
class Tested:
    """A comparison and what else decides about it."""

    comparison: Comparison
    differences: Mapping[int, float]
    """Trial seed -> difference."""
    margin: float | None
    """Largest difference that does not matter; None where nothing was declared."""
    reach: float | None = None
    """How far apart a run that succeeds and one that fails may lie; None without a success rule."""
    refused: str = ""
    """Why there can be no verdict, in a sentence; "" where there can."""
    chance: bool = False
    """Whether the differences are those to chance, so that only their absence is tested."""

    @property
    def counts(self) -> bool:
        """Whether there is anything to test."""
        return self.comparison.n > 0 and not self.refused


@dataclass(frozen=True)
class Evidence:
    """What a comparison proves within its family."""

    p: float
    """Adjusted p that the treatment changes nothing."""
    p_within: float
    """Adjusted p that the difference is at least the margin; 1 without a margin."""
    p_unseen: float
    """That part of it which successes and failures that no pair has shown yet make up; 0 where they need none."""
    family: int = 1
    """Comparisons adjusted together."""
    method: str = ""
    """How; "" for a family of one."""


@dataclass(frozen=True)
class Chance:
    """The runs of one arm against chance."""

    tested: Tested
    evidence: Evidence

    def apart(self, alpha: float) -> bool:
        """Tell whether the mean is proved to lie outside of what counts as chance."""
        c, band = self.tested.comparison, self.tested.margin or 0.0
        outside = abs(c.difference) - band
        if outside <= 0.0:
            return False
        side = np.sign(c.difference) * np.array(c.differences) - band
        return min(1.0, sign_flip(side, seed=c.seed) * self.evidence.family) <= alpha


def evidence(
    family: Sequence[Tested], *, declared: int = 0, same_direction: bool = False, looked: Monitoring | None = None
) -> list[Evidence]:
    """Test the comparisons of a family and adjust their p-values together.

    Mean differences over seeds are adjusted jointly (`joint_sign_flips`). Rates are adjusted by Holm's method, and so
    are all where one of them is a rate. Comparisons that were declared and have no pair yet count as part of the
    family, so that a part of a study is not judged more leniently than all of it.

    Args:
        family: the comparisons.
        declared: how many the family has by declaration, if more than are given.
        same_direction: whether the family was declared to expect the same direction everywhere. Then the pooled
            difference is a gate for rates: it tests all of them at once, and what passes is adjusted for one fewer.
        looked: how the study was looked at, where it was more than once; then all comparisons, rates too, are tested by
            sign flips that keep the level over all looks.
    """
    differ, count = [t for t in family if not t.chance], max(declared, len(family))
    rates = looked is None and any(t.comparison.rate for t in differ)
    p = _differences(differ, rates, max(count - len(family) + len(differ), 1), same_direction, looked)
    adjusted, unseen = _within(family, count, looked)
    method = "" if count < 2 else (GATE if same_direction and rates else HOLM) if rates else JOINT
    if looked is not None:
        method = ANYTIME if looked.anytime else SPENDING
    given = iter(p)
    return [
        Evidence(1.0 if t.chance else next(given), within, hidden, count, method)
        for t, within, hidden in zip(family, adjusted, unseen, strict=True)
    ]


def _differences(
    family: Sequence[Tested], rates: bool, count: int, same_direction: bool, looked: Monitoring | None
) -> list[float]:
    raw = [t.comparison.p if t.counts else 1.0 for t in family]
    if count == 1 and looked is None:
        return raw
    if rates:
        padded = [*raw, *[1.0] * (count - len(raw))]
        adjusted = gated_holm(padded, _pooled(family)) if same_direction and count > 1 else holm(padded)
    else:
        adjusted = _joint([t.differences if t.counts else {} for t in family], count, _seed(family), looked)
    return [float(max(a, b)) for a, b in zip(adjusted, raw, strict=False)]


def _pooled(family: Sequence[Tested]) -> float:
    """Test by sign flips over seeds whether the differences of all comparisons together have mean 0."""
    sums: dict[int, float] = {}
    for tested in family:
        for seed, d in tested.differences.items() if tested.counts else ():
            sums[seed] = sums.get(seed, 0.0) + d / (tested.comparison.rate_of or 1.0)
    return sign_flip([sums[s] for s in sorted(sums)], seed=_seed(family))


def _within(family: Sequence[Tested], count: int, looked: Monitoring | None) -> tuple[list[float], list[float]]:
    """Return adjusted p-values that differences are at least the margin, and their part from what is unseen."""
    margins = [t.margin if t.counts else None for t in family]
    unseen = [_unseen(t) if m is not None else 1.0 for t, m in zip(family, margins, strict=True)]
    if looked is not None:  # the k-th look may use 1 / (k (k + 1)) of the level, which adds up to all of it
        unseen = [min(1.0, p * len(looked.looks) * (len(looked.looks) + 1)) for p in unseen]
    hidden = holm([*unseen, *[1.0] * (count - len(family))])[: len(family)]
    ends = []
    for sign in (-1.0, 1.0):
        tables = [
            {s: m + sign * d for s, d in t.differences.items()} if m is not None and not t.comparison.rate else {}
            for t, m in zip(family, margins, strict=True)
        ]
        ends.append(_joint(tables, count, _seed(family), looked, one_sided=True))
    within = np.minimum(1.0, np.maximum(2.0 * np.maximum(*ends), hidden))
    exact = [m is not None and t.comparison.rate for t, m in zip(family, margins, strict=True)]
    return np.where(exact, hidden, np.where([m is None for m in margins], 1.0, within)).tolist(), hidden.tolist()


def _unseen(tested: Tested) -> float:
    c, margin = tested.comparison, tested.margin or 0.0
    if c.rate_of is not None:
        return rates_within(*c.changed, c.n, margin / c.rate_of)
    if tested.reach is None or tested.reach <= 0.0:
        return 0.0
    gained, lost = (c.success.gained, c.success.lost) if c.success else (0, 0)
    n = c.success.seeds if c.success else c.n
    return share_excluded(gained, lost, n, margin / tested.reach)


def _joint(
    tables: Sequence[Mapping[int, float]], count: int, seed: int, looked: Monitoring | None, one_sided: bool = False
) -> np.ndarray:
    if looked is not None and looked.anytime:
        raw = [anytime_sign_flip([t[s] for s in sorted(t)], one_sided=one_sided) for t in tables]
        return holm([*raw, *[1.0] * (count - len(raw))])[: len(raw)]
    if looked is not None:
        # Alpha is spent for both sides; a one-sided p is half of a two-sided one.
        adjusted = sequential_sign_flips(tables, looked.looks, looked.planned, seed=seed, one_sided=one_sided)
    else:
        adjusted = joint_sign_flips(tables, seed=seed, one_sided=one_sided)
    here = sum(bool(t) for t in tables)
    return np.minimum(1.0, adjusted * (max(count, here) / here)) if here else adjusted


def _seed(family: Sequence[Tested]) -> int:
    return family[0].comparison.seed if family else 0
