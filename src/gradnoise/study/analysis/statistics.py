"""Rates, paired tests and intervals of a study: pure functions on numpy arrays.

Two arms of a study are compared over pairs: trials with the same seed that differ in the arm alone. Every
function that resamples takes its seed. None depends on the order of the pairs; swapping the arms changes the
sign of a difference and nothing else, not one bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Vector = NDArray[np.float64]

# Differences that agree to this part of the largest one are equal: they differ by rounding alone.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval, ends included; `x in interval` asks whether it holds x."""

    low: float
    high: float
    level: float
    """Confidence level, in (0, 1)."""

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class BestOfK:
    """What the best of k restarts is worth, and beside it what an ordinary restart is worth."""

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


def finite_vector(values: ArrayLike, name: str) -> Vector:
    """One-dimensional float64 array of finite numbers.

    Args:
        values: numbers, shape [n], n >= 0.
        name: what to call them in an error.

    Raises:
        ValueError: if there is another shape, a nan or an infinity; the first such element is named.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} has shape {vector.shape}; give one number per pair, shape [n].")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise ValueError(
            f"{name}[{bad[0]}] is {vector[bad[0]]}, and all must be finite; give a diverged run the value "
            "that the metric has for a broken model."
        )
    return vector


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson score interval of a success rate.

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
    _check_fraction(level, "level")
    _check_counts(successes=successes, n=n)
    if successes > n:
        raise ValueError(f"successes is {successes} of n = {n}; it must be 0 to n.")
    if n == 0:
        return Interval(0.0, 1.0, level)
    low, high = stats.binomtest(int(successes), int(n)).proportion_ci(level, method="wilson")
    return Interval(float(low), float(high), level)


def scaled(interval: Interval, factor: float) -> Interval:
    """The interval in another unit; factor > 0."""
    return Interval(factor * interval.low, factor * interval.high, interval.level)


def mcnemar_midp(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test with mid-p: do two arms succeed equally often?

    Given only_a + only_b = m pairs in which one arm alone succeeds, only_a ~ Binomial(m, 1/2) if the arms are
    equal. With T = |only_a - only_b|, mid-p = P(T > t) + P(T = t) / 2. It keeps its level unless the arms
    disagree in most pairs, without the exact test's waste.

    Args:
        only_a: pairs in which arm a alone succeeds.
        only_b: pairs in which arm b alone succeeds.

    Returns:
        The p-value; 1 if no pair differs.

    Source: Fagerland, Lydersen, Laake (2013), BMC Med. Res. Methodol. 13:91.
    """
    _check_counts(only_a=only_a, only_b=only_b)
    m, fewer = only_a + only_b, min(only_a, only_b)
    if m == 0:
        return 1.0
    point = stats.binom.pmf(fewer, m, 0.5)
    if only_a == only_b:
        return float(1.0 - point / 2.0)
    return float(2.0 * stats.binom.cdf(fewer, m, 0.5) - point)


def newcombe_paired(both: int, only_a: int, only_b: int, neither: int, level: float = 0.95) -> Interval:
    """Interval of the difference of two paired success rates, rate of a minus rate of b.

    The Wilson intervals of the two rates, squared and added, with their correlation phi taken off; phi is
    shrunk towards 0 when positive (method 10).

    Args:
        both: pairs in which both arms succeed.
        only_a: pairs in which arm a alone succeeds.
        only_b: pairs in which arm b alone succeeds.
        neither: pairs in which no arm succeeds; without any pair the interval is (-1, 1).
        level: confidence level, in (0, 1).

    Source: Newcombe (1998), Statist. Med. 17:2635, method 10.
    """
    _check_fraction(level, "level")
    _check_counts(both=both, only_a=only_a, only_b=only_b, neither=neither)
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


def sign_flip(differences: ArrayLike, *, seed: int, resamples: int = 100_000) -> float:
    """Two-sided paired permutation test of the mean difference.

    If the arms are equal, swapping them in any pair changes nothing: each difference is as likely with either
    sign. p is the share of the 2^n sign patterns whose |mean| is at least the one seen. All patterns are
    counted if 2^n <= resamples; otherwise that many are drawn, and p = (1 + hits) / (1 + resamples).

    Args:
        differences: treatment minus baseline, one per pair, shape [n]. Zeros change no sum and are left out.
        seed: seed of the patterns drawn.
        resamples: patterns to draw, >= 1.

    Returns:
        The p-value: never below 2 / 2^n when all patterns are counted; 1 without a difference other than 0.

    Source: Fisher (1935), The Design of Experiments, section 21; the added ones: Phipson, Smyth (2010).
    """
    _check_resamples(resamples)
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


def bca_mean(differences: ArrayLike, level: float = 0.95, *, seed: int, resamples: int = 10_000) -> Interval:
    """Bootstrap interval of the mean: bias-corrected and accelerated (BCa).

    Args:
        differences: treatment minus baseline, one per pair, shape [n].
        level: confidence level, in (0, 1).
        seed: seed of the resamples.
        resamples: bootstrap samples, >= 1.

    Returns:
        The interval; too short for small n (the documentation has the measured coverage). (-inf, inf) for
        n < 2, where the spread is unknown. (d, d) if all differences equal d: the bootstrap then sees no
        spread, which says little when n is small.

    Source: Efron (1987), JASA 82:171.
    """
    _check_fraction(level, "level")
    _check_resamples(resamples)
    d = finite_vector(differences, "differences")
    # Of a sample and its mirror image the same one is resampled: swapping the arms mirrors the interval.
    sample, mirrored = np.sort(d), np.sort(-d)
    if d.any() and np.array_equal(sample, mirrored):  # its own mirror image, as the interval has to be
        interval = _bca(sample, level, seed, resamples)
        half = (interval.high - interval.low) / 2
        return Interval(-half, half, level)
    if sample.tolist() >= mirrored.tolist():
        return _bca(sample, level, seed, resamples)
    return _mirror(_bca(mirrored, level, seed, resamples))


def best_of_k(
    values: ArrayLike,
    k: int,
    level: float = 0.95,
    *,
    seed: int,
    maximise: bool = True,
    resamples: int = 10_000,
) -> BestOfK:
    """Expected best of k restarts, with its interval, beside the mean restart.

    The expectation is the average over all subsets of k of the n values seen: the i-th smallest is the best
    of C(i-1, k-1) of the C(n, k) subsets. Its interval is a percentile bootstrap, which knows no better run
    than those seen: take n of 10 k or more (the documentation has the measured coverage).

    Args:
        values: the metric of each restart, shape [n].
        k: restarts of which the best is kept, 1..n.
        level: confidence level, in (0, 1).
        seed: seed of the resamples.
        maximise: whether the best is the largest value.
        resamples: bootstrap samples, >= 1.

    Raises:
        ValueError: if k is not in 1..n.

    Source: Dodge et al. (2019), EMNLP, section 3; without replacement as Tang et al. (2020), ACL.
    """
    _check_fraction(level, "level")
    _check_resamples(resamples)
    values = finite_vector(values, "values")
    n, sign = values.size, 1.0 if maximise else -1.0
    if not 1 <= k <= n:
        raise ValueError(f"k is {k} with {n} restarts; it must be 1 to {n}, or run more restarts.")
    signed = np.sort(sign * values)
    tails = np.array([(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    expected = np.quantile(_resample(signed, seed, resamples) @ _best_weights(n, k), tails)
    # The best of k lies below x with probability F(x)^k: its q-quantile is that of one restart at q^(1/k).
    single = np.quantile(signed, tails ** (1.0 / k), method="inverted_cdf")
    return BestOfK(
        k=k,
        n=n,
        best=sign * float(signed @ _best_weights(n, k)),
        best_interval=_ordered(sign * expected, level) if n > 1 else _unknown(level),
        spread=_ordered(sign * single, level),
        mean=math.fsum(values / n),
        mean_interval=bca_mean(values, level, seed=seed, resamples=resamples),
    )


def holm(pvalues: ArrayLike) -> Vector:
    """Holm's adjusted p-values: the chance of any false claim in the family stays below the level.

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1.

    Args:
        pvalues: raw p-values of one family, shape [m], each in [0, 1].

    Returns:
        Adjusted p-values in the order given, shape [m].

    Source: Holm (1979), Scand. J. Statist. 6:65.
    """
    p = finite_vector(pvalues, "pvalues")
    if p.size and not 0.0 <= p.min() <= p.max() <= 1.0:
        raise ValueError(f"pvalues span {p.min()} to {p.max()}; each must be in [0, 1].")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def least_pairs(alpha: float = 0.05) -> int:
    """Fewest pairs with which the sign-flip test can reach p <= alpha: the least n with 2 / 2^n <= alpha.

    Example:
        >>> least_pairs(0.05)
        6
    """
    _check_fraction(alpha, "alpha")
    return math.ceil(1.0 - math.log2(alpha))


def pairs_to_decide_rate(p_only_a: float, p_only_b: float, *, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Pairs with which McNemar's test would tell two success rates apart.

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
    _check_fraction(alpha, "alpha")
    _check_fraction(power, "power")
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
    """Pairs that would decide about the mean, if mean m and deviation s of the differences are as seen.

    The lesser of two numbers. A difference shows at n = ((z_{1-alpha/2} + z_power) s / m)^2 +
    z_{1-alpha/2}^2 / 2. That none matters shows, if |m| < margin, at
    n = ((z_{1-alpha/2} + z_{(1+power)/2}) s / (margin - |m|))^2.

    Args:
        differences: treatment minus baseline, one per pair, shape [n].
        margin: largest difference that does not matter, >= 0, in the unit of the differences; 0: none such.
        alpha: two-sided level of the test, in (0, 1).
        power: chance to reach it, in (0, 1).

    Returns:
        The number of pairs, at least `least_pairs(alpha)`. None if n < 2, where the spread is unknown, and if
        the mean difference is 0 and the margin too, where no number of pairs would decide.

    Source: Guenther (1981), Am. Stat. 35:243 (t test); Chow, Shao, Wang (2008), section 3.1 (equivalence).
    """
    _check_fraction(power, "power")
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


def check_margin(margin: float) -> None:
    """Raise ValueError unless the margin is a finite number >= 0."""
    if not 0.0 <= margin < math.inf:
        raise ValueError(f"margin is {margin}; it must be a finite number >= 0, in the unit of the metric.")


def _check_fraction(value: float, name: str) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} is {value}; it must lie between 0 and 1: 0.95 is a level, 0.05 an alpha.")


def _check_resamples(resamples: int) -> None:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1.")


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 0 or count != int(count):
            raise ValueError(f"{name} is {count}; it must be a whole number >= 0.")


def _phi(cross: int, wins_a: int, wins_b: int, n: int) -> float:
    product = wins_a * (n - wins_a) * wins_b * (n - wins_b)
    if product == 0:
        return 0.0
    return (max(cross - n / 2.0, 0.0) if cross > 0 else cross) / math.sqrt(product)


def _add_squares(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(x * x - 2.0 * phi * x * y + y * y, 0.0))


def _every_signed_sum(magnitudes: Vector) -> Vector:
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


def _best_weights(n: int, k: int) -> Vector:
    # C(i-1, k-1) / C(n, k) for i = 1..n: k/n at the top, then downwards by the ratio (i-k)/(i-1).
    i = np.arange(n, 1, -1)
    return np.concatenate(([1.0], np.cumprod(np.maximum(i - k, 0) / (i - 1))))[::-1] * (k / n)


def _resample(ordered: Vector, seed: int, resamples: int) -> Vector:
    # Shape [resamples, n], each row drawn with replacement and sorted; sorting the indices sorts the values.
    rng = np.random.Generator(np.random.PCG64(seed))
    return ordered[np.sort(rng.integers(0, ordered.size, size=(resamples, ordered.size)), axis=1)]


def _bca(sample: Vector, level: float, seed: int, resamples: int) -> Interval:
    if sample.size < 2:
        return _unknown(level)
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


def _unknown(level: float) -> Interval:
    return Interval(-math.inf, math.inf, level)


def _ordered(ends: Vector, level: float) -> Interval:
    return Interval(float(ends.min()), float(ends.max()), level)


def _mirror(interval: Interval) -> Interval:
    return Interval(-interval.high, -interval.low, interval.level)
