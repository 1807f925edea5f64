"""How many pairs would decide, against exact power."""

import math

import numpy as np
import pytest
from hypothesis import given
from scipy import stats
from support.samples import quick, rng, samples

from gradnoise.study.analysis.statistics import (
    Pairs,
    detectable_mean,
    detectable_rate,
    least_pairs,
    mcnemar_unconditional,
    outlook_mean,
    outlook_rate,
    pairs_for_effect,
    pairs_to_decide_rate,
    sign_flip,
)


def test_least_pairs_is_where_the_test_can_first_decide():
    for alpha in (0.1, 0.0625, 0.05, 1 - 0.95, 0.01, 0.001):
        n = least_pairs(alpha)
        assert sign_flip(np.arange(1.0, n + 1), seed=0) <= alpha < sign_flip(np.arange(1.0, n), seed=0)


@pytest.mark.parametrize("effect", [0.3, 0.5, 0.8, 1.2])
def test_pairs_for_an_effect_against_exact_power(effect):
    n = pairs_for_effect(1.0, effect)

    def power(n: int) -> float:
        t = stats.t.ppf(0.975, n - 1)
        return float(stats.nct.sf(t, n - 1, effect * n**0.5) + stats.nct.cdf(-t, n - 1, effect * n**0.5))

    assert power(n + 1) >= 0.8 > power(n - 2)
    with pytest.raises(ValueError, match="effect is 0"):
        pairs_for_effect(1.0, 0.0)


def test_the_upper_end_of_the_range_decides_as_often_as_promised():
    # From 8 pairs of a true effect of 0.9 spreads, which take 12 pairs: in 9 of 10 studies the range holds that number
    # or more above it (its ends are those of an 80% interval); 200 studies, 4 standard errors.
    generator, held, low = rng(12), 0, []
    for _ in range(200):
        found = outlook_mean(generator.normal(0.9, 1.0, size=8))
        assert found is not None
        held += found.high is None or found.high >= 12
        low.append(found.low)
    assert held / 200 > 0.9 - 4 * math.sqrt(0.09 / 200)
    assert np.mean(np.array(low) <= 12) > 0.9 - 4 * math.sqrt(0.09 / 200)


def test_pairs_that_decide_that_there_is_no_difference():
    d = rng(3).normal(size=40)
    d -= d.mean()
    found = outlook_mean(d, margin=0.5)
    assert found is not None and found.high is not None and 30 < found.low < 60 and 100 < found.high < 400
    without = outlook_mean(d)
    assert without is not None and without.high is None and without.low > 100
    assert outlook_mean(d, margin=0.5, unseen=1000.0) == Pairs(without.low, 1000)


def test_the_outlook_at_its_edges():
    assert outlook_mean([]) is outlook_mean([1.0]) is outlook_mean([0.0, 0.0]) is outlook_mean([2.0, 2.0]) is None
    assert outlook_rate(0, 0, 0) is None
    found = outlook_rate(3, 1, 20)
    assert found is not None and found.low > 6 and found.high is None
    sure = outlook_rate(40, 0, 60)
    assert sure is not None and sure.high is not None and 6 <= sure.low <= sure.high < 60
    assert outlook_rate(0, 0, 20, unseen=180.0) == Pairs(min(180, outlook_rate(0, 0, 20).low), 180)  # pyright: ignore[reportOptionalMemberAccess]


@quick
@given(samples)
def test_the_outlook_knows_no_favourite(differences):
    swapped = [-d for d in differences]
    assert outlook_mean(differences, margin=1.0) == outlook_mean(swapped, margin=1.0)
    found = outlook_mean(differences)
    assert found is None or (found.low >= least_pairs(0.05) and (found.high is None or found.high >= found.low))


def test_what_would_have_been_seen_is_what_so_many_pairs_see():
    d = rng(5).normal(size=20)
    effect = detectable_mean(d)
    assert effect is not None
    assert pairs_for_effect(float(np.std(d, ddof=1)), effect) in (20, 21)
    # 400 studies of 20 pairs with that effect: seen in 80%, 4 standard errors.
    seen = [sign_flip(rng(i).normal(effect / np.std(d, ddof=1), 1.0, size=20), seed=0) <= 0.05 for i in range(100)]
    assert abs(np.mean(seen) - 0.8) < 4 * math.sqrt(0.16 / 100)
    assert detectable_mean(d[:5]) is detectable_mean([1.0] * 9) is None


def test_what_would_have_been_seen_of_a_rate():
    gain = detectable_rate(2, 40)
    assert gain is not None
    needed = pairs_to_decide_rate(0.05 + gain, 0.05)
    assert needed is not None and needed <= 40
    assert detectable_rate(0, 0) is detectable_rate(0, 4) is detectable_rate(20, 40) is None


@pytest.mark.parametrize(("p_only_a", "p_only_b"), [(0.4, 0.1), (0.3, 0.05), (0.1, 0.4), (0.5, 0.0)])
def test_pairs_to_decide_rate_against_exact_power(p_only_a, p_only_b):
    n = pairs_to_decide_rate(p_only_a, p_only_b)
    assert n is not None
    discordant = p_only_a + p_only_b
    power = sum(
        stats.binom.pmf(m, n, discordant) * stats.binom.pmf(b, m, p_only_a / discordant)
        for m in range(n + 1)
        for b in range(m + 1)
        if mcnemar_unconditional(b, m - b, n) <= 0.05
    )
    assert 0.75 < power < 0.92


def test_pairs_to_decide_rate_at_its_edges():
    assert pairs_to_decide_rate(0.2, 0.2) is None
    n = pairs_to_decide_rate(1.0, 0.0)
    assert n is not None
    assert mcnemar_unconditional(n, 0, n) <= 0.05 < mcnemar_unconditional(n - 1, 0, n - 1)
    for a, b in ((-0.1, 0.2), (0.6, 0.6), (math.nan, 0.1)):
        with pytest.raises(ValueError, match="p_only_a, p_only_b are"):
            pairs_to_decide_rate(a, b)
    with pytest.raises(ValueError, match="power is 80"):
        pairs_to_decide_rate(0.4, 0.1, power=80)


def test_pairs_for_an_effect_against_statsmodels():
    power = pytest.importorskip("statsmodels.stats.power")
    needed = power.TTestPower().solve_power(effect_size=0.5, alpha=0.05, power=0.8)
    assert abs(pairs_for_effect(1.0, 0.5) - needed) < 1.5
