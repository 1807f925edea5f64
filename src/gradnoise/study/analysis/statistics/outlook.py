"""What an undecided comparison could have seen, and how many pairs would decide it: ranges, not points.

Mean and spread of a few differences are uncertain, and the number of pairs that they call for by a factor of ten.
So each is taken at both ends of its 80% interval.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gradnoise.study.analysis.statistics.arguments import (
    check_fraction,
    check_margin,
    finite_vector,
    mean_and_spread,
)
from gradnoise.study.analysis.statistics.rates import clopper_pearson
from gradnoise.study.analysis.statistics.sample_size import least_pairs, pairs_to_decide_rate

CONFIDENCE = 0.8
POWER = 0.8
_LEAST = 1e-6  # of a spread: smaller differences would take 10^12 pairs


@dataclass(frozen=True)
class Pairs:
    """How many pairs would decide."""

    low: int
    """If mean and spread are as favourable as the pairs seen allow."""
    high: int | None
    """If they are as unfavourable; None where no number would do then."""


def outlook_mean(
    differences: ArrayLike, *, margin: float | None = None, alpha: float = 0.05, unseen: float = 0.0
) -> Pairs | None:
    """Return the range of pairs that would decide about a mean difference with a chance of 80%.

    A difference shows with m / s = d at ((z_{1-alpha/2} + z_{0.8}) / d)^2 + z_{1-alpha/2}^2 / 2 pairs; that none
    matters at ((z_{1-alpha/2} + z_{0.9}) s / (margin - |m|))^2. The ends take d, m and s at the ends of their 80%
    intervals; at each end the smaller of both numbers counts.

    Args:
        differences: treatment minus baseline, one per pair, shape [n].
        margin: largest difference that does not matter, >= 0; None where none was declared.
        alpha: two-sided level of the test after adjustment, in (0, 1).
        unseen: pairs that the proof of no difference needs in any case.

    Returns:
        The range, at least `least_pairs(alpha)`; None if n < 2 or all differences are equal: a spread is unknown.

    Source: Guenther (1981), Am. Stat. 35:243; Chow, Shao, Wang (2008), section 3.1; standard error of d: Hedges
    (1981), J. Educ. Stat. 6:107.
    """
    least = least_pairs(alpha)
    d = finite_vector(differences, "differences")
    found = mean_and_spread(d)
    if found is None:
        return None
    n, mean, spread = d.size, abs(found[0]), found[1]
    z_alpha, z_power, z_both = stats.norm.ppf([1.0 - alpha / 2.0, POWER, (1.0 + POWER) / 2.0])
    z = float(stats.norm.ppf((1.0 + CONFIDENCE) / 2.0))
    effect = mean / spread
    error = z * math.sqrt(1.0 / n + effect**2 / (2.0 * (n - 1)))
    half = float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, n - 1)) * spread / math.sqrt(n)
    spreads = spread * np.sqrt((n - 1) / stats.chi2.ppf([0.9, 0.1], n - 1))

    def shows(size: float) -> float:
        return ((z_alpha + z_power) / size) ** 2 + z_alpha**2 / 2.0 if size > _LEAST else math.inf

    def absent(size: float, s: float) -> float:
        if margin is None or margin - size <= _LEAST * s:
            return math.inf
        return max(((z_alpha + z_both) * s / (margin - size)) ** 2, unseen)

    low = min(shows(effect + error), absent(max(mean - half, 0.0), float(spreads[0])))
    high = min(shows(effect - error), absent(mean + half, float(spreads[1])))
    return _range(low, high, least)


def outlook_rate(gained: int, lost: int, n: int, *, alpha: float = 0.05, unseen: float = math.inf) -> Pairs | None:
    """Return the range of pairs with which McNemar's test would tell two rates apart with a chance of 80%.

    Args:
        gained: pairs in which the treatment alone succeeds.
        lost: pairs in which the baseline alone does.
        n: all pairs.
        alpha: two-sided level of the test after adjustment, in (0, 1).
        unseen: pairs that would prove that there is no difference, if no pair differs.

    Returns:
        The range, from the ends of exact 80% intervals of both shares; None without pairs.
    """
    if n == 0:
        return None
    more, less = max(gained, lost), min(gained, lost)
    a, b = clopper_pearson(more, n, CONFIDENCE), clopper_pearson(less, n, CONFIDENCE)
    best = pairs_to_decide_rate(a.high, min(b.low, 1.0 - a.high), alpha=alpha)
    worst = pairs_to_decide_rate(a.low, min(b.high, 1.0 - a.low), alpha=alpha) if a.low > b.high else None
    same = unseen if gained + lost == 0 else math.inf
    low, high = min(best or math.inf, same), min(worst or math.inf, same if a.low <= b.high else math.inf)
    return _range(low, high, least_pairs(alpha))


def _range(low: float, high: float, least: int) -> Pairs | None:
    if not math.isfinite(low):
        return None
    first = max(math.ceil(low), least)
    return Pairs(first, max(math.ceil(high), first) if math.isfinite(high) else None)


def detectable_mean(
    differences: ArrayLike, *, alpha: float = 0.05, least: int | None = None, power: float = POWER
) -> float | None:
    """Return the smallest mean difference that so many pairs would have shown, if they spread as seen.

    Args:
        differences: treatment minus baseline, one per pair, shape [n].
        alpha: two-sided level of the test after adjustment, in (0, 1).
        least: pairs with which the test can reject at all; None for `least_pairs(alpha)`.
        power: chance to show it, in (0, 1).

    Returns:
        (z_{1-alpha/2} + z_power) s / sqrt(n - z_{1-alpha/2}^2 / 2), which `outlook_mean` inverts; None with fewer
        pairs than `least`, which show no difference whatever its size, and without a spread.
    """
    d = finite_vector(differences, "differences")
    found = mean_and_spread(d)
    return None if found is None else effect_shown(found[1], d.size, alpha=alpha, least=least, power=power)


def effect_shown(
    spread: float, n: int, *, alpha: float = 0.05, least: int | None = None, power: float = POWER
) -> float | None:
    """Return the smallest mean difference that n pairs of a given spread show; what `pairs_for_effect` inverts.

    Args:
        spread: standard deviation of the differences, >= 0.
        n: pairs.
        alpha, least, power: see `detectable_mean`.
    """
    check_fraction(power, "power")
    z_alpha, z_power = stats.norm.ppf([1.0 - alpha / 2.0, power])
    rest = n - z_alpha**2 / 2.0
    if n < (least_pairs(alpha) if least is None else least) or rest <= 0.0:
        return None
    return float((z_alpha + z_power) * spread / math.sqrt(rest))


def detectable_rate(lost: int, n: int, *, alpha: float = 0.05, power: float = POWER) -> float | None:
    """Return the smallest gain of a success rate that so many pairs would have shown.

    Args:
        lost: pairs in which the less successful arm alone succeeds; their share is taken as given.
        n: all pairs.
        alpha: two-sided level of the test after adjustment, in (0, 1).
        power: chance to show it, in (0, 1).

    Returns:
        The gain, in (0, 1]; None if not even the largest possible one shows.
    """
    check_fraction(power, "power")
    if n == 0:
        return None
    share, steps = lost / n, 1000
    if share >= 0.5:
        return None

    def shows(step: int) -> bool:
        gain = (1.0 - 2.0 * share) * step / steps
        needed = pairs_to_decide_rate(share + gain, share, alpha=alpha, power=power)
        return needed is not None and needed <= n

    first = bisect.bisect_left(range(1, steps + 1), True, key=shows) + 1
    return (1.0 - 2.0 * share) * first / steps if first <= steps else None


def pairs_for_effect(
    spread: float, effect: float, *, alpha: float = 0.05, least: int | None = None, power: float = POWER
) -> int:
    """Return how many pairs show a mean difference of a given size with a chance of `power`.

    Args:
        spread: standard deviation of the differences, >= 0.
        effect: mean difference to show, > 0, in the same unit.
        alpha: two-sided level of the test after adjustment, in (0, 1).
        least: pairs with which the test can reject at all; None for `least_pairs(alpha)`.
        power: chance to show it, in (0, 1).

    Raises:
        ValueError: if the effect is not > 0 or the spread is negative.
    """
    check_margin(spread)
    if not 0.0 < effect < math.inf:
        raise ValueError(f"effect is {effect}; it must be a finite number > 0, in the unit of the metric.")
    z_alpha, z_power = stats.norm.ppf([1.0 - alpha / 2.0, power])
    needed = math.ceil(((z_alpha + z_power) * spread / effect) ** 2 + z_alpha**2 / 2.0)
    return max(needed, least_pairs(alpha) if least is None else least)
