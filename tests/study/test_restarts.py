"""What the best of k restarts is worth."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import quick, rng, samples

from gradnoise.study.analysis.statistics import BestOfK, Interval, best_of_k, restarts
from gradnoise.study.analysis.statistics.arguments import affordable


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


def test_resamples_in_parts_are_those_drawn_at_once():
    values = np.sort(np.random.Generator(np.random.PCG64(1)).normal(size=1_500))
    drawn = np.random.Generator(np.random.PCG64(7)).integers(0, 1_500, size=(2_000, 1_500))
    whole = values[np.sort(drawn, axis=1)] @ restarts._best_weights(1_500, 375)
    assert np.allclose(restarts._resampled_best(values, 375, 7, 2_000), whole, rtol=1e-14, atol=0.0)


def test_many_runs_are_resampled_less_often_and_few_as_often_as_asked():
    assert affordable(100_000, 200) == 100_000 and affordable(10_000, 1_000) == 10_000
    assert affordable(100_000, 5_000) == 4_000 and affordable(20_000, 10**6) == 1_000 and affordable(500, 10**6) == 500


def test_memory_does_not_grow_with_runs_times_resamples():
    values = np.random.Generator(np.random.PCG64(2)).normal(size=4_000)
    tracemalloc.start()
    best_of_k(values, 1_000, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
