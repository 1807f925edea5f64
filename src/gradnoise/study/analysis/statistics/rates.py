"""Success rates: intervals of one, tests and intervals of the difference of two."""

from __future__ import annotations

import math
from typing import Literal

from scipy import stats

from gradnoise.study.analysis.statistics.arguments import check_counts, check_fraction, check_successes
from gradnoise.study.analysis.statistics.interval import Interval


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return the Wilson score interval of a success rate.

    All rates p with |p_hat - p| <= z sqrt(p (1 - p) / n): never empty, never outside [0, 1], also at 0 of n.

    Args:
        successes: number of successes, 0..n.
        n: number of trials; 0 gives (0, 1).
        level: confidence level, in (0, 1).

    Example:
        >>> interval = wilson(81, 263)
        >>> round(interval.low, 4), round(interval.high, 4)
        (0.2553, 0.3662)

    Source: Wilson (1927), JASA 22:209.
    """
    return _rate_interval(successes, n, level, "wilson")


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return the exact interval of a success rate: it covers the rate at least as often as its level says.

    All rates that neither one-sided binomial test at (1 - level) / 2 rejects. Wider than Wilson's, whose
    coverage is right on average only.

    Args:
        successes: number of successes, 0..n.
        n: number of trials; 0 gives (0, 1).
        level: confidence level, in (0, 1).

    Example:
        >>> interval = clopper_pearson(2, 20)
        >>> round(interval.low, 4), round(interval.high, 4)
        (0.0123, 0.317)

    Source: Clopper, Pearson (1934), Biometrika 26:404.
    """
    return _rate_interval(successes, n, level, "exact")


def _rate_interval(successes: int, n: int, level: float, method: Literal["wilson", "exact"]) -> Interval:
    check_fraction(level, "level")
    check_successes(successes, n)
    if n == 0:
        return Interval(0.0, 1.0, level)
    low, high = stats.binomtest(int(successes), int(n)).proportion_ci(level, method=method)
    return Interval(float(low), float(high), level)


def fisher_exact(successes_a: int, n_a: int, successes_b: int, n_b: int) -> float:
    """Test by Fisher's exact test, two-sided, whether two unpaired groups succeed equally often.

    Given the successes of both groups together, those of group a are hypergeometric if the rates are equal. p is the
    probability of all tables that are no more likely than the one seen.

    Args:
        successes_a: successes in group a, 0..n_a.
        n_a: trials in group a.
        successes_b: successes in group b, 0..n_b.
        n_b: trials in group b.

    Returns:
        The p-value; 1 if a group is empty.

    Source: Fisher (1935), J. R. Stat. Soc. 98:39.
    """
    check_successes(successes_a, n_a, "successes_a")
    check_successes(successes_b, n_b, "successes_b")
    table = [[successes_a, n_a - successes_a], [successes_b, n_b - successes_b]]
    _, p = stats.fisher_exact(table)
    return float(p)  # type: ignore[arg-type]


def newcombe_paired(both: int, only_a: int, only_b: int, neither: int, level: float = 0.95) -> Interval:
    """Return the interval of the difference of two paired success rates, rate of a minus rate of b.

    The distances of both rates to the ends of their Wilson intervals are squared and added, less twice
    their product times the correlation phi of the pairs. A positive phi is shrunk towards 0 (method 10).

    Args:
        both: pairs in which both arms succeed.
        only_a: pairs in which arm a alone succeeds.
        only_b: pairs in which arm b alone succeeds.
        neither: pairs in which no arm succeeds; without any pair the interval is (-1, 1).
        level: confidence level, in (0, 1).

    Source: Newcombe (1998), Statist. Med. 17:2635, method 10.
    """
    check_fraction(level, "level")
    check_counts(both=both, only_a=only_a, only_b=only_b, neither=neither)
    n = both + only_a + only_b + neither
    if n == 0:
        return Interval(-1.0, 1.0, level)
    wins_a, wins_b = both + only_a, both + only_b
    a, b = wilson(wins_a, n, level), wilson(wins_b, n, level)
    rate_a, rate_b = wins_a / n, wins_b / n
    phi = _phi(both * neither - only_a * only_b, wins_a, wins_b, n)
    below = _add_squares(rate_a - a.low, b.high - rate_b, phi)
    above = _add_squares(a.high - rate_a, rate_b - b.low, phi)
    difference = (only_a - only_b) / n
    return Interval(max(difference - below, -1.0), min(difference + above, 1.0), level)


def _phi(cross: int, wins_a: int, wins_b: int, n: int) -> float:
    # the correlation of the two arms' successes over pairs, shrunk by a continuity correction
    product = wins_a * (n - wins_a) * wins_b * (n - wins_b)
    if product == 0:
        return 0.0
    return (max(cross - n / 2.0, 0.0) if cross > 0 else cross) / math.sqrt(product)


def _add_squares(x: float, y: float, phi: float) -> float:
    # max: a negative rest is rounding
    return math.sqrt(max(x * x - 2.0 * phi * x * y + y * y, 0.0))
