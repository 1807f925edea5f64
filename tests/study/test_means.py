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

from gradnoise.study.analysis.statistics import Interval, best_of_k, finite_vector, sign_flip, sign_flip_interval


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


@pytest.mark.parametrize("size", [1e3, 1e9, 1e15, 1e300])
@pytest.mark.parametrize("pairs", [8, 24])  # counted, drawn
def test_a_difference_that_blew_up_hides_no_other_one(size, pairs):
    worse = [-1.0 - 0.1 * i for i in range(pairs - 1)]
    assert sign_flip([*worse, -size], seed=0) == sign_flip([*worse, -3.0], seed=0)
    better = [-x for x in worse[:4]]
    assert sign_flip([*worse[:3], *better, size], seed=0) == sign_flip_by_hand([-10, -11, -12, 10, 11, 12, 13, 10**6])


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
        interval = sign_flip_interval(differences, 0.8, seed=3, resamples=resamples)
        assert interval == sign_flip_interval(shuffled, 0.8, seed=3, resamples=resamples)
        mirrored = sign_flip_interval(swapped, 0.8, seed=3, resamples=resamples)
        assert (interval.low, interval.high) == (-mirrored.high, -mirrored.low)


@quick
@given(st.lists(st.integers(-9, 9).map(float), min_size=6, max_size=9), st.sampled_from([0.8, 0.95]))
def test_the_interval_holds_the_means_that_the_test_does_not_reject(differences, level):
    interval, alpha = sign_flip_interval(differences, level, seed=0), 1.0 - level
    d = np.array(differences)
    for end, outwards in ((interval.low, -1.0), (interval.high, 1.0)):
        assert sign_flip(d - end, seed=0) > alpha  # the end itself is held
        assert sign_flip(d - (end + 1e-6 * outwards), seed=0) <= alpha
    slack = 1e-9 * max(1.0, np.abs(d).max())
    assert d.min() - slack <= interval.low <= d.mean() + slack and d.mean() - slack <= interval.high <= d.max() + slack


def test_the_interval_with_drawn_sets_agrees_with_all_of_them():
    d = rng(3).normal(size=15)
    counted, drawn = (sign_flip_interval(d, seed=5, resamples=r) for r in (2**15, 2**15 - 1))
    assert counted != drawn
    assert (drawn.low, drawn.high) == pytest.approx((counted.low, counted.high), abs=0.03)


def test_the_interval_covers_a_symmetric_mean_as_often_as_it_says():
    # 1000 samples of 8 from laws that are symmetric about 0: exact, so 0.9531 (one less than 6.4 of 256 patterns in
    # both tails); 4 standard errors, a false alarm once in 15000 seeds for each law.
    generator = rng(6)
    for data in (generator.normal(size=(1000, 8)), generator.standard_cauchy(size=(1000, 8))):
        held = np.mean([0.0 in sign_flip_interval(d, seed=0) for d in data])
        assert abs(held - (1 - 12 / 256)) < 4 * math.sqrt(0.05 * 0.95 / 1000)


def test_the_interval_at_its_edges():
    nothing = Interval(-math.inf, math.inf, 0.95)
    assert sign_flip_interval([], seed=0) == sign_flip_interval([1.0, 2.0, 3.0, 4.0, 5.0], seed=0) == nothing
    assert sign_flip_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0], seed=0) == Interval(1.0, 6.0, 0.95)
    assert sign_flip_interval([2.5] * 7, 0.9, seed=0) == Interval(2.5, 2.5, 0.9)
    for scale in (1e-200, 1e200):
        interval = sign_flip_interval([scale, 2 * scale, 4 * scale, scale, 3 * scale, 2 * scale], seed=0)
        assert (interval.low, interval.high) == (scale, 4 * scale)


def test_seeds_decide_and_nothing_else_does():
    differences = rng(7).normal(size=25)
    state = str(np.random.get_state())
    for function in (sign_flip_interval, sign_flip, lambda d, seed: best_of_k(d, 5, seed=seed)):
        assert function(differences, seed=1) == function(differences, seed=1)
        assert function(differences, seed=1) != function(differences, seed=2)
    assert str(np.random.get_state()) == state


def test_nan_is_named():
    with pytest.raises(ValueError, match=r"differences\[1\] is nan.*must be finite"):
        sign_flip([1.0, math.nan], seed=0)
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        finite_vector([[1.0, 2.0]], "values")
    for call in (
        sign_flip_interval,
        sign_flip,
        lambda d, seed, resamples: best_of_k(d, 1, seed=seed, resamples=resamples),
    ):
        with pytest.raises(ValueError, match="resamples is 0"):
            call([1.0, 2.0], seed=0, resamples=0)
