"""The bar of a run: it moves between commits, its time left is the plan's at first and the run's own later."""

import math

import pytest
from support.small import small

from gradnoise.study.engine import Job, JobTrial
from gradnoise.study.progress import AHEAD, Clock, Means, duration
from gradnoise.study.run.planning import Plan


def test_before_anything_is_done_the_plan_tells_the_time():
    clock = Clock(planned=100.0, started=0.0)
    assert clock.left(0.0) == 100.0 and clock.left(30.0) == 70.0
    assert clock.part(2.0) == pytest.approx(0.02) and clock.part(50.0) == AHEAD  # nothing was heard for long
    assert clock.left(150.0) == 0.0


def test_later_the_run_itself_tells_the_time():
    clock = Clock(planned=100.0, started=0.0)
    clock.commit(0.05, 10.0)  # twice as slow as planned
    assert clock.total(10.0) == pytest.approx(150.0)  # half of each
    clock.commit(0.5, 100.0)
    assert clock.total(100.0) == pytest.approx(200.0) and clock.left(120.0) == pytest.approx(80.0)
    assert clock.part(105.0) == pytest.approx(0.525)
    clock.commit(1.0, 200.0)
    assert clock.left(200.0) == 0.0 and clock.part(300.0) == 1.0


def test_a_plan_that_cannot_tell_leaves_the_time_open():
    clock = Clock(planned=math.nan, started=0.0)
    assert math.isnan(clock.left(0.0)) or clock.left(0.0) == 0.0
    clock.commit(0.25, 10.0)
    assert clock.left(10.0) == pytest.approx(30.0)


def job(trials: int) -> Job:
    return Job("", tuple(JobTrial(str(i), i, {"steps": 10}) for i in range(trials)))


@pytest.mark.parametrize(
    ("sizes", "workers", "seconds"),
    [((4, 4, 4), 1, 126.0), ((4, 4, 4), 2, 84.0), ((4, 4, 4), 3, 42.0), ((2, 2, 2, 8), 2, 82.0)],
)
def test_the_time_of_a_plan_is_that_of_its_busiest_worker(sizes, workers, seconds):
    plan = Plan(tuple((job(n), 0) for n in sizes), {}, 0, workers, 1.0, 0, start=2.0)
    assert plan.seconds == seconds


def test_running_means_are_of_the_row_that_was_measured_last():
    study = small()
    trials = list(study.trials())
    plan = Plan((), {t.id: t.arm for t in trials}, 0, 1, 1.0, 0, {t.id: t.row for t in trials})
    means, metric = Means(study, plan), study.metric.name
    assert means.text() == ""
    here = [t for t in trials if t.row == "a"]
    means.take_in([(t.id, metric, 3, 1.0 + (t.arm == "noise")) for t in here])
    means.take_in([(t.id, metric, 6, 2.0 + (t.arm == "noise")) for t in here[:2]])
    means.take_in([(here[0].id, "other", 6, 99.0), (here[0].id, metric, 9, math.nan), ("unknown", metric, 9, 5.0)])
    assert means.text() == "test error so far, Row a: none 1.500, noise 2.500"


def test_durations():
    assert [duration(s) for s in (3.2, 600.0, 7200.0)] == ["3 s", "10 min", "2.0 h"]
