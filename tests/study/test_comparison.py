"""Comparisons of two arms over pairs: what they report, and what they refuse."""

import math

import pytest
from support.comparisons import BASELINE, TREATMENT

from gradnoise.study.analysis.comparison import Success, compare, compare_successes
from gradnoise.study.analysis.statistics import (
    mcnemar_unconditional,
    newcombe_paired,
    sign_flip,
    sign_flip_interval,
    wilson,
)


def test_compare_reports_what_the_statistics_say():
    won_a, won_b = BASELINE > 60, TREATMENT > 60
    c = compare(BASELINE, TREATMENT, success_baseline=won_a, success_treatment=won_b, level=0.9, seed=7)
    d = TREATMENT - BASELINE
    assert (c.n, c.seed, c.differences) == (10, 7, tuple(d))
    assert c.mean_baseline == pytest.approx(BASELINE.mean())
    assert c.mean_treatment == pytest.approx(TREATMENT.mean())
    assert c.difference == pytest.approx(d.mean())
    assert c.interval == sign_flip_interval(d, 0.9, seed=7)
    assert c.p == sign_flip(d, seed=7)
    assert c.success == Success(
        n=10,
        baseline=1,
        treatment=9,
        interval_baseline=wilson(1, 10, 0.9),
        interval_treatment=wilson(9, 10, 0.9),
        difference=0.8,
        interval=newcombe_paired(1, 8, 0, 1, 0.9),
        p=mcnemar_unconditional(8, 0, 10),
        seeds=10,
        gained=8,
        lost=0,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"baseline": [1.0, math.nan], "treatment": [1.0, 2.0]}, r"baseline\[1\] is nan"),
        ({"baseline": [1.0, 2.0], "treatment": [math.inf, 2.0]}, r"treatment\[0\] is inf"),
        ({"baseline": [1.0, 2.0], "treatment": [1.0]}, "treatment has 1 entries, baseline 2"),
        ({"baseline": [1.0], "treatment": [1.0], "success_baseline": [True]}, "give both or neither"),
        (
            {"baseline": [1.0], "treatment": [1.0], "success_baseline": [1], "success_treatment": [0.5]},
            r"success_treatment\[0\] is 0.5",
        ),
        (
            {"baseline": [1.0], "treatment": [1.0], "success_baseline": [1, 0], "success_treatment": [1, 0]},
            "success_baseline has 2 entries",
        ),
        ({"baseline": [1.0], "treatment": [1.0], "level": 95}, "level is 95"),
        ({"baseline": [0.0], "treatment": [50.0], "rate_of": 100.0}, "treatment holds 50, and the metric is a rate"),
    ],
)
def test_compare_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(**arguments)


def test_several_pairs_of_a_seed_are_one_unit():
    # Three seeds of four settings: twelve pairs of runs, and no test of three seeds reaches 0.05.
    seeds = [s for s in range(3) for _ in range(4)]
    success = compare_successes([False] * 12, [True] * 12, seeds)
    assert (success.n, success.seeds, success.gained, success.p) == (12, 3, 3, 0.25)
    assert math.isinf(success.interval.low)
    alone = compare_successes([False] * 12, [True] * 12, range(12))
    assert alone.p == mcnemar_unconditional(12, 0, 12) and alone.difference == success.difference == 1.0
