"""A paired comparison of two arms: means, rates and what the tests say of them, before any decision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradnoise.study.analysis.statistics import (
    Interval,
    bca_mean,
    finite_vector,
    mcnemar_midp,
    newcombe_paired,
    scaled,
    sign_flip,
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
    """How often each arm succeeds over the same pairs; differences are treatment minus baseline."""

    n: int
    baseline: int
    """Pairs in which the baseline succeeds."""
    treatment: int
    interval_baseline: Interval
    """Wilson interval of the baseline's rate."""
    interval_treatment: Interval
    difference: float
    """Difference of the rates, in [-1, 1]; nan without pairs."""
    interval: Interval
    """Newcombe's paired interval of that difference."""
    p: float
    """McNemar's mid-p."""


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
    """BCa interval of that mean; Newcombe's of a rate."""
    p: float
    """Two-sided sign-flip p-value, McNemar's mid-p of a rate; not adjusted for other comparisons."""
    differences: tuple[float, ...]
    """One per pair, in the order given."""
    seed: int
    """Seed of the resampling behind `interval` and `p`."""
    success: Success | None = None
    """Success rates, if the experiment has a success rule."""
    rate: bool = False
    """Whether the metric is a rate: every run has 0 or one other value, that of a success."""


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
    """Compare two arms over pairs.

    Args:
        baseline: primary metric of the baseline, shape [n], finite; element i and treatment[i] are a pair.
        treatment: primary metric of the treatment, shape [n].
        success_baseline: whether each run succeeded, shape [n], of bools or 0 and 1; give both arms or neither.
        success_treatment: the same for the treatment.
        rate_of: the value of a success if the metric is a rate, so that every number is 0 or this one, > 0.
            Where some numbers are neither, as means over several settings are, means are compared as usual.
        level: confidence level of all intervals, in (0, 1).
        seed: seed of the resampling.

    Raises:
        ValueError: if lengths differ, a number is not finite, or a success is neither 0 nor 1.

    Example:
        >>> compare([0.5, 0.6, 0.4], [0.7, 0.9, 0.8]).p
        0.25
    """
    a, b = finite_vector(baseline, "baseline"), finite_vector(treatment, "treatment")
    _check_pairs(a.size, treatment=b.size)
    d = finite_vector(b - a, "treatment - baseline")
    rates = None
    if rate_of is not None and np.isin([*a, *b], [0.0, rate_of]).all():
        rates = _success(a == rate_of, b == rate_of, d.size, level)
    return Comparison(
        n=d.size,
        mean_baseline=_mean(a),
        mean_treatment=_mean(b),
        difference=_mean(d),
        interval=bca_mean(d, level, seed=seed) if rates is None else scaled(rates.interval, rate_of or 1.0),
        p=sign_flip(d, seed=seed) if rates is None else rates.p,
        differences=tuple(d.tolist()),
        seed=seed,
        success=_success(success_baseline, success_treatment, d.size, level),
        rate=rates is not None,
    )


def _success(baseline: ArrayLike | None, treatment: ArrayLike | None, n: int, level: float) -> Success | None:
    if baseline is None and treatment is None:
        return None
    if baseline is None or treatment is None:
        raise ValueError("One of success_baseline and success_treatment is missing; give both or neither.")
    a, b = _flags(baseline, "success_baseline"), _flags(treatment, "success_treatment")
    _check_pairs(n, success_baseline=a.size, success_treatment=b.size)
    both, only_b, only_a = int(np.sum(a & b)), int(np.sum(b & ~a)), int(np.sum(a & ~b))
    return Success(
        n=n,
        baseline=both + only_a,
        treatment=both + only_b,
        interval_baseline=wilson(both + only_a, n, level),
        interval_treatment=wilson(both + only_b, n, level),
        difference=(only_b - only_a) / n if n else math.nan,
        interval=newcombe_paired(both, only_b, only_a, n - both - only_a - only_b, level),
        p=mcnemar_midp(only_b, only_a),
    )


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
