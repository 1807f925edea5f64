"""Means over runs of which some end early: they do not jump."""

from dataclasses import replace

import numpy as np
from support.report_fakes import trial

from gradnoise.paper.nram.figures import mean_curve
from gradnoise.study.report.figures import _mean
from gradnoise.study.results import Curve

WHOLE = Curve(np.array([10, 20, 30]), np.array([3.0, 4.0, 6.0]))
SHORT = Curve(np.array([10, 20]), np.array([1.0, 2.0]))


def run(curve, status="finished"):
    made = trial("none", 0, 1.0, status=status)
    return replace(made, step=int(curve.steps[-1]), config={**made.config, "steps": 30}, curves={"error": curve})


def test_a_run_that_ended_early_counts_on_in_means_over_settings():
    mean = _mean([(run(c), c) for c in (WHOLE, SHORT)])
    assert mean.steps.tolist() == [10, 20, 30]
    assert mean.values.tolist() == [2.0, 3.0, 4.0]


def test_a_run_that_still_trains_ends_the_mean():
    mean = _mean([(run(WHOLE), WHOLE), (run(SHORT, "running"), SHORT)])
    assert mean.steps.tolist() == [10, 20]


def test_the_same_in_the_learning_curves():
    steps, values = mean_curve([run(WHOLE), run(SHORT)], "error")
    assert steps.tolist() == [10, 20, 30]
    assert values.tolist() == [2.0, 3.0, 4.0]
