"""Curves of several runs together: means and quantiles do not jump where a run ends early."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
from support.report_fakes import METRIC, record, study, trial

from gradnoise.study.analysis.curves import PooledResult, align, last_value, mean_curve, pooled, quantiles
from gradnoise.study.report.training import training_curves
from gradnoise.study.results import Curve, StudyResults, TrialResult

WHOLE = Curve(np.array([10, 20, 30]), np.array([3.0, 4.0, 6.0]))
SHORT = Curve(np.array([10, 20]), np.array([1.0, 2.0]))
EMPTY = Curve(np.empty(0, int), np.empty(0))


def run(curve: Curve, setting: str, status: str = "finished") -> TrialResult:
    made = trial("none", 0, 1.0, status=status, setting=setting)
    return replace(made, step=int(curve.steps[-1]), config={**made.config, "steps": 30}, curves={"error": curve})


def test_curves_stand_on_the_steps_of_all():
    aligned = align([SHORT, Curve(np.array([15]), np.array([math.nan]))], [None, 9.0])
    assert aligned.steps.tolist() == [10, 15, 20]
    assert aligned.known.tolist() == [[True, False, True], [False, True, True]]
    assert np.array_equal(aligned.values, [[1.0, math.nan, 2.0], [math.nan, math.nan, 9.0]], equal_nan=True)


def test_a_mean_is_over_all_curves():
    assert mean_curve([WHOLE, SHORT], [None, None]).steps.tolist() == [10, 20]
    held = mean_curve([WHOLE, SHORT], [None, last_value(SHORT)])
    assert held.steps.tolist() == [10, 20, 30] and held.values.tolist() == [2.0, 3.0, 4.0]
    assert mean_curve([WHOLE, EMPTY], [None, last_value(EMPTY)]).steps.tolist() == []


def test_quantiles_carry_diverged_runs_on():
    curves = [WHOLE, Curve(np.array([10]), np.array([5.0])), Curve(np.array([10, 20]), np.array([math.nan, 4.0]))]
    steps, median = quantiles(curves, [0.5], [None, 9.0, None])
    assert steps.tolist() == [10, 20, 30]
    assert median.tolist() == [4.0, 4.0, 7.5]


def pool(*trials: TrialResult) -> TrialResult:
    (only,) = pooled(study(trials), 1)
    return only


def test_a_run_that_ended_early_counts_on_in_means_over_settings():
    one = pool(run(WHOLE, "x"), run(SHORT, "y"))
    assert isinstance(one, PooledResult) and one.settings == 2
    assert one.curves["error"].steps.tolist() == [10, 20, 30]
    assert one.curves["error"].values.tolist() == [2.0, 3.0, 4.0]


def test_a_run_that_still_trains_ends_the_mean():
    one = pool(run(WHOLE, "x"), run(SHORT, "y", "running"))
    assert one.curves["error"].steps.tolist() == [10, 20]


def test_a_run_of_full_length_ends_the_mean():
    short = run(SHORT, "y")
    one = pool(run(WHOLE, "x"), replace(short, config={**short.config, "steps": 20}))
    assert one.curves["error"].steps.tolist() == [10, 20]


def test_rows_of_many_settings_are_pooled_and_others_stay():
    """More settings than allowed: one curve a seed, whole seeds only."""
    trials = [trial("none", s, 10.0 * k, setting=f"task {k}") for s in range(3) for k in range(6)]
    found = list(pooled(study(trials[:-1]), 4))
    assert Counter(t.seed for t in found) == {0: 1, 1: 1}
    assert found[0].curves["accuracy"].values[-1] == 25.0
    few = study(trials[:3])
    assert list(pooled(few, 4)) == list(few.trials)


def test_successes_are_drawn_as_a_share_of_runs():
    rate = replace(METRIC, chance=None, margin=None, success=100.0, rate=True)
    curves = {0: [0.0, 0.0, 100.0], 1: [0.0, 100.0], 2: [0.0, 0.0, 0.0], 3: [100.0, 0.0, 0.0]}
    trials = [trial("none", seed, curve[-1], curve=curve) for seed, curve in curves.items()]
    plot = training_curves(StudyResults(record(metric=rate), tuple(trials)), 1)
    (line,) = plot.charts[0].lines
    assert line.x.tolist() == [10, 20, 30] and line.y.tolist() == [25.0, 25.0, 50.0]
    assert plot.caption.startswith("Line: share of runs that succeed,") and not plot.charts[0].areas
