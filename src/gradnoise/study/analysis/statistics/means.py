"""The mean of paired differences: its test and its interval."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gradnoise.study.analysis.statistics.arguments import (
    ROUNDING,
    Vector,
    check_fraction,
    check_resamples,
    finite_vector,
)
from gradnoise.study.analysis.statistics.interval import Interval, negated, unbounded


def sign_flip(differences: ArrayLike, *, seed: int, resamples: int = 100_000) -> float:
    """Test by a two-sided paired permutation test whether the mean difference is 0.

    If the arms are equal, swapping them in any pair changes nothing: each difference is as likely with either
    sign. p is the share of the 2^n sign patterns whose |mean| is at least the one seen. All patterns are
    counted if 2^n <= resamples; otherwise that many are drawn, and p = (1 + hits) / (1 + resamples).

    Args:
        differences: treatment minus baseline, one per pair, shape [n]. Zeros change no sum and are left out.
        seed: seed of the patterns drawn.
        resamples: patterns to draw, >= 1.

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
    # Sorted, so that the order of pairs and the sign of the whole leave not one bit of the answer changed.
    magnitudes = np.sort(np.abs(d))
    seen = abs(math.fsum(d)) - ROUNDING * magnitudes.sum()
    if 2**d.size <= resamples:
        return float(np.mean(np.abs(_every_signed_sum(magnitudes)) >= seen))
    return (1 + _count_signed_sums(magnitudes, seen, seed, resamples)) / (1 + resamples)


def _every_signed_sum(magnitudes: Vector) -> Vector:
    # all 2^n sums of +-magnitude
    sums = np.zeros(1)
    for magnitude in magnitudes:
        sums = np.concatenate((sums + magnitude, sums - magnitude))
    return sums


def _count_signed_sums(magnitudes: Vector, seen: float, seed: int, resamples: int) -> int:
    rng = np.random.Generator(np.random.PCG64(seed))
    rows = max(1, 1_000_000 // magnitudes.size)  # patterns per batch: 8 MB of them
    hits = 0
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), magnitudes.size)
        signs = 2.0 * rng.integers(0, 2, size=shape, dtype=np.int8) - 1.0
        hits += int(np.count_nonzero(np.abs(signs @ magnitudes) >= seen))
    return hits


def bca_mean(differences: ArrayLike, level: float = 0.95, *, seed: int, resamples: int = 10_000) -> Interval:
    """Return the bias-corrected and accelerated (BCa) bootstrap interval of the mean.

    Args:
        differences: treatment minus baseline, one per pair, shape [n].
        level: confidence level, in (0, 1).
        seed: seed of the resamples.
        resamples: bootstrap samples, >= 1.

    Returns:
        The interval, which is too short for small n (the documentation has the measured coverage). (-inf, inf)
        for n < 2, where the spread is unknown. (d, d) if all differences equal d: the bootstrap then sees no
        spread, which says little when n is small.

    Source: Efron (1987), JASA 82:171.
    """
    check_fraction(level, "level")
    check_resamples(resamples)
    d = finite_vector(differences, "differences")
    # A sample and its mirror image use the same resamples, so that swapping the arms mirrors the interval exactly.
    sample, mirrored = np.sort(d), np.sort(-d)
    if d.any() and np.array_equal(sample, mirrored):  # its own mirror image, as the interval has to be
        interval = _bca(sample, level, seed, resamples)
        half = (interval.high - interval.low) / 2
        return Interval(-half, half, level)
    if sample.tolist() >= mirrored.tolist():
        return _bca(sample, level, seed, resamples)
    return negated(_bca(mirrored, level, seed, resamples))


def _bca(sample: Vector, level: float, seed: int, resamples: int) -> Interval:
    if sample.size < 2:
        return unbounded(level)
    largest = np.abs(sample).max()
    if np.ptp(sample) <= ROUNDING * largest:
        return Interval(float(sample.min()), float(sample.max()), level)
    # Scaled, so that the cubes inside neither overflow nor vanish.
    low, high = stats.bootstrap(
        (sample / largest,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.Generator(np.random.PCG64(seed)),
    ).confidence_interval
    return Interval(float(low * largest), float(high * largest), level)
