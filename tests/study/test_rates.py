"""Success rates: intervals and exact tests against published values, sums by hand, and their laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from scipy import stats
from support.samples import counts, quick

from gradnoise.study.analysis.statistics import (
    Interval,
    clopper_pearson,
    fisher_exact,
    mcnemar_exact,
    mcnemar_unconditional,
    newcombe_paired,
    rates_within,
    wilson,
)


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
        lambda: mcnemar_unconditional(3, 4, 6),
        lambda: rates_within(3, 4, 6, 0.1),
        lambda: newcombe_paired(1, 2, -3, 4),
        lambda: clopper_pearson(5, 3),
        lambda: mcnemar_exact(0, -1),
        lambda: fisher_exact(1, 2, 4, 3),
    ],
)
def test_bad_counts_are_refused(call):
    with pytest.raises(ValueError, match="it must"):
        call()


# The exact ones


@pytest.mark.parametrize("n", [1, 7, 20])
def test_clopper_pearson_ends_are_where_a_one_sided_test_rejects(n):
    for successes in range(n + 1):
        interval = clopper_pearson(successes, n, 0.9)
        at_least = stats.binom.sf(successes - 1, n, interval.low) if successes else 0.05
        at_most = stats.binom.cdf(successes, n, interval.high) if successes < n else 0.05
        assert (at_least, at_most) == (pytest.approx(0.05), pytest.approx(0.05))
    assert (clopper_pearson(0, n).low, clopper_pearson(n, n).high) == (0.0, 1.0)
    assert clopper_pearson(0, 0, 0.9) == Interval(0.0, 1.0, 0.9)


def test_clopper_pearson_never_covers_less_than_its_level():
    n, rates = 20, np.linspace(0.02, 0.98, 97)
    intervals = [clopper_pearson(k, n) for k in range(n + 1)]
    held = np.array([[p in interval for interval in intervals] for p in rates])
    assert np.sum(held * stats.binom.pmf(np.arange(n + 1), n, rates[:, None]), axis=1).min() >= 0.95


def test_fisher_against_sums():
    # A lady who tells 3 of 4 cups right: 34 of the 70 ways to choose 4 of 8 cups are as unlikely or more.
    assert fisher_exact(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert fisher_exact(4, 4, 0, 4) == pytest.approx(2 / 70)
    assert fisher_exact(0, 9, 0, 5) == fisher_exact(0, 0, 3, 5) == 1.0


def test_wilson_against_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for successes, n in ((0, 9), (4, 9), (37, 41)):
        interval = wilson(successes, n, 0.9)
        oracle = proportion.proportion_confint(successes, n, alpha=0.1, method="wilson")
        assert (interval.low, interval.high) == pytest.approx(oracle)
