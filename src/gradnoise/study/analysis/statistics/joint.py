"""Many comparisons over the same seeds: one sign per seed for all of them, and step-down max-T."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gradnoise.study.analysis.statistics.arguments import ROUNDING, Vector, affordable, check_resamples

Differences = Mapping[int, float]
"""Trial seed -> difference of one comparison."""
Matrix = NDArray[np.float64]

RESAMPLES = 20_000

#: A difference this many times the median one is a run that blew up: that it did counts, how far it got does not.
BLOWN_UP = 1e6


def joint_sign_flips(
    comparisons: Sequence[Differences], *, seed: int, one_sided: bool = False, resamples: int = RESAMPLES
) -> Vector:
    """Adjust sign-flip tests of several mean differences jointly: step-down max-T of Westfall and Young.

    If the treatments change nothing, swapping arms in one seed changes nothing, in all comparisons at once: their
    differences of that seed turn their signs together. With T_i = |sum_s d_is| / sqrt(sum_s d_is^2), the adjusted p
    of the comparison with the largest T is the share of the sign patterns over seeds in which max_i T_i is at least
    that; the next one's is computed without it, and is at least as large.

    The level of the family holds exactly where the arms are exchangeable within seeds. Several treatments that share
    a baseline are so only as long as all of them change nothing (the documentation has what was measured).

    Args:
        comparisons: of each comparison the differences by trial seed; seeds may differ between comparisons.
        seed: seed of the patterns drawn; they are keyed by trial seed.
        one_sided: whether only a positive mean counts; T_i is then without the bars.
        resamples: all 2^n patterns of n seeds are counted up to this many, otherwise so many are drawn, >= 1.

    Returns:
        Adjusted p-values in the order given, shape [m]; 1 for a comparison without a difference other than 0.

    Source: Westfall, Young (1993), Resampling-Based Multiple Testing, algorithm 2.8.
    """
    check_resamples(resamples)
    seeds = sorted({s for d in comparisons for s in d})
    resamples = affordable(resamples, len(seeds))
    table = table_of(comparisons, seeds)
    observed = statistic(np.ones((1, len(seeds))), table)[0]
    flipped = statistic(sign_patterns(seeds, seed, resamples), table)
    if not one_sided:
        observed, flipped = np.abs(observed), np.abs(flipped)
    exact = 2 ** len(seeds) <= resamples
    return step_down(observed, flipped, exact)


def table_of(comparisons: Sequence[Differences], seeds: Sequence[int]) -> Matrix:
    """Return the differences as a table [seeds, comparisons], scaled so that no square overflows; 0 where none is.

    Those of runs that blew up count as the largest of the others, with their sign: T would otherwise be 1 whatever
    all other seeds say. Sizes do not change with signs, so that the test stays exact.
    """
    table = np.array([[float(d.get(s, 0.0)) for d in comparisons] for s in seeds]).reshape(len(seeds), len(comparisons))
    for column in table.T:
        sizes = np.abs(column)
        known = np.sort(sizes[sizes > 0.0])
        blown_up = sizes > BLOWN_UP * known[(known.size - 1) // 2] if known.size else known
        if blown_up.any():
            column[blown_up] = np.sign(column[blown_up]) * sizes[~blown_up].max()
    largest = np.abs(table).max(axis=0, initial=0.0)
    return table / np.where(largest > 0.0, largest, 1.0)


def statistic(signs: NDArray[np.generic], table: Matrix) -> Matrix:
    """Return sum d / sqrt(sum d^2) under sign patterns [R, seeds] for every comparison, [R, comparisons].

    It grows with the t statistic, and its denominator does not change with the signs.
    """
    norm = np.sqrt(np.square(table).sum(axis=0))
    # In blocks of 8 MB: signs are bytes where there are many.
    rows = max(1, 1_000_000 // max(signs.shape[1], 1))
    blocks = [signs[i : i + rows].astype(np.float64, copy=False) @ table for i in range(0, len(signs), rows)]
    return np.concatenate(blocks) / np.where(norm > 0.0, norm, 1.0)


def sign_patterns(seeds: Sequence[int], seed: int, resamples: int) -> NDArray[np.int8]:
    """Return sign patterns [R, n] of 1 and -1: all 2^n, or drawn ones whose column depends on the trial seed alone."""
    if 2 ** len(seeds) <= resamples:
        bits = np.arange(2 ** len(seeds))[:, None] >> np.arange(len(seeds)) & 1
        return (1 - 2 * bits).astype(np.int8)
    columns = [np.random.Generator(np.random.PCG64([seed, s])).integers(0, 2, resamples, np.int8) for s in seeds]
    return 1 - 2 * np.stack(columns, axis=1)


def step_down(observed: Vector, flipped: Matrix, exact: bool) -> Vector:
    """Turn statistics into adjusted p-values.

    Args:
        observed: statistic of each comparison, shape [m].
        flipped: the same under R sign patterns, shape [R, m].
        exact: whether these are all patterns; otherwise the observed one is counted in addition.
    """
    order = np.argsort(-observed, kind="stable")
    adjusted = np.ones(observed.size)
    largest = np.full(len(flipped), -np.inf)
    slack = ROUNDING * np.sqrt(max(observed.size, 1)) * 10.0
    for i in order[::-1]:
        largest = np.maximum(largest, flipped[:, i])
        hits = int(np.count_nonzero(largest >= observed[i] - slack))
        adjusted[i] = hits / len(flipped) if exact else (1 + hits) / (1 + len(flipped))
    adjusted[order] = np.maximum.accumulate(adjusted[order])
    return adjusted
