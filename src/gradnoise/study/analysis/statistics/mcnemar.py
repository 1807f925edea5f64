"""Paired success rates: exact tests that two arms succeed equally often, or differ by less than a margin."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gradnoise.study.analysis.statistics.arguments import check_counts

#: Values of the nuisance parameter that are tried before the largest one is refined.
GRID = 200


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Test by McNemar's exact test, two-sided, whether two arms succeed equally often.

    Given only_a + only_b = m pairs in which one arm alone succeeds, only_a ~ Binomial(m, 1/2) if the arms are
    equal; p is the probability that |only_a - only_b| is at least as large as seen. Conservative.

    Args:
        only_a: pairs in which arm a alone succeeds.
        only_b: pairs in which arm b alone succeeds.

    Returns:
        The p-value; 1 if no pair differs.

    Source: McNemar (1947), Psychometrika 12:153, with the binomial distribution in place of chi-squared.
    """
    check_counts(only_a=only_a, only_b=only_b)
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def mcnemar_unconditional(only_a: int, only_b: int, n: int) -> float:
    """Test by the unconditional exact McNemar test, two-sided, whether two arms succeed equally often.

    With the share q of pairs in which one arm alone succeeds unknown, p is the largest probability over q in [0, 1]
    that |only_a - only_b| / sqrt(only_a + only_b) is at least as large as seen, if both ways are equally likely. The
    test never exceeds its level, whatever q, and is more powerful than the conditional one.

    Args:
        only_a: pairs in which arm a alone succeeds.
        only_b: pairs in which arm b alone succeeds.
        n: all pairs, >= only_a + only_b.

    Returns:
        The p-value; 1 if both are equally many.

    Example:
        >>> round(mcnemar_unconditional(6, 0, 6), 5)
        0.03125

    Source: Suissa, Shuster (1991), Biometrics 47:361.
    """
    _check(only_a, only_b, n)
    seen, differ = abs(only_a - only_b), only_a + only_b
    if seen == 0:
        return 1.0
    m = np.arange(n + 1)
    # In whole numbers, so that ties are ties: t^2 / m >= seen^2 / differ.
    least = np.array([math.isqrt(max(-(-(seen * seen * k) // differ) - 1, 0)) + 1 if k else 1 for k in range(n + 1)])
    wins = (m + least + 1) // 2  # of m such pairs, at least so many go one way
    given = np.where(wins <= m, 2.0 * stats.binom.sf(wins - 1, m, 0.5), 0.0)
    return _largest(lambda q: stats.binom.pmf(m, n, q[:, None]) @ given, 1.0)


def rates_within(only_a: int, only_b: int, n: int, margin: float) -> float:
    """Test exactly whether two paired success rates differ by less than a margin.

    The null hypothesis is a difference of the rates of at least the margin, upwards or downwards. Outcomes are
    ordered by Tango's score statistic; p is the largest probability of an outcome as near to 0 as the one seen, over
    all shares of pairs in which the worse arm alone succeeds, doubled, for the less favourable direction. Doubled,
    so that p <= 0.05 means what a 95% interval within the margin means: an error of 2.5% at either end.

    Args:
        only_a: pairs in which arm a alone succeeds.
        only_b: pairs in which arm b alone succeeds.
        n: all pairs, >= only_a + only_b.
        margin: largest difference of the rates that does not matter, as a share, >= 0.

    Returns:
        The p-value; 1 without pairs or margin, 0 for a margin above 1, which no two rates exceed.

    Example:
        >>> round(rates_within(0, 0, 60, 0.05), 4) == round(2 * 0.95**60, 4)
        True

    Source: Tango (1998), Statist. Med. 17:891; exact and unconditional as Sidik (2003), Statist. Med. 22:265.
    """
    _check(only_a, only_b, n)
    if margin > 1.0:
        return 0.0
    if n == 0 or margin <= 0.0:
        return 1.0
    return min(1.0, 2.0 * max(_below(only_a, only_b, n, margin), _below(only_b, only_a, n, margin)))


def share_excluded(gained: int, lost: int, n: int, share: float) -> float:
    """Test whether fewer than a given share of pairs gain, and fewer than that lose, what an exact bound on both says.

    Args:
        gained: pairs in which one arm alone succeeds.
        lost: pairs in which the other alone does.
        n: all pairs, >= gained + lost.
        share: the share to exclude, >= 0.

    Returns:
        Twice the probability of as few as seen at that share, for the less favourable of both; 0 for a share of 1 or
        more, 1 for a share of 0.

    Example:
        >>> round(share_excluded(0, 0, 6, 0.39), 3) == round(2 * 0.61**6, 3)
        True

    Source: Clopper, Pearson (1934), Biometrika 26:404.
    """
    _check(gained, lost, n)
    if share >= 1.0:
        return 0.0
    return float(min(1.0, 2.0 * stats.binom.cdf(max(gained, lost), n, max(share, 0.0))))


def _below(gained: int, lost: int, n: int, margin: float) -> float:
    """Return the largest probability of so small a gain if the true one is the margin."""
    if gained - lost >= margin * n:
        return 1.0
    k, j = (x.ravel() for x in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    k, j = k[k + j <= n], j[k + j <= n]
    z = _score(k, j, n, margin)
    inside = z <= _score(np.array([gained]), np.array([lost]), n, margin)[0] + 1e-9
    k, j = k[inside], j[inside]
    ways = _log_ways(k, j, n)

    def probability(q: NDArray[np.float64]) -> NDArray[np.float64]:
        # q: how often the worse arm alone succeeds; the better one does q + margin of the time
        return np.array([np.exp(ways + _log_power(k, j, n, float(x), margin)).sum() for x in q])

    return _largest(probability, (1.0 - margin) / 2.0, grid=40)


def _score(gained: NDArray[np.int64], lost: NDArray[np.int64], n: int, margin: float) -> NDArray[np.float64]:
    """Return Tango's statistic of the hypothesis that the gain is the margin."""
    b = -gained - lost + (2.0 * n - gained + lost) * margin
    c = -lost * margin * (1.0 - margin)
    q = (np.sqrt(np.maximum(b * b - 8.0 * n * c, 0.0)) - b) / (4.0 * n)
    variance = n * (2.0 * q + margin * (1.0 - margin))
    return (gained - lost - n * margin) / np.sqrt(np.maximum(variance, 1e-300))


def _log_ways(k: NDArray[np.int64], j: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))
    return factorial[n] - factorial[k] - factorial[j] - factorial[n - k - j]


def _log_power(k: NDArray[np.int64], j: NDArray[np.int64], n: int, q: float, margin: float) -> NDArray[np.float64]:
    parts = [(k, q + margin), (j, q), (n - k - j, max(1.0 - 2.0 * q - margin, 0.0))]
    total = np.zeros(k.size)
    for count, p in parts:
        total += np.where(count > 0, count * (math.log(p) if p > 0.0 else -np.inf), 0.0) if p > 0.0 else (
            np.where(count > 0, -np.inf, 0.0)
        )  # fmt: skip
    return total


def _largest(probability: Callable[[NDArray[np.float64]], NDArray[np.float64]], top: float, grid: int = GRID) -> float:
    """Return the largest value of a smooth function on [0, top]: the best of a grid, refined."""
    points = np.linspace(0.0, top, grid + 1)
    values = probability(points)
    best = int(values.argmax())
    ends = points[max(best - 1, 0)], points[min(best + 1, grid)]
    fine = optimize.minimize_scalar(lambda q: -probability(np.array([q]))[0], bounds=ends, method="bounded")
    return float(min(max(values[best], -fine.fun), 1.0))


def _check(only_a: int, only_b: int, n: int) -> None:
    check_counts(only_a=only_a, only_b=only_b, n=n)
    if only_a + only_b > n:
        raise ValueError(f"only_a + only_b is {only_a + only_b} of n = {n} pairs; it must be 0 to n.")
