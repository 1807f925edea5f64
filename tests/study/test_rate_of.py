"""A rate of runs that keep a bound on what is measured: read, counted, shown, and asked of a folder afterwards."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.report_fakes import METRIC, paired, study
from support.small import small

from gradnoise.errors import StudyError
from gradnoise.study import Metric, Options, run_study
from gradnoise.study.analysis.scores import counted_value, succeeded
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.exported import read_folder, read_results
from gradnoise.study.report import write_report
from gradnoise.study.results import Curve, TrialResult
from gradnoise.study.store import note_look
from gradnoise.study.threshold import Threshold, threshold

OPTIONS = Options(workers=1, chunk=4)
LEARNED = Metric("learned", "runs that learn", of="accuracy >= 90")


# --- bounds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("accuracy >= 90", Threshold("accuracy", ">=", 90.0)),
        (" train_loss<=1e-3 ", Threshold("train_loss", "<=", 1e-3)),
        ("val/top 5 acc >= -0.5", Threshold("val/top 5 acc", ">=", -0.5)),
    ],
)
def test_a_bound_is_read(text, bound):
    assert threshold(text, "of") == bound
    assert threshold(str(bound), "of") == bound


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy > 90", "accuracy = 90", "accuracy >= ", ">= 90", "accuracy >= many", "accuracy >= nan",
     "accuracy >= inf", "90 <= accuracy <= 95", "accuracy => 90", "accuracy >== 90"],
)  # fmt: skip
def test_what_is_no_bound_is_refused(text):
    with pytest.raises(StudyError, match=r"is no bound on a measure; write its name, >= or <=, and a finite number"):
        Metric("learned", "runs that learn", of=text)


@given(st.floats(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([">=", "<="]))
def test_a_value_keeps_a_bound_or_not(value, bound, sign):
    assert threshold(str(Threshold("x", sign, bound)), "of").bound == bound
    kept = np.isfinite(value) and (value >= bound if sign == ">=" else value <= bound)
    assert Threshold("x", sign, bound).share(value) == (100.0 if kept else 0.0)


# --- the metric ---------------------------------------------------------------------------------------


def test_what_follows_from_a_bound():
    assert (LEARNED.rate, LEARNED.success, LEARNED.unit, LEARNED.higher_is_better) == (True, 100.0, "%", True)
    assert (LEARNED.measured, METRIC.measured) == ("accuracy", METRIC.name)
    assert dataclasses.replace(LEARNED, margin=1.0).of == "accuracy >= 90"
    low = Metric("fits", "runs that fit", of="train_loss <= 0.1")
    assert low.higher_is_better and low.read(0.05) == 100.0 and low.read(0.2) == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"success": 90.0}, "makes success 100.0, and it is given as 90.0: leave it out"),
        ({"unit": "nats"}, "makes unit '%'"),
        ({"higher_is_better": False}, "makes higher_is_better True"),
        ({"broken": 0.0}, "counts a run without a finite value as 0: leave out broken"),
        ({"name": "accuracy"}, "whose name the metric cannot have, too"),
        ({"of": 90}, "of"),
    ],
)
def test_what_contradicts_a_bound_is_refused(options, message):
    with pytest.raises(StudyError, match=message):
        Metric(**{"name": "learned", "title": "runs that learn", "of": "accuracy >= 90"} | options)


def test_a_metric_without_a_bound_keeps_its_bytes(tmp_path):
    results = study(paired(lambda arm, seed: 50.0 + seed))
    write_report(results, tmp_path)
    assert "of" not in json.loads((tmp_path / "study.json").read_text())["metric"]


# --- what counts --------------------------------------------------------------------------------------


def rated(results, bound="60", margin=5.0):
    """The same results by the rate of runs of so much and more."""
    metric = dataclasses.replace(LEARNED, of=f"accuracy >= {bound}", margin=margin)
    record = dataclasses.replace(results.record, metric=metric)
    return dataclasses.replace(results, record=record, trials=tuple(t.with_rates(record) for t in results.trials))


def test_verdicts_are_those_of_a_rate_that_was_measured():
    scored = paired(lambda arm, seed: 50.0 + seed + (20.0 if arm == "noise" and seed != 2 else 0.0))
    ours = summarise(rated(study(scored)))
    plain = dataclasses.replace(
        METRIC, title=LEARNED.title, chance=None, success=100.0, rate=True, margin=5.0, unit="%"
    )
    theirs = summarise(study(paired(lambda arm, seed: 100.0 * (arm == "noise" and seed != 2)), metric=plain))
    assert [e.verdict for e in ours.effects] == [e.verdict for e in theirs.effects]
    assert [c.fates.successes for c in ours.cells] == [c.fates.successes for c in theirs.cells]


@pytest.mark.parametrize(("bound", "said"), [("0.9", "Every run keeps"), ("90", "No run keeps")])
def test_a_bound_in_another_unit_is_told(bound, said):
    """Accuracies from 0.9 on, and a bound in %."""
    (sentence,) = summarise(rated(study(paired(lambda arm, seed: 0.9 + seed / 100)), bound, margin=None)).cautions
    assert sentence.startswith(f"{said} accuracy >= {bound}, which so tells no arm from another")
    assert "accuracy ends between 0.9 and 0.9" in sentence
    assert summarise(rated(study(paired(lambda arm, seed: 58.0 + seed)))).cautions == ()


def test_a_run_that_broke_has_not_kept_it_and_one_that_runs_is_not_counted():
    base = {"row": "r", "setting": "", "arm": "none", "seed": 0, "config": {}, "step": 3}
    record = study([], metric=LEARNED).record
    curve = {"accuracy": Curve(np.array([1, 2, 3]), np.array([50.0, 95.0, np.nan]))}
    broke = TrialResult("a" * 16, **base, status="diverged", curves=curve).with_rates(record)
    assert broke.final == {"learned": 0.0} and not succeeded(broke, LEARNED)
    assert broke.curves["learned"].values.tolist() == [0.0, 100.0, 0.0]
    assert counted_value(broke, dataclasses.replace(LEARNED, at="best")) == 100.0
    runs = TrialResult("b" * 16, **base, status="running", curves=curve).with_rates(record)
    assert runs.final == {}


# --- from the run to the report -----------------------------------------------------------------------

FITS = Metric("fits", "runs that fit", of="error <= 3.5")


def test_a_study_by_a_bound_and_one_by_its_measure_train_the_same(tmp_path):
    metric = Metric("error", "error", higher_is_better=False)
    before = run_study(small(metric=metric), tmp_path / "study", options=OPTIONS)
    bound = float(np.median([t.final["error"] for t in before.trials[:-1]]))
    fits = dataclasses.replace(FITS, of=f"error <= {bound!r}")
    after = run_study(small(metric=fits), tmp_path / "study", options=OPTIONS)  # nothing is trained again
    assert [t.id for t in before.trials] == [t.id for t in after.trials]
    for it, that in zip(before.trials, after.trials, strict=True):
        assert that.final["error"] == it.final["error"]
        assert that.final["fits"] == (100.0 if it.final["error"] <= bound else 0.0)
        assert set(that.curves["fits"].values) <= {0.0, 100.0}
    assert {t.final["fits"] for t in after.trials} == {0.0, 100.0}
    fresh = run_study(small(metric=fits), tmp_path / "fresh", options=OPTIONS)
    assert [dict(t.final) for t in fresh.trials] == [dict(t.final) for t in after.trials]


def test_a_bound_that_is_chosen_after_a_look_is_said(tmp_path):
    for number in (3.0, 4.0):
        fits = dataclasses.replace(FITS, of=f"error <= {number}")
        results = run_study(small(metric=fits), tmp_path, options=OPTIONS)
        note_look(tmp_path, 3, {0, 1, 2})
    (said,) = (line for line in results.record.deviations if "decided" in line)
    assert "'fits' (error <= 3, at 'last') decided; 'fits' (error <= 4, at 'last') was chosen after" in said


def test_the_report_says_the_bound_and_its_tables_read_back(tmp_path):
    results = run_study(small(metric=FITS), tmp_path, options=OPTIONS)
    page = write_report(results, tmp_path).read_text(encoding="utf-8")
    assert "runs that end with error &lt;= 3.5" in page
    assert summarise(read_results(tmp_path)).effects == summarise(results).effects
    assert summarise(read_folder(tmp_path)).effects == summarise(results).effects


def test_a_folder_of_tables_goes_on(tmp_path):
    """Without a store: the rate is made of what was measured, and more seeds are added."""
    results = run_study(small(metric=FITS, seeds=(0, 1)), tmp_path / "study", options=OPTIONS)
    write_report(results, tmp_path / "study")
    shutil.copytree(tmp_path / "study", tmp_path / "copy", ignore=shutil.ignore_patterns("study.sqlite*", "check*"))
    more = run_study(small(metric=FITS, seeds=(0, 1, 2)), tmp_path / "copy", options=OPTIONS)
    known = {t.id: dict(t.final) for t in results.trials}
    assert {t.id: dict(t.final) for t in more.trials if t.id in known} == known and len(more.trials) > len(known)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (dataclasses.replace(FITS, of="eror <= 3"), "metric is 'eror <= 3', but toy measures no 'eror'.*did you mean"),
        (Metric("error", "runs", of="train_loss <= 3"), "has the name 'error', by which toy measures something else"),
        (dataclasses.replace(FITS, at="min:eror"), "metric counts at 'min:eror', but toy measures no 'eror'"),
    ],
)
def test_what_nobody_measures_is_refused_before_training(metric, message, tmp_path):
    with pytest.raises(StudyError, match=message):
        run_study(small(metric=metric), tmp_path, options=OPTIONS)
