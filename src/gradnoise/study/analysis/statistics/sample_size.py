"""How many pairs a comparison needs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gradnoise.study.analysis.statistics.arguments import ROUNDING, check_fraction, check_margin, finite_vector


def least_pairs(alpha: float = 0.05) -> int:
    """Return the fewest pairs with which the sign-flip test can reach p <= alpha: the least n with 2 / 2^n <= alpha.

    Example:
        >>> least_pairs(0.05)
        6
    """
    check_fraction(alpha, "alpha")
    return math.ceil(1.0 - math.log2(alpha))


def pairs_to_decide_rate(p_only_a: float, p_only_b: float, *, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Return the number of pairs with which McNemar's test would tell two success rates apart.

    n = (z_{1-alpha/2} sqrt(s) + z_power sqrt(s - d^2))^2 / d^2, where s = p_only_a + p_only_b and
    d = p_only_a - p_only_b.

    Args:
        p_only_a: probability that arm a alone succeeds, in [0, 1].
        p_only_b: probability that arm b alone succeeds, in [0, 1 - p_only_a].
        alpha: two-sided level of the test, in (0, 1).
        power: chance to reach it, in (0, 1).

    Returns:
        The number of pairs; None if the rates are equal, which no number of pairs can tell apart.

    Source: Miettinen (1968), Biometrics 24:339; Connor (1987), Biometrics 43:207.
    """
    check_fraction(alpha, "alpha")
    check_fraction(power, "power")
    if not (p_only_a >= 0.0 and p_only_b >= 0.0 and p_only_a + p_only_b <= 1.0 + ROUNDING):
        raise ValueError(f"p_only_a, p_only_b are {p_only_a}, {p_only_b}; both must be >= 0, their sum <= 1.")
    discordant, difference = p_only_a + p_only_b, abs(p_only_a - p_only_b)
    if difference <= ROUNDING:
        return None
    z_alpha, z_power = stats.norm.ppf([1.0 - alpha / 2.0, power])
    root = z_alpha * math.sqrt(discordant) + z_power * math.sqrt(max(discordant - difference**2, 0.0))
    # m pairs that all differ in one direction give mid-p = 2^-m: n times the discordant share must reach m.
    floor = (least_pairs(alpha) - 1) / discordant
    return math.ceil(max((root / difference) ** 2, floor))


def pairs_to_decide_mean(
    differences: ArrayLike, *, margin: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Return the number of pairs that would decide about the mean, if the differences go on as seen.

    Let m be their mean and s their standard deviation. The result is the smaller of two numbers. A difference shows
    at n = ((z_{1-alpha/2} + z_power) s / m)^2 + z_{1-alpha/2}^2 / 2. That no difference matters shows, if |m| < margin,
    at n = ((z_{1-alpha/2} + z_{(1+power)/2}) s / (margin - |m|))^2.

    Args:
        differences: treatment minus baseline, one per pair, shape [n].
        margin: largest difference that does not matter, >= 0, in the unit of the differences; 0 where each matters.
        alpha: two-sided level of the test, in (0, 1).
        power: chance to reach it, in (0, 1).

    Returns:
        The number of pairs, at least `least_pairs(alpha)`. None if n < 2, where the spread is unknown, and if
        the mean difference is 0 and the margin too, where no number of pairs would decide.

    Source: Guenther (1981), Am. Stat. 35:243 (t test); Chow, Shao, Wang (2008), section 3.1 (equivalence).
    """
    check_fraction(power, "power")
    least = least_pairs(alpha)
    check_margin(margin)
    d = finite_vector(differences, "differences")
    if d.size < 2:
        return None
    largest = float(np.abs(d).max())
    if np.ptp(d) <= ROUNDING * largest:
        return least
    mean, spread = abs(math.fsum(d / d.size)), largest * float(np.std(d / largest, ddof=1))
    z_alpha, z_power, z_both = stats.norm.ppf([1.0 - alpha / 2.0, power, (1.0 + power) / 2.0])
    needed = []
    if mean > ROUNDING * largest:
        needed.append(((z_alpha + z_power) * spread / mean) ** 2 + z_alpha**2 / 2.0)
    if margin - mean > ROUNDING * largest:
        needed.append(((z_alpha + z_both) * spread / (margin - mean)) ** 2)
    return max(math.ceil(min(needed)), least) if needed else None
