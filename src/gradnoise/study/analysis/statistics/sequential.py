"""Looking more than once: sign-flip tests that keep their level over looks that were planned, and over any others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gradnoise.study.analysis.statistics.arguments import ROUNDING, Vector, affordable, check_fraction
from gradnoise.study.analysis.statistics.joint import RESAMPLES, Differences, Matrix, sign_patterns, statistic, table_of

#: Bets of the e-process, in units of one over the spread seen so far.
BETS = (0.25, 0.5, 1.0, 2.0)


def spent(alpha: float, fraction: float) -> float:
    """Return how much of alpha may be spent by the time that a fraction of the seeds is there.

    2 - 2 Phi(z_{1-alpha/2} / sqrt(fraction)): next to nothing early, all of it at the end.

    Source: Lan, DeMets (1983), Biometrika 70:659.
    """
    if fraction >= 1.0:
        return alpha
    return float(2.0 * stats.norm.sf(stats.norm.isf(alpha / 2.0) / math.sqrt(fraction))) if fraction > 0.0 else 0.0


def sequential_sign_flips(
    comparisons: Sequence[Differences],
    looks: Sequence[Collection[int]],
    planned: int,
    *,
    seed: int,
    one_sided: bool = False,
    resamples: int = RESAMPLES,
) -> Vector:
    """Adjust sign-flip tests of several mean differences jointly, over comparisons and over looks.

    At each look the sign patterns that crossed the boundary of an earlier one are set aside; the boundary is the value
    of max_i T_i (see `joint_sign_flips`) that as many of the others reach as alpha spending allows by then. Signs are
    keyed by trial seed, so that a pattern is the same at every look. The adjusted p of a comparison is the smallest
    alpha with which it crosses at any look; step-down as for a single look.

    Args:
        comparisons: of each comparison the differences by trial seed.
        looks: the seeds that had been seen at each look, ascending; the last is now.
        planned: how many seeds were declared.
        seed: seed of the patterns drawn.
        one_sided: whether only a positive mean counts.
        resamples: all 2^n patterns are counted up to this many, otherwise so many are drawn.

    Returns:
        Adjusted p-values in the order given, shape [m].

    Source: Lan, DeMets (1983), Biometrika 70:659; Westfall, Young (1993), algorithm 2.8.
    """
    if not comparisons:
        return np.ones(0)
    seeds = sorted({s for d in comparisons for s in d})
    resamples = affordable(resamples, len(seeds))
    signs = sign_patterns(seeds, seed, resamples)
    if 2 ** len(seeds) > resamples:
        signs = np.vstack((np.ones((1, len(seeds)), np.int8), signs))  # the observed pattern is one of them
    observed, flipped = [], []
    for look in looks:
        by_now = set(look)
        table = table_of([{s: x for s, x in d.items() if s in by_now} for d in comparisons], seeds)
        values = statistic(np.vstack((np.ones((1, len(seeds)), np.int8), signs)), table)
        values = values if one_sided else np.abs(values)
        observed.append(values[0])
        flipped.append(values[1:])
    fractions = [min(len(look) / planned, 1.0) for look in looks]
    return _step_down(np.array(observed), np.array(flipped), fractions)


def _step_down(observed: Matrix, flipped: NDArray[np.float64], fractions: Sequence[float]) -> Vector:
    """Return adjusted p-values: observed [looks, m], flipped [looks, R, m]."""
    left, adjusted, floor = list(range(observed.shape[1])), np.ones(observed.shape[1]), 0.0
    while left:
        largest = flipped[:, :, left].max(axis=2)
        low, high = floor, 1.0
        for _ in range(20):  # the smallest alpha with which one of those that are left crosses
            middle = (low + high) / 2.0
            low, high = (
                (low, middle) if _crossed(observed[:, left], largest, fractions, middle).any() else (middle, high)
            )
        floor = high
        first = [i for i, c in zip(left, _crossed(observed[:, left], largest, fractions, high), strict=True) if c]
        if not first:
            break
        adjusted[first] = high
        left = [i for i in left if i not in first]
    return adjusted


def _crossed(observed: Matrix, largest: Matrix, fractions: Sequence[float], alpha: float) -> NDArray[np.bool_]:
    """Tell which comparisons cross the boundary of any look."""
    alive, used = np.ones(largest.shape[1], bool), 0
    crossed = np.zeros(observed.shape[1], bool)
    for seen, values, fraction in zip(observed, largest, fractions, strict=True):
        allowed = math.floor(spent(alpha, fraction) * largest.shape[1] + 1e-6) - used
        boundary = math.inf
        if allowed > 0:
            here = values[alive]
            # the first value that may not cross any more; all that is larger does
            first = here.size - 1 - allowed
            boundary = float(np.partition(here, first)[first]) if first >= 0 else -math.inf
        crossed |= seen > boundary + ROUNDING * 100.0
        over = alive & (values > boundary + ROUNDING * 100.0)
        used += int(np.count_nonzero(over))
        alive &= ~over
    return crossed


def anytime_sign_flip(differences: Sequence[float], *, one_sided: bool = False) -> float:
    """Test whether a mean difference is 0, at any time and however often one looks: the p-value of an e-process.

    If the treatment changes nothing, each difference is as likely with either sign, given its size and all that came
    before; so exp(l d) / cosh(l d) has mean 1 whatever l is chosen by these, and the product over pairs ever exceeds
    1 / alpha with a chance of at most alpha. Here l is a bet over the root mean square of the differences up to this
    one; the e-process is the mean over several bets, and both signs unless one-sided.

    Args:
        differences: in the order in which the pairs came, shape [n].
        one_sided: whether only a positive mean counts.

    Returns:
        1 over the largest value of the e-process so far, at most 1.

    Source: Ramdas, Ruf, Larsson, Koolen (2020), arXiv:2009.03167; de la Pena (1999), Ann. Probab. 27:537.
    """
    bets = np.array(BETS if one_sided else (*BETS, *(-b for b in BETS)))
    logs, squares, best, count = np.zeros(bets.size), 0.0, 0.0, 0
    for d in differences:
        if d == 0.0:
            continue
        count += 1
        squares += d * d
        x = bets * d / math.sqrt(squares / count)
        logs += x - (np.abs(x) + np.log1p(np.exp(-2.0 * np.abs(x))) - math.log(2.0))
        best = max(best, float(np.logaddexp.reduce(logs)) - math.log(bets.size))
    return float(min(1.0, math.exp(-best)))


def least_pairs_anytime(alpha: float) -> int:
    """Return the fewest pairs with which `anytime_sign_flip` can reach p <= alpha: all differ alike.

    Example:
        >>> least_pairs_anytime(0.05)
        7
    """
    check_fraction(alpha, "alpha")
    return next(n for n in itertools.count(1) if anytime_sign_flip([1.0] * n) <= alpha)
