"""A paired comparison of two arms: means, rates and what the tests say of them, before any decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradnoise.study.analysis.statistics import (
    Interval,
    finite_vector,
    mcnemar_unconditional,
    newcombe_paired,
    scaled,
    sign_flip,
    sign_flip_interval,
    wilson,
)


class Outcome(StrEnum):
    """What a comparison can show at its level."""

    HELPS = "helps"
    HURTS = "hurts"
    NO_DIFFERENCE = "no difference"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Success:
    """How often each arm succeeds over the same pairs; differences are treatment minus baseline.

    A seed with several settings is several pairs of runs, but one unit of interval and test.
    """

    n: int
    """Pairs of runs."""
    baseline: int
    """Pairs in which the baseline succeeds."""
    treatment: int
    interval_baseline: Interval
    """Wilson interval of the baseline's rate."""
    interval_treatment: Interval
    difference: float
    """Difference of the rates, in [-1, 1]; nan without pairs."""
    interval: Interval
    """Newcombe's paired interval of that difference; of seeds with several pairs that of a mean over seeds."""
    p: float
    """Unconditional exact McNemar p; of seeds with several pairs the sign-flip p of their means."""
    seeds: int
    """Seeds with a pair."""
    gained: int
    """Seeds in which the treatment has more successes."""
    lost: int
    """Seeds in which it has fewer."""


@dataclass(frozen=True)
class Comparison:
    """Treatment minus baseline over n pairs, of one setting or pooled over several."""

    n: int
    mean_baseline: float
    """In the unit of the metric; nan without pairs, as are the next two."""
    mean_treatment: float
    difference: float
    """Mean of the paired differences."""
    interval: Interval
    """Interval of that mean that inverts the sign-flip test; Newcombe's of a rate."""
    p: float
    """Two-sided sign-flip p-value, unconditional McNemar p of a rate; not adjusted for other comparisons."""
    differences: tuple[float, ...]
    """One per pair, in the order given."""
    seed: int
    """Seed of the resampling behind `interval` and `p`."""
    success: Success | None = None
    """Success rates, if the experiment has a success rule."""
    rate_of: float | None = None
    """The value of a success where the metric is a rate: every run has 0 or this value; None for a mean."""

    @property
    def rate(self) -> bool:
        """Whether the metric is a rate."""
        return self.rate_of is not None

    @property
    def changed(self) -> tuple[int, int]:
        """Pairs with a positive and with a negative difference."""
        return sum(d > 0.0 for d in self.differences), sum(d < 0.0 for d in self.differences)


def compare(
    baseline: ArrayLike,
    treatment: ArrayLike,
    *,
    success_baseline: ArrayLike | None = None,
    success_treatment: ArrayLike | None = None,
    rate_of: float | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two arms over pairs, one for each seed.

    Args:
        baseline: primary metric of the baseline, shape [n], finite; element i and treatment[i] are a pair.
        treatment: primary metric of the treatment, shape [n].
        success_baseline: whether each run succeeded, shape [n], of bools or 0 and 1; give both arms or neither.
        success_treatment: the same for the treatment.
        rate_of: the value of a success if the metric is a rate, so that every number is 0 or this one, > 0. None
            for means over several settings of a seed.
        level: confidence level of all intervals, in (0, 1).
        seed: seed of the resampling.

    Raises:
        ValueError: if lengths differ, a number is not finite, a success is neither 0 nor 1, or a number of a rate is
            neither 0 nor `rate_of`.

    Example:
        >>> compare([0.5, 0.6, 0.4], [0.7, 0.9, 0.8]).p
        0.25
    """
    a, b = finite_vector(baseline, "baseline"), finite_vector(treatment, "treatment")
    _check_pairs(a.size, treatment=b.size)
    d = finite_vector(b - a, "treatment - baseline")
    rates = None if rate_of is None else _rates(a, b, rate_of, level, seed)
    success = None
    if success_baseline is not None or success_treatment is not None:
        success = _given(success_baseline, success_treatment, d.size, level, seed)
    return Comparison(
        n=d.size,
        mean_baseline=_mean(a),
        mean_treatment=_mean(b),
        difference=_mean(d),
        interval=sign_flip_interval(d, level, seed=seed) if rates is None else scaled(rates.interval, rate_of or 1.0),
        p=sign_flip(d, seed=seed) if rates is None else rates.p,
        differences=tuple(d.tolist()),
        seed=seed,
        success=success,
        rate_of=rate_of,
    )


def compare_successes(
    baseline: Sequence[bool], treatment: Sequence[bool], seeds: Sequence[int], *, level: float = 0.95, seed: int = 0
) -> Success:
    """Compare how often two arms succeed over pairs of runs.

    Args:
        baseline: whether each run succeeded, n of them; element i and treatment[i] are a pair.
        treatment: the same for the treatment.
        seeds: trial seed of each pair. Pairs of one seed are not independent: where a seed has several, as a row
            with several settings does, test and interval are those of means over seeds.
        level: confidence level of all intervals, in (0, 1).
        seed: seed of the resampling.
    """
    n, won, won_before = len(seeds), sum(treatment), sum(baseline)
    net: dict[int, int] = {}
    for a, b, unit in zip(baseline, treatment, seeds, strict=True):
        net[unit] = net.get(unit, 0) + int(b) - int(a)
    gained, lost = sum(x > 0 for x in net.values()), sum(x < 0 for x in net.values())
    if len(net) == n:
        both = sum(a and b for a, b in zip(baseline, treatment, strict=True))
        interval = newcombe_paired(both, gained, lost, n - both - gained - lost, level)
        p = mcnemar_unconditional(gained, lost, n)
    else:
        means = np.array(list(net.values())) * (len(net) / n)
        interval, p = sign_flip_interval(means, level, seed=seed), sign_flip(means, seed=seed)
    return Success(
        n=n,
        baseline=won_before,
        treatment=won,
        interval_baseline=wilson(won_before, n, level),
        interval_treatment=wilson(won, n, level),
        difference=(won - won_before) / n if n else math.nan,
        interval=interval,
        p=p,
        seeds=len(net),
        gained=gained,
        lost=lost,
    )


def _rates(a: NDArray[np.float64], b: NDArray[np.float64], top: float, level: float, seed: int) -> Success:
    for name, values in (("baseline", a), ("treatment", b)):
        bad = values[~np.isin(values, [0.0, top])]
        if bad.size:
            raise ValueError(f"{name} holds {bad[0]:g}, and the metric is a rate: each run has 0 or {top:g}.")
    return compare_successes((a == top).tolist(), (b == top).tolist(), range(a.size), level=level, seed=seed)


def _given(baseline: ArrayLike | None, treatment: ArrayLike | None, n: int, level: float, seed: int) -> Success:
    if baseline is None or treatment is None:
        raise ValueError("One of success_baseline and success_treatment is missing; give both or neither.")
    a, b = _flags(baseline, "success_baseline"), _flags(treatment, "success_treatment")
    _check_pairs(n, success_baseline=a.size, success_treatment=b.size)
    return compare_successes(a.tolist(), b.tolist(), range(n), level=level, seed=seed)


def _flags(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    vector = finite_vector(values, name)
    bad = np.flatnonzero((vector != 0.0) & (vector != 1.0))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {vector[bad[0]]}; each must be True or False, 1 or 0.")
    return vector == 1.0


def _check_pairs(n: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size != n:
            raise ValueError(f"{name} has {size} entries, baseline {n}; element i of each must be pair i.")


def _mean(values: NDArray[np.float64]) -> float:
    # fsum rounds once, so the mean is the same in any order of the pairs.
    return math.fsum(values / values.size) if values.size else math.nan
