"""How many pairs would decide, against exact power."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support.samples import quick, rng, samples

from gradnoise.study.analysis.statistics import (
    least_pairs,
    mcnemar_midp,
    pairs_to_decide_mean,
    pairs_to_decide_rate,
    sign_flip,
)


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


def test_pairs_to_decide_mean_against_statsmodels():
    power = pytest.importorskip("statsmodels.stats.power")
    needed = power.TTestPower().solve_power(effect_size=0.5, alpha=0.05, power=0.8)
    assert abs((pairs_to_decide_mean([0.5 - math.sqrt(0.5), 0.5 + math.sqrt(0.5)]) or 0) - needed) < 1.5
