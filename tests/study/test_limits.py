"""Which part of an axis is drawn."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gradnoise.study.report.limits import FACTOR, limits

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.dictionaries(st.sampled_from("abcd"), st.lists(numbers, min_size=1, max_size=5), min_size=1), numbers)
def test_what_is_not_beyond_is_visible(values, always):
    shown = limits(values, [always])
    assert shown.low < shown.high and shown.low <= always <= shown.high
    for arm, seen in values.items():
        assert arm in shown.beyond or all(shown.low <= x <= shown.high for x in seen)
    assert len(shown.beyond) < len(values)


def test_one_arm_far_away_is_left_out_and_named():
    shown = limits({"none": [4.5, 5.3], "a": [4.8], "b": [5.7, 6.1], "c": [203.0, 290.0]})
    assert shown.beyond == ("c",) and 6.1 < shown.high < 7
    assert shown.sentence({"c": "noise, eta 1"}).endswith("nothing else: noise, eta 1.")


def test_two_arms_far_away_are_both_left_out():
    assert limits({"none": [1.0, 2.0], "a": [1e3], "b": [-1e6]}).beyond == ("a", "b")


def test_arms_that_can_be_told_apart_stay():
    assert limits({"none": [1.0, 2.0], "a": [FACTOR]}).beyond == ()
    assert limits({"none": [1.0, 1.0], "a": [7.0]}).beyond == ()  # without a scale nothing is far away
    assert limits({"none": [3.0]}).beyond == ()


def test_values_that_are_not_finite_do_not_count():
    shown = limits({"none": [1.0, math.nan], "a": [math.inf, 2.0]})
    assert shown.beyond == () and shown.high < 2.1
    assert limits({"none": []}).low < limits({"none": [math.nan]}).high
