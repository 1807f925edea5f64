import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from gradnoise.study.analysis.statistics import (
    BestOfK,
    Interval,
    bca_mean,
    best_of_k,
    finite_vector,
    holm,
    least_pairs,
    mcnemar_midp,
    newcombe_paired,
    pairs_to_decide_mean,
    pairs_to_decide_rate,
    sign_flip,
    wilson,
)

quick = settings(max_examples=60, deadline=None)
numbers = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)
tied = st.integers(-3, 3).map(float)
samples = st.lists(numbers, min_size=2, max_size=10) | st.lists(tied, min_size=2, max_size=10)
counts = st.integers(0, 60)


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


# Rates


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_published(successes, n, low, high):
    # Newcombe (1998), Statist. Med. 17:857, table I, method 3.
    interval = wilson(successes, n)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize("successes", range(8))
def test_wilson_solves_its_equation(successes):
    # Its ends are the rates p with |p_hat - p| = z sqrt(p (1 - p) / n).
    interval = wilson(successes, 7, 0.9)
    z = stats.norm.ppf(0.95)
    for p in (interval.low, interval.high):
        if 0.0 < p < 1.0:
            assert abs(successes / 7 - p) == pytest.approx(z * math.sqrt(p * (1 - p) / 7))


def test_wilson_without_trials_knows_nothing():
    assert wilson(0, 0, 0.9) == Interval(0.0, 1.0, 0.9)


def test_wilson_coverage_is_near_its_level():
    # Exact: summed over all outcomes, averaged over rates. Single rates dip below, which is known of it.
    n, rates = 20, np.linspace(0.02, 0.98, 97)
    intervals = [wilson(k, n) for k in range(n + 1)]
    held = np.array([[p in interval for interval in intervals] for p in rates])
    coverage = np.sum(held * stats.binom.pmf(np.arange(n + 1), n, rates[:, None]), axis=1)
    assert coverage.mean() == pytest.approx(0.95, abs=0.01)
    assert coverage.min() > 0.88


@quick
@given(counts, counts)
def test_wilson_holds_the_rate_and_mirrors(successes, failures):
    n = successes + failures
    a, b = wilson(successes, n), wilson(failures, n)
    assert n == 0 or successes / n in Interval(a.low - 1e-12, a.high + 1e-12, 0.95)
    assert (a.low, a.high) == (pytest.approx(1 - b.high, abs=1e-12), pytest.approx(1 - b.low, abs=1e-12))


def test_mcnemar_published():
    # Bentur et al. (2009) as in Fagerland et al. (2013), table 1: 7 and 1 discordant pairs.
    assert mcnemar_midp(7, 1) == pytest.approx(0.0391, abs=5e-5)
    assert mcnemar_midp(7, 1) == pytest.approx(stats.binomtest(1, 8).pvalue - stats.binom.pmf(1, 8, 0.5))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (0, 5), (3, 3), (2, 9), (30, 14)])
def test_mcnemar_against_sums(only_a, only_b):
    m, t = only_a + only_b, abs(only_a - only_b)
    farther = sum(math.comb(m, j) for j in range(m + 1) if abs(2 * j - m) > t)
    equal = sum(math.comb(m, j) for j in range(m + 1) if abs(2 * j - m) == t)
    expected = Fraction(2 * farther + equal, 2 * 2**m) if m else 1
    assert mcnemar_midp(only_a, only_b) == pytest.approx(float(expected), rel=1e-12)


def test_mcnemar_keeps_its_level():
    # Exact chance of p <= 0.05 between equal arms that disagree in a share q of 20 pairs, up to half.
    n, m = 20, range(21)
    given_m = [sum(stats.binom.pmf(b, k, 0.5) for b in range(k + 1) if mcnemar_midp(b, k - b) <= 0.05) for k in m]
    for q in np.linspace(0.05, 0.5, 10):
        assert np.sum(stats.binom.pmf(m, n, q) * given_m) <= 0.05


# Newcombe (1998), Statist. Med. 17:2635, table III, method 10: (both, only a, only b, neither), (low, high).
NEWCOMBE = [
    ((36, 12, 2, 0), (0.0569, 0.3404)),
    ((20, 12, 2, 16), (0.0562, 0.3292)),
    ((18, 12, 2, 18), (0.0562, 0.3290)),
    ((36, 14, 0, 0), (0.1528, 0.4167)),
    ((35, 14, 0, 1), (0.1461, 0.4175)),
    ((18, 14, 0, 18), (0.1441, 0.3963)),
    ((2, 97, 1, 0), (0.8721, 0.9854)),
    ((1, 97, 1, 1), (0.8736, 0.9850)),
    ((0, 29, 1, 0), (0.6666, 0.9882)),
    ((2, 98, 0, 0), (0.9178, 0.9945)),
    ((1, 98, 0, 1), (0.9171, 0.9916)),
    ((0, 30, 0, 0), (0.8395, 1.0)),
    ((54, 0, 0, 0), (-0.0664, 0.0664)),
    ((53, 0, 0, 1), (-0.0729, 0.0729)),
    ((30, 0, 0, 24), (-0.0358, 0.0358)),
    ((27, 0, 0, 27), (-0.0351, 0.0351)),
    # Cavo et al. (2012), in the R package contingencytables.
    ((59, 6, 16, 80), (-0.1186, -0.0046)),
]


@pytest.mark.parametrize(("cells", "expected"), NEWCOMBE)
def test_newcombe_published(cells, expected):
    interval = newcombe_paired(*cells)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1.01e-4)


@quick
@given(counts, counts, counts, counts)
def test_newcombe_holds_the_difference_and_mirrors(both, only_a, only_b, neither):
    n = both + only_a + only_b + neither
    a, b = newcombe_paired(both, only_a, only_b, neither), newcombe_paired(both, only_b, only_a, neither)
    assert -1.0 <= a.low <= a.high <= 1.0
    assert n == 0 or (only_a - only_b) / n in Interval(a.low - 1e-12, a.high + 1e-12, 0.95)
    assert (a.low, a.high) == (pytest.approx(-b.high, abs=1e-12), pytest.approx(-b.low, abs=1e-12))


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(5, 3),
        lambda: wilson(-1, 3),
        lambda: wilson(1.5, 3),  # pyright: ignore[reportArgumentType]
        lambda: wilson(1, 3, level=95),
        lambda: mcnemar_midp(-1, 0),
        lambda: newcombe_paired(1, 2, -3, 4),
    ],
)
def test_bad_counts_are_refused(call):
    with pytest.raises(ValueError, match="it must"):
        call()


# Paired differences


def sign_flip_by_hand(differences: list[int]) -> float:
    seen = abs(sum(differences))
    patterns = list(itertools.product((-1, 1), repeat=len(differences)))
    hits = sum(abs(sum(s * d for s, d in zip(p, differences, strict=True))) >= seen for p in patterns)
    return hits / len(patterns)


@quick
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8))
def test_sign_flip_against_enumeration(differences):
    assert sign_flip(differences, seed=0) == sign_flip_by_hand(differences)


def test_sign_flip_counts_ties_through_rounding():
    # Tenths are not exact in binary: their ties must count as they do among integers.
    differences = [1, 2, 3, 3, -2, 1, 4]
    assert sign_flip([0.1 * d for d in differences], seed=0) == sign_flip_by_hand(differences)


def test_sign_flip_agrees_with_scipy():
    differences = rng(1).normal(0.4, 1.0, size=11)
    oracle = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=2**11)
    assert sign_flip(differences, seed=0) == pytest.approx(oracle.pvalue)


def test_sign_flip_drawn_agrees_with_counted():
    differences = rng(2).normal(0.5, 1.0, size=17)
    counted = sign_flip(differences, seed=0, resamples=2**17)
    drawn = sign_flip(differences, seed=0, resamples=2**17 - 1)
    assert drawn != counted
    # Five standard errors: a false alarm once in two million seeds.
    assert abs(drawn - counted) < 5 * math.sqrt(counted * (1 - counted) / 2**17)


def test_sign_flip_never_draws_zero():
    assert sign_flip(np.ones(200), seed=0, resamples=999) == 1 / 1000


@pytest.mark.parametrize("differences", [[], [0.0], [0.0] * 7])
def test_sign_flip_without_a_difference_is_one(differences):
    assert sign_flip(differences, seed=0) == 1.0


@quick
@example([0.0, 1.0, -1.0], random.Random(0))
@given(samples, st.randoms(use_true_random=False))
def test_paired_statistics_know_no_order_and_no_favourite(differences, shuffler):
    shuffled = shuffler.sample(differences, len(differences))
    swapped = [-d for d in differences]
    for resamples in (2**10, 100):  # counted, drawn
        p = sign_flip(differences, seed=3, resamples=resamples)
        assert p == sign_flip(shuffled, seed=3, resamples=resamples)
        assert p == sign_flip(swapped, seed=3, resamples=resamples)
    interval = bca_mean(differences, seed=3, resamples=200)
    assert interval == bca_mean(shuffled, seed=3, resamples=200)
    mirrored = bca_mean(swapped, seed=3, resamples=200)
    assert (interval.low, interval.high) == (-mirrored.high, -mirrored.low)


@quick
@given(samples)
def test_bca_holds_the_mean_and_stays_inside_the_data(differences):
    interval = bca_mean(differences, seed=0, resamples=2000)
    slack = 1e-9 * max(abs(d) for d in differences)
    assert interval.low - slack <= np.mean(differences) <= interval.high + slack
    assert min(differences) - slack <= interval.low <= interval.high <= max(differences) + slack


def test_bca_agrees_with_scipy():
    differences = rng(3).exponential(size=30)
    oracle = stats.bootstrap((differences,), np.mean, n_resamples=20_000, rng=rng(4)).confidence_interval
    interval = bca_mean(differences, seed=5, resamples=20_000)
    assert (interval.low, interval.high) == pytest.approx(tuple(oracle), rel=0.02)


def test_bca_coverage():
    # 400 normal samples of 20: 0.93 +- 3.5 standard errors, a false alarm once in two thousand seeds.
    data = rng(6).normal(size=(400, 20))
    held = np.mean([0.0 in bca_mean(d, seed=i, resamples=500) for i, d in enumerate(data)])
    assert abs(held - 0.93) < 3.5 * math.sqrt(0.93 * 0.07 / 400)


def test_bca_at_its_edges():
    assert bca_mean([], seed=0) == bca_mean([2.5], seed=0) == Interval(-math.inf, math.inf, 0.95)
    assert bca_mean([2.5] * 4, 0.9, seed=0) == Interval(2.5, 2.5, 0.9)
    # Equal but for rounding: 0.3 and 0.1 + 0.2.
    assert bca_mean([0.3, 0.1 + 0.2, 0.3], seed=0).high == pytest.approx(0.3)
    for scale in (1e-200, 1e200):
        interval = bca_mean([scale, 2 * scale, 4 * scale], seed=0)
        assert scale <= interval.low < interval.high <= 4 * scale


def test_seeds_decide_and_nothing_else_does():
    differences = rng(7).normal(size=25)
    state = str(np.random.get_state())
    for function in (bca_mean, sign_flip, lambda d, seed: best_of_k(d, 5, seed=seed)):
        assert function(differences, seed=1) == function(differences, seed=1)
        assert function(differences, seed=1) != function(differences, seed=2)
    assert str(np.random.get_state()) == state


def test_nan_is_named():
    with pytest.raises(ValueError, match=r"differences\[1\] is nan.*must be finite"):
        sign_flip([1.0, math.nan], seed=0)
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        finite_vector([[1.0, 2.0]], "values")
    for call in (
        bca_mean,
        sign_flip,
        lambda d, seed, resamples: best_of_k(d, 1, seed=seed, resamples=resamples),
    ):
        with pytest.raises(ValueError, match="resamples is 0"):
            call([1.0, 2.0], seed=0, resamples=0)


# Best of k restarts


@quick
@given(samples, st.data())
def test_best_of_k_is_the_average_over_subsets(values, data):
    k = data.draw(st.integers(1, len(values)))
    result = best_of_k(values, k, seed=0, resamples=50)
    expected = np.mean([max(subset) for subset in itertools.combinations(values, k)])
    assert result.best == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert result.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)


@quick
@given(samples, st.data())
def test_best_of_k_mirrors(values, data):
    k = data.draw(st.integers(1, len(values)))
    high = best_of_k(values, k, seed=0, resamples=50)
    low = best_of_k([-v for v in values], k, seed=0, resamples=50, maximise=False)
    assert low.best == -high.best
    for mirrored, interval in ((low.best_interval, high.best_interval), (low.spread, high.spread)):
        assert (mirrored.low, mirrored.high) == (-interval.high, -interval.low)


def test_best_of_one_is_the_mean():
    values = rng(8).normal(size=40)
    result = best_of_k(values, 1, seed=0)
    assert result.best == pytest.approx(result.mean)
    assert result.best_interval.low == pytest.approx(result.mean_interval.low, abs=0.05)


def test_best_of_k_of_uniform_restarts():
    # Best of 10 uniform numbers: mean 10/11, quantiles q^(1/10).
    result = best_of_k(rng(9).random(4000), 10, seed=0, resamples=300)
    assert result.best == pytest.approx(10 / 11, abs=0.01)
    assert result.best in result.best_interval
    assert result.best_interval.high - result.best_interval.low < 0.02
    assert (result.spread.low, result.spread.high) == pytest.approx((0.025**0.1, 0.975**0.1), abs=0.02)


def test_best_of_k_spread_is_where_one_result_falls():
    # Of 4000 best-of-10 results drawn anew, 95% +- 5 standard errors fall into the spread of 2000 restarts.
    generator = rng(10)
    result = best_of_k(generator.normal(size=2000), 10, seed=0, resamples=100)
    fresh = generator.normal(size=(4000, 10)).max(axis=1)
    held = np.mean([x in result.spread for x in fresh])
    assert abs(held - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 4000) + 0.01


def test_best_of_k_at_its_edges():
    alone = best_of_k([3.0], 1, seed=0)
    unknown = Interval(-math.inf, math.inf, 0.95)
    assert alone == BestOfK(1, 1, 3.0, unknown, Interval(3.0, 3.0, 0.95), 3.0, unknown)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k is {k} with 3 restarts"):
            best_of_k([1.0, 2.0, 3.0], k, seed=0)


# Families


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@quick
@given(st.lists(st.floats(0.0, 1.0), max_size=12))
def test_holm_is_above_raw_in_the_same_order(pvalues):
    adjusted = holm(pvalues)
    assert np.all(adjusted >= pvalues) and np.all(adjusted <= 1.0)
    assert np.all(np.diff(adjusted[np.argsort(pvalues, kind="stable")]) >= 0.0)
    assert np.array_equal(holm(pvalues[::-1]), adjusted[::-1])


def test_holm_keeps_the_level_of_the_family():
    # 4000 families of 5 true nulls: any claim in 5%; four standard errors, a false alarm once in 30000 seeds.
    families = rng(11).random((4000, 5))
    claimed = np.mean([holm(p).min() <= 0.05 for p in families])
    assert claimed < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 4000)


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"span 0\.1 to 1\.2"):
        holm([0.1, 1.2])


# How many pairs


def test_least_pairs_is_where_the_test_can_first_decide():
    for alpha in (0.1, 0.0625, 0.05, 1 - 0.95, 0.01, 0.001):
        n = least_pairs(alpha)
        assert sign_flip(np.arange(1.0, n + 1), seed=0) <= alpha < sign_flip(np.arange(1.0, n), seed=0)


@pytest.mark.parametrize("effect", [0.3, 0.5, 0.8, 1.2])
def test_pairs_to_decide_mean_against_exact_power(effect):
    # Two differences of this mean and spread 1; power of the t test from the noncentral t distribution.
    d = np.array([effect - math.sqrt(0.5), effect + math.sqrt(0.5)])
    n = pairs_to_decide_mean(d)
    assert n is not None

    def power(n: int) -> float:
        t = stats.t.ppf(0.975, n - 1)
        return float(stats.nct.sf(t, n - 1, effect * n**0.5) + stats.nct.cdf(-t, n - 1, effect * n**0.5))

    assert power(n + 1) >= 0.8 > power(n - 2)


def test_pairs_to_decide_mean_decides_as_often_as_promised():
    # 600 studies of the promised size: the sign-flip test reaches 0.05 in about 80% of them.
    generator = rng(12)
    seen = generator.normal(size=5)
    seen = 0.9 + (seen - seen.mean()) / seen.std(ddof=1)
    n = pairs_to_decide_mean(seen)
    assert n is not None
    decided = [sign_flip(generator.normal(0.9, 1.0, size=n), seed=0) <= 0.05 for _ in range(600)]
    assert abs(np.mean(decided) - 0.8) < 0.08


def test_pairs_to_decide_that_there_is_no_difference():
    # Mean 0, spread 1, margin 0.5: the interval +- 1.96 / sqrt(n) fits into the margin with chance 0.8.
    n = pairs_to_decide_mean([-math.sqrt(0.5), math.sqrt(0.5)], margin=0.5)
    assert n is not None

    def power(n: int) -> float:
        return float(2.0 * stats.norm.cdf(0.5 * math.sqrt(n) - stats.norm.ppf(0.975)) - 1.0)

    assert power(n) >= 0.8 > power(n - 1)


def test_pairs_to_decide_mean_at_its_edges():
    assert pairs_to_decide_mean([]) is pairs_to_decide_mean([1.0]) is None
    assert pairs_to_decide_mean([1.0, -1.0]) is None
    assert pairs_to_decide_mean([1.0, 1.0]) == pairs_to_decide_mean([0.0, 0.0]) == least_pairs(0.05)
    assert pairs_to_decide_mean([0.1, 0.2, -0.3]) is None  # 0 but for rounding
    for margin in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="margin is"):
            pairs_to_decide_mean([1.0, 2.0], margin=margin)


@quick
@given(samples, st.floats(0.0, 10.0))
def test_pairs_to_decide_mean_knows_no_favourite(differences, margin):
    swapped = [-d for d in differences]
    assert pairs_to_decide_mean(differences, margin=margin) == pairs_to_decide_mean(swapped, margin=margin)


@pytest.mark.parametrize(("p_only_a", "p_only_b"), [(0.4, 0.1), (0.3, 0.05), (0.1, 0.4), (0.5, 0.0)])
def test_pairs_to_decide_rate_against_exact_power(p_only_a, p_only_b):
    n = pairs_to_decide_rate(p_only_a, p_only_b)
    assert n is not None
    discordant = p_only_a + p_only_b
    power = sum(
        stats.binom.pmf(m, n, discordant) * stats.binom.pmf(b, m, p_only_a / discordant)
        for m in range(n + 1)
        for b in range(m + 1)
        if mcnemar_midp(b, m - b) <= 0.05
    )
    assert 0.75 < power < 0.92


def test_pairs_to_decide_rate_at_its_edges():
    assert pairs_to_decide_rate(0.2, 0.2) is None
    n = pairs_to_decide_rate(1.0, 0.0)
    assert n is not None
    assert mcnemar_midp(n, 0) <= 0.05 < mcnemar_midp(n - 1, 0)
    for a, b in ((-0.1, 0.2), (0.6, 0.6), (math.nan, 0.1)):
        with pytest.raises(ValueError, match="p_only_a, p_only_b are"):
            pairs_to_decide_rate(a, b)
    with pytest.raises(ValueError, match="power is 80"):
        pairs_to_decide_rate(0.4, 0.1, power=80)


# Another library, where it is installed


def test_against_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    power = pytest.importorskip("statsmodels.stats.power")
    pvalues = rng(13).random(20) ** 3
    assert holm(pvalues) == pytest.approx(multitest.multipletests(pvalues, method="holm")[1])
    for successes, n in ((0, 9), (4, 9), (37, 41)):
        interval = wilson(successes, n, 0.9)
        oracle = proportion.proportion_confint(successes, n, alpha=0.1, method="wilson")
        assert (interval.low, interval.high) == pytest.approx(oracle)
    needed = power.TTestPower().solve_power(effect_size=0.5, alpha=0.05, power=0.8)
    assert abs((pairs_to_decide_mean([0.5 - math.sqrt(0.5), 0.5 + math.sqrt(0.5)]) or 0) - needed) < 1.5
