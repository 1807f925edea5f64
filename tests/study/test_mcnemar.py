"""Exact tests of paired success rates: against sums by hand, and their size over every nuisance parameter."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support.samples import quick

from gradnoise.study.analysis.statistics import mcnemar_exact, mcnemar_unconditional, rates_within


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (0, 5), (3, 3), (2, 9), (30, 14)])
def test_mcnemar_exact_against_sums(only_a, only_b):
    m, t = only_a + only_b, abs(only_a - only_b)
    as_far = sum(math.comb(m, j) for j in range(m + 1) if abs(2 * j - m) >= t)
    assert mcnemar_exact(only_a, only_b) == pytest.approx(as_far / 2**m, rel=1e-12)


def test_mcnemar_published():
    # Bentur et al. (2009) as in Fagerland et al. (2013), table 1: 7 and 1 discordant pairs.
    assert mcnemar_exact(7, 1) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar_unconditional(7, 1, 21) < 0.05


def outcomes(n: int) -> list[tuple[int, int]]:
    return [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]


def chance(rejected: list[tuple[int, int]], n: int, gained: float, lost: float) -> float:
    """Probability of these outcomes of n pairs."""
    table = [(b, c, n - b - c) for b, c in rejected]
    return float(stats.multinomial.pmf(table, n, [gained, lost, max(1.0 - gained - lost, 0.0)]).sum()) if table else 0.0


@pytest.mark.parametrize(("gained", "lost", "n"), [(5, 0, 5), (5, 0, 8), (4, 1, 12), (2, 6, 9)])
def test_mcnemar_unconditional_against_a_sum_over_tables(gained, lost, n):
    def z(b: int, c: int) -> float:
        return (b - c) ** 2 / (b + c) if b + c else 0.0

    as_far = [(b, c) for b, c in outcomes(n) if z(b, c) >= z(gained, lost) - 1e-9]
    largest = max(chance(as_far, n, q / 2, q / 2) for q in np.linspace(0.0, 1.0, 1001))
    assert mcnemar_unconditional(gained, lost, n) == pytest.approx(largest, rel=1e-4)


@pytest.mark.parametrize("n", [5, 6, 9, 14, 20])
def test_mcnemar_unconditional_keeps_its_level_and_beats_the_conditional_test(n):
    ours = [x for x in outcomes(n) if mcnemar_unconditional(*x, n) <= 0.05]
    exact = [x for x in outcomes(n) if mcnemar_exact(*x) <= 0.05]
    assert max(chance(ours, n, q / 2, q / 2) for q in np.linspace(0.0, 1.0, 201)) <= 0.05
    assert chance(ours, n, 0.5, 0.1) >= chance(exact, n, 0.5, 0.1)
    assert n == 5 or chance(ours, n, 0.5, 0.1) > chance(exact, n, 0.5, 0.1)


@quick
@given(st.integers(0, 15), st.integers(0, 15), st.integers(0, 10))
def test_mcnemar_unconditional_knows_no_favourite(gained, lost, rest):
    n = gained + lost + rest
    p = mcnemar_unconditional(gained, lost, n)
    assert 0.0 < p <= 1.0 and p == mcnemar_unconditional(lost, gained, n)
    assert gained == lost or rest or p >= 2.0 / 2.0**n - 1e-12


@pytest.mark.parametrize(("n", "margin"), [(14, 0.3), (28, 0.15)])
def test_rates_that_differ_by_the_margin_are_rarely_called_equal(n, margin):
    # Over every share in which the worse arm alone succeeds: 2.5% in each direction, exactly.
    equal = [x for x in outcomes(n) if rates_within(*x, n, margin) <= 0.05]
    assert equal
    for q in np.linspace(0.0, (1.0 - margin) / 2.0, 60):
        assert chance(equal, n, q + margin, q) <= 0.025 + 1e-9


def test_rates_within_by_hand():
    # No pair differs: the chance of that at a difference of the margin is largest where one arm alone ever succeeds.
    assert rates_within(0, 0, 60, 0.05) == pytest.approx(2 * 0.95**60)
    assert rates_within(0, 0, 6, 0.02) == 1.0
    assert rates_within(4, 0, 10, 0.3) == 1.0  # seen: more than the margin
    assert rates_within(3, 1, 30, 0.3) == rates_within(1, 3, 30, 0.3)
    assert rates_within(0, 0, 0, 0.5) == rates_within(0, 0, 9, 0.0) == 1.0
    assert rates_within(0, 0, 9, 1.5) == 0.0
