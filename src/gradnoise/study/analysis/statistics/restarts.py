"""The best of k restarts: what it is worth, and what one such result says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gradnoise.study.analysis.statistics.arguments import (
    Vector,
    affordable,
    check_fraction,
    check_resamples,
    finite_vector,
)
from gradnoise.study.analysis.statistics.draws import places
from gradnoise.study.analysis.statistics.interval import Interval, unbounded
from gradnoise.study.analysis.statistics.means import sign_flip_interval


@dataclass(frozen=True)
class BestOfK:
    """What the best of k restarts is worth, and what a single restart is worth."""

    k: int
    n: int
    """Restarts observed, n >= k."""
    best: float
    """Expected best of k restarts."""
    best_interval: Interval
    """Confidence interval of that expectation."""
    spread: Interval
    """Where one best-of-k result falls: a published one is a single draw from this range."""
    mean: float
    """Mean over all restarts."""
    mean_interval: Interval


def best_of_k(
    values: ArrayLike,
    k: int,
    level: float = 0.95,
    *,
    seed: int,
    maximise: bool = True,
    resamples: int = 10_000,
) -> BestOfK:
    """Estimate the expected best of k restarts with its interval, and the mean restart for comparison.

    The expectation is the average over all subsets of k of the n values seen: the i-th smallest is the best
    of C(i-1, k-1) of the C(n, k) subsets. Its interval is a percentile bootstrap, which contains no better
    run than those seen: take n of 10 k or more (the documentation has the measured coverage).

    Args:
        values: the metric of each restart, shape [n].
        k: restarts of which the best is kept, 1..n.
        level: confidence level, in (0, 1).
        seed: seed of the resamples.
        maximise: whether the best is the largest value.
        resamples: bootstrap samples, >= 1; fewer where n is large, see `affordable`.

    Raises:
        ValueError: if k is not in 1..n.

    Source: Dodge et al. (2019), EMNLP, section 3; without replacement as Tang et al. (2020), ACL.
    """
    check_fraction(level, "level")
    check_resamples(resamples)
    values = finite_vector(values, "values")
    n, sign = values.size, 1.0 if maximise else -1.0
    if not 1 <= k <= n:
        raise ValueError(f"k is {k} with {n} restarts; it must be 1 to {n}, or run more restarts.")
    signed, resamples = np.sort(sign * values), affordable(resamples, 2 * n)
    tails = np.array([(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    expected = np.quantile(_resampled_best(signed, k, seed, resamples), tails)
    # The best of k lies below x with probability F(x)^k: its q-quantile is that of one restart at q^(1/k).
    single = np.quantile(signed, tails ** (1.0 / k), method="inverted_cdf")
    return BestOfK(
        k=k,
        n=n,
        best=sign * float(signed @ _best_weights(n, k)),
        best_interval=_ordered(sign * expected, level) if n > 1 else unbounded(level),
        spread=_ordered(sign * single, level),
        mean=math.fsum(values / n),
        mean_interval=sign_flip_interval(values, level, seed=seed, resamples=resamples),
    )


def _best_weights(n: int, k: int) -> Vector:
    # C(i-1, k-1) / C(n, k) for i = 1..n: k/n at the top, then downwards by the ratio (i-k)/(i-1).
    i = np.arange(n, 1, -1)
    return np.concatenate(([1.0], np.cumprod(np.maximum(i - k, 0) / (i - 1))))[::-1] * (k / n)


def _resampled_best(ordered: Vector, k: int, seed: int, resamples: int) -> Vector:
    """Return the expected best of k of each resample, drawn with replacement."""
    weights = _best_weights(ordered.size, k)
    drawn = places(seed, ordered.size).batches(resamples)  # sorted places make sorted values
    return np.concatenate([ordered[part] @ weights for part in drawn])


def _ordered(ends: Vector, level: float) -> Interval:
    return Interval(float(ends.min()), float(ends.max()), level)
