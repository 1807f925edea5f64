"""Joint sign flips: against the test of one comparison and by hand, and the level of a family."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import quick, rng

from gradnoise.study.analysis.statistics import gated_holm, holm, joint_sign_flips, sign_flip


def family(table: np.ndarray) -> list[dict[int, float]]:
    """Comparisons of a table [seeds, comparisons]."""
    return [dict(enumerate(column)) for column in table.T]


@quick
@given(st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=9))
def test_a_family_of_one_is_the_sign_flip_test(differences):
    (p,) = joint_sign_flips([dict(enumerate(differences))], seed=0)
    assert p == sign_flip(differences, seed=0)


def test_one_side_is_half_of_two():
    d = rng(1).normal(0.6, 1.0, size=9)
    (one,) = joint_sign_flips([dict(enumerate(d))], seed=0, one_sided=True)
    assert 2 * one == sign_flip(d, seed=0)
    (other,) = joint_sign_flips([dict(enumerate(-d))], seed=0, one_sided=True)
    assert other > 0.5


def test_eight_rows_of_one_effect_are_decided_by_six_seeds():
    # Holm needs 2 m / 2^n <= 0.05, which 8 rows and 6 seeds do not allow.
    table = 40.0 + 3.0 * rng(2).normal(size=(6, 8))
    assert np.all(joint_sign_flips(family(table), seed=0) == 2 / 64)
    assert np.all(holm([sign_flip(d, seed=0) for d in table.T]) > 0.05)


def test_step_down_by_hand():
    # Signs turn by seed, so both comparisons are flipped by the same four patterns (and their mirror images).
    first, second = [2.0, 2.0, 2.0], [2.0, -1.0, 0.5]
    patterns = [(1, a, b) for a in (1, -1) for b in (1, -1)]
    t1 = [abs(sum(s * d for s, d in zip(p, first, strict=True))) / math.sqrt(12.0) for p in patterns]
    t2 = [abs(sum(s * d for s, d in zip(p, second, strict=True))) / math.sqrt(5.25) for p in patterns]
    expected = [np.mean([max(x) >= t1[0] - 1e-12 for x in zip(t1, t2, strict=True)]), np.mean(np.array(t2) >= t2[0])]
    assert joint_sign_flips(family(np.array([first, second]).T), seed=0) == pytest.approx(expected)


@quick
@given(st.lists(st.lists(st.integers(-4, 4).map(float), min_size=6, max_size=6), min_size=1, max_size=5))
def test_adjusted_is_at_least_raw_and_knows_no_order(columns):
    table = np.array(columns).T
    adjusted = joint_sign_flips(family(table), seed=0)
    assert np.all(adjusted >= [sign_flip(d, seed=0) - 1e-12 for d in table.T])
    assert np.array_equal(joint_sign_flips(family(-table), seed=0), adjusted)
    assert joint_sign_flips(family(table[::-1]), seed=0) == pytest.approx(adjusted)
    assert joint_sign_flips(family(table[:, ::-1]), seed=0)[::-1] == pytest.approx(adjusted)


def test_seeds_need_not_overlap():
    d = 1.0 + 0.2 * rng(3).normal(size=6)
    apart = joint_sign_flips([dict(enumerate(d)), dict(enumerate(d, start=6))], seed=0)
    assert np.all(apart >= 2 / 64) and np.all(apart <= 4 / 64)
    assert joint_sign_flips([], seed=0).size == 0
    assert joint_sign_flips([{}, {0: 0.0}], seed=0).tolist() == [1.0, 1.0]


def test_drawn_patterns_agree_with_all_of_them_and_hang_on_the_trial_seed():
    table = rng(4).normal(0.4, 1.0, size=(12, 3))
    counted = joint_sign_flips(family(table), seed=0, resamples=2**12)
    drawn = joint_sign_flips(family(table), seed=0, resamples=2**12 - 1)
    assert np.all(drawn != counted) and drawn == pytest.approx(counted, abs=0.03)
    turned = [dict(reversed(d.items())) for d in family(table)]
    once, again = (joint_sign_flips(x, seed=0, resamples=999) for x in (family(table), turned))
    assert np.array_equal(once, again)


@pytest.mark.parametrize("shape", ["normal", "exponential", "one row is wild"])
def test_the_level_of_the_family_holds(shape):
    # 600 families of 5 rows and 8 seeds, all null, rows correlated: any claim in 5% + 3.5 standard errors.
    generator = rng(11)
    shared = generator.normal(size=(600, 8, 1))
    own = (
        generator.exponential(size=(2, 600, 8, 5)) if shape == "exponential" else generator.normal(size=(2, 600, 8, 5))
    )
    data = own[0] - own[1] + shared
    if shape == "one row is wild":
        data[:, :, 0] *= 100.0 * generator.standard_cauchy(size=(600, 8))
    claimed = np.mean([joint_sign_flips(family(table), seed=0).min() <= 0.05 for table in data])
    assert claimed < 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / 600)


def test_a_run_that_blew_up_hides_neither_its_row_nor_another():
    rows = family(np.array([[1.0 + 0.1 * s, rng(s).normal(), 2.0 - 0.1 * s] for s in range(8)]))
    expected = joint_sign_flips(rows, seed=0)
    for size in (1e8, 1e15, 1e300):
        wild = [{**rows[0], 7: size}, *rows[1:]]
        assert joint_sign_flips(wild, seed=0)[0] == 2 / 2**8
        assert joint_sign_flips(wild, seed=0)[1:] == pytest.approx(expected[1:], abs=0.02)
        halves = [{s: size if s % 2 else 1.0 for s in range(8)}]
        assert joint_sign_flips(halves, seed=0) == [2 / 2**8]


def test_the_gate_by_hand():
    assert gated_holm([0.01, 0.04, 0.03], 0.02) == pytest.approx([0.02, 0.06, 0.06])
    assert gated_holm([0.01, 0.04], 0.001) == pytest.approx([0.01, 0.04])  # two: nothing is left to adjust
    assert gated_holm([0.001, 0.001], 0.3).tolist() == [0.3, 0.3]
    assert gated_holm([0.2], 0.2).tolist() == [0.2]
    with pytest.raises(ValueError, match="span"):
        gated_holm([0.1], 1.2)
