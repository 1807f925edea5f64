"""The mean of paired differences: its test by sign flips, and the interval that inverts the test."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradnoise.study.analysis.statistics.arguments import (
    ROUNDING,
    Vector,
    affordable,
    check_fraction,
    check_resamples,
    finite_vector,
)
from gradnoise.study.analysis.statistics.draws import signs
from gradnoise.study.analysis.statistics.interval import Interval, negated, unbounded


def sign_flip(differences: ArrayLike, *, seed: int, resamples: int = 100_000) -> float:
    """Test by a two-sided paired permutation test whether the mean difference is 0.

    If the treatment changes nothing, swapping the arms in any pair changes nothing: each difference is as likely
    with either sign. p is the share of the 2^n sign patterns whose |mean| is at least the one seen. All patterns
    are counted if 2^n <= resamples; otherwise that many are drawn, and p = (1 + hits) / (1 + resamples).

    Args:
        differences: treatment minus baseline, one per pair, shape [n]. Zeros change no sum and are left out.
        seed: seed of the patterns drawn.
        resamples: patterns to draw, >= 1; fewer where n is large, see `affordable`.

    Returns:
        The p-value: never below 2 / 2^n when all patterns are counted; 1 without a difference other than 0.

    Source: Fisher (1935), The Design of Experiments, section 21; the added ones: Phipson, Smyth (2010),
    Stat. Appl. Genet. Mol. Biol. 9:39.
    """
    check_resamples(resamples)
    d = finite_vector(differences, "differences")
    d = d[d != 0.0]
    if d.size == 0:
        return 1.0
    d = d / np.abs(d).max()
    d = d if math.fsum(d) >= 0.0 else -d
    # Sorted, so that the order of pairs and the sign of the whole leave not one bit of the answer changed.
    d = d[np.lexsort((d, np.abs(d)))]
    resamples = affordable(resamples, d.size)
    if 2**d.size <= resamples:
        turned = _every_set(d)
        return float(np.mean(turned | turned[::-1]))  # the set that turns the others stands at the mirrored place
    return (1 + _count_extreme(d, seed, resamples)) / (1 + resamples)


def _no_larger(sums: Vector, magnitudes: Vector) -> NDArray[np.bool_]:
    """Tell which sets of differences have a sum of at most 0, but for rounding.

    Turning a set A around changes the sum of all by -2 sum_A d, so that these are the sign patterns whose mean is at
    least the one seen. What is left out of A has no part in this: a difference of 1e15 hides no other one.
    """
    return sums <= ROUNDING * magnitudes


def _every_set(d: Vector) -> NDArray[np.bool_]:
    """Return `_no_larger` of all 2^n sets; set k holds difference i if bit i of k is 1."""
    sums, magnitudes = np.zeros(1), np.zeros(1)
    for x in d:
        sums, magnitudes = np.concatenate((sums, sums + x)), np.concatenate((magnitudes, magnitudes + abs(x)))
    return _no_larger(sums, magnitudes)


def _count_extreme(d: Vector, seed: int, resamples: int) -> int:
    """Return how many sign patterns drawn have a |mean| of at least the one seen."""
    hits = 0
    for positive in signs(seed, d.size).batches(resamples):
        turned = ((positive == 1) != (d > 0.0)).astype(np.float64)
        either = [_no_larger(part @ d, part @ np.abs(d)) for part in (turned, 1.0 - turned)]
        hits += int(np.count_nonzero(either[0] | either[1]))
    return hits


def sign_flip_interval(differences: ArrayLike, level: float = 0.95, *, seed: int, resamples: int = 20_000) -> Interval:
    """Return the interval of the mean that inverts the sign-flip test: all means that it does not reject.

    Flipping the pairs A turns the sum of the differences less mu around by 2 sum_A (d_i - mu), so mu is rejected as
    too small when at most (1 - level) / 2 of the 2^n sets A, the empty one among them, have a mean <= mu. The ends
    are therefore order statistics of the means over subsets. Its coverage is exact where differences are symmetric
    about their mean (the documentation has what was measured elsewhere).

    Args:
        differences: one per pair, or one value per seed, shape [n].
        level: confidence level, in (0, 1).
        seed: seed of the sets drawn.
        resamples: all 2^n sets are counted up to this many, otherwise so many are drawn, >= 1; fewer
            where n is large, see `affordable`.

    Returns:
        The interval; (-inf, inf) with fewer than `least_pairs(1 - level)` differences, where no test can reject.

    Source: Hartigan (1969), JASA 64:1303 (typical values); Tukey, McLaughlin (1963), Sankhya A 25:331.
    """
    check_fraction(level, "level")
    check_resamples(resamples)
    d = finite_vector(differences, "differences")
    # A sample and its mirror image use the same sets, so that swapping the arms mirrors the interval exactly.
    sample, mirrored, resamples = np.sort(d), np.sort(-d), affordable(resamples, d.size)
    if d.any() and np.array_equal(sample, mirrored):  # its own mirror image, as the interval has to be
        interval = _inverted(sample, level, seed, resamples)
        half = max(-interval.low, interval.high)
        return Interval(-half, half, level)
    if sample.tolist() >= mirrored.tolist():
        return _inverted(sample, level, seed, resamples)
    return negated(_inverted(mirrored, level, seed, resamples))


def _inverted(sample: Vector, level: float, seed: int, resamples: int) -> Interval:
    patterns = 2**sample.size if 2**sample.size <= resamples else resamples + 1
    rejected = math.floor((1.0 - level) * patterns / 2.0 + 1e-9)  # sets in each tail, the empty one among them
    if rejected < 1:
        return unbounded(level)
    largest = float(np.abs(sample).max())
    if np.ptp(sample) <= ROUNDING * largest:
        return Interval(float(sample.min()), float(sample.max()), level)
    means = _subset_means(sample / largest, seed, resamples)
    order = np.partition(means, (rejected - 1, means.size - rejected))
    low, high = float(order[rejected - 1]), float(order[means.size - rejected])
    # No mean of a subset lies outside of the data, but for rounding.
    return Interval(max(largest * low, float(sample.min())), min(largest * high, float(sample.max())), level)


def _subset_means(sample: Vector, seed: int, resamples: int) -> Vector:
    """Return the means over all subsets but the empty one, or over subsets drawn."""
    if 2**sample.size <= resamples:
        sums, counts = np.zeros(1), np.zeros(1)
        for value in sample:
            sums, counts = np.concatenate((sums, sums + value)), np.concatenate((counts, counts + 1.0))
        return sums[1:] / counts[1:]
    parts, one = [], np.ones(sample.size)
    for drawn in signs(seed, sample.size).batches(resamples):
        taken = drawn.astype(np.float64)
        size = taken @ one  # whole numbers, so exact
        parts.append((taken @ sample)[size > 0] / size[size > 0])
    return np.concatenate(parts)
