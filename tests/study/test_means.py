"""The mean of paired differences: its test and its interval."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats
from support.samples import quick, rng, samples

from gradnoise.study.analysis.statistics import Interval, bca_mean, best_of_k, finite_vector, sign_flip


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
