"""How many pairs a comparison needs."""

from __future__ import annotations

import math

from scipy import stats

from gradnoise.study.analysis.statistics.arguments import ROUNDING, check_fraction


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
    # Where one arm alone ever succeeds, it takes some pairs in which it does, and as many pairs as any test needs.
    least = least_pairs(alpha)
    return math.ceil(max((root / difference) ** 2, (least - 1) / discordant, least))
