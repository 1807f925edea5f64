"""Which evaluation of a run counts, the other reading beside it, and what is said where the two decide differently."""

import dataclasses
import io
import math

import numpy as np
import pytest
from rich.console import Console
from support.report_fakes import METRIC, STEPS, paired, record, study, trial
from support.small import Toy, small

from gradnoise.errors import StudyError
from gradnoise.population import Patience
from gradnoise.study import Arm, Metric, Options, Selection, Study, run_study
from gradnoise.study.analysis.scores import counted_value, other_value, succeeded
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.exported import read_folder, read_results
from gradnoise.study.report import write_report
from gradnoise.study.report.export import study_json
from gradnoise.study.report.terminal import print_summary
from gradnoise.study.results import Curve, TrialResult
from gradnoise.study.run.runner import dry_run

OPTIONS = Options(workers=1, chunk=4)
PLAIN = dataclasses.replace(METRIC, success=None)


def run(values: list[float], loss: list[float] | None = None, arm: str = "none", seed: int = 0, **kind) -> TrialResult:
    """A run that measured these values, and these validation losses, at three evaluations."""
    made = trial(arm, seed, values[-1], curve=values, **kind)
    curves = dict(made.curves)
    if loss is not None:
        curves["validation_loss"] = Curve(STEPS[: len(loss)], np.array(loss))
    return dataclasses.replace(made, curves=curves)


class TestWhichEvaluationCounts:
    @pytest.mark.parametrize(
        ("at", "counted", "other"),
        [
            ("last", 60.0, 95.0),
            ("best", 95.0, 60.0),
            ("min:validation_loss", 70.0, 60.0),
            ("best:validation_loss", 70.0, 60.0),
            ("max:validation_loss", 95.0, 60.0),
            ("best:accuracy", 95.0, 60.0),
        ],
    )
    def test_by_hand(self, at, counted, other):
        metric = dataclasses.replace(PLAIN, at=at)
        it = run([70.0, 95.0, 60.0], [0.1, 0.3, 0.2])
        assert (counted_value(it, metric), other_value(it, metric)) == (counted, other)

    def test_the_first_of_equal_ones_counts_and_nan_never_does(self):
        metric = dataclasses.replace(PLAIN, at="min:validation_loss")
        assert counted_value(run([1.0, 2.0, 3.0], [math.nan, 0.1, 0.1]), metric) == 2.0

    def test_a_run_that_diverged_counts_with_what_it_had_reached(self):
        metric = dataclasses.replace(METRIC, at="min:validation_loss", broken=0.0)
        broke = dataclasses.replace(run([90.0, 20.0], [0.1, 5.0], status="diverged"), final={})
        assert counted_value(broke, metric) == 90.0 and succeeded(broke, metric)
        assert not succeeded(broke, METRIC)
        assert counted_value(dataclasses.replace(broke, curves={}), metric) == 0.0
        lost = run([math.nan, 20.0], [0.1, 5.0])  # the metric itself is nan where it counts
        assert counted_value(lost, metric) == 0.0
        assert math.isnan(counted_value(lost, dataclasses.replace(metric, broken=None)))

    def test_what_was_not_measured_is_told(self):
        metric = dataclasses.replace(PLAIN, at="min:validation_lost")
        with pytest.raises(StudyError, match=r"no finite 'validation_lost': .*; did you mean 'validation_loss'"):
            counted_value(run([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]), metric)
        late = run([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
        curves = {**late.curves, "accuracy": Curve(STEPS[-1:], np.array([3.0]))}
        best_first = {**curves, "validation_loss": Curve(STEPS, np.array([1.0, 2.0, 3.0]))}
        metric = dataclasses.replace(PLAIN, at="min:validation_loss")
        assert counted_value(dataclasses.replace(late, curves=curves), metric) == 3.0
        with pytest.raises(StudyError, match="after 10 updates, and there 'accuracy' was not measured"):
            counted_value(dataclasses.replace(late, curves=best_first), metric)

    @pytest.mark.parametrize(
        ("at", "message"),
        [
            ("lats", "at = 'lats'; allowed are 'last', 'best', 'min:lats', 'max:lats'; did you mean 'last'"),
            ("validation_loss", "allowed are .*'min:validation_loss', 'max:validation_loss'"),
            ("mean:validation_loss", "allowed are 'last'"),
            ("min:", "names no measure"),
            ("min", "allowed are 'last', 'best', 'min:NAME', 'max:NAME'$"),
            ("mni:size", "allowed are 'last', 'best', 'min:size', 'max:size'; did you mean 'min'"),
            ("best:size", "does not say which direction of 'size' is better; write min:size or max:size"),
            ("best:loss_accuracy", "does not say which direction"),
            ("min:accuracy", "counts the worst evaluation of the metric itself; write 'best'"),
            (3, "at is 3, an int; it must be text"),
        ],
    )
    def test_what_cannot_be_is_refused(self, at, message):
        with pytest.raises(StudyError, match=message):
            dataclasses.replace(PLAIN, at=at)

    def test_a_selection_reports_the_same_evaluation(self):
        report = (Metric("error", "error", higher_is_better=False),)
        with pytest.raises(StudyError, match="reports it of the chosen runs at 'last'; give both metrics the same"):
            Study(
                name="s", title="s", experiment=Toy(), arms=(Arm("none"), Arm("noise", {"lr": 0.2})),
                metric=dataclasses.replace(report[0], at="best"), selection=Selection(("train_loss",), report),
            )  # fmt: skip


def overfitted():
    """Noise is better at the end, where the baseline has overfitted; where the validation loss is best it is not."""
    trials = []
    for seed in range(8):
        best = 80.0 + 0.1 * seed
        trials.append(run([best, 75.0, 70.0 + 0.2 * seed], [0.1, 0.2, 0.3], "none", seed))
        trials.append(run([60.0, best + 0.05 * (-1) ** seed, best], [0.3, 0.1, 0.2], "noise", seed))
    return trials


class TestTwoReadings:
    def test_the_last_evaluation_and_early_stopping_decide_differently(self):
        last, early = (
            summarise(study(overfitted(), metric=dataclasses.replace(PLAIN, at=at)))
            for at in ("last", "min:validation_loss")
        )
        assert [e.verdict.outcome for e in last.effects] == ["helps"]
        assert [e.verdict.outcome for e in early.effects] == ["no difference"]
        assert early.effects[0].second.difference == last.effects[0].comparison.difference
        assert early.effects[0].second_outcome == "helps"

    def test_page_and_terminal_say_so_in_one_sentence(self, tmp_path):
        for at, sentence, other in (
            ("last", "By each run's best evaluation instead of its last, noise makes no difference.", "best: = +0.0"),
            (
                "min:validation_loss",
                "By each run's last evaluation instead of the one with the lowest validation_loss, noise helps.",
                "last: ▲ +9.6",
            ),
        ):
            results = study(overfitted(), metric=dataclasses.replace(PLAIN, at=at))
            page = write_report(results, tmp_path / at[:3]).read_text(encoding="utf-8")
            assert page.count(sentence.replace("'", "&#39;")) == 1
            assert ("accuracy at the evaluation with the lowest validation_loss</dd>" in page) == (at != "last")
            console = Console(width=80, record=True, file=io.StringIO())
            print_summary(summarise(results), console)
            said = console.export_text()
            assert other in said and " ".join(said.split()).count(sentence) == 1

    def test_nothing_is_said_where_both_agree(self, tmp_path):
        results = study(paired(lambda arm, seed: 50.0 + seed + 20.0 * (arm == "noise")))
        page = write_report(results, tmp_path).read_text(encoding="utf-8")
        assert "instead of its last, noise" not in page and ">At best<" not in page

    def test_tables_name_what_counts_and_read_back_the_same(self, tmp_path):
        trials = [dataclasses.replace(t, id=f"{i:016x}") for i, t in enumerate(overfitted())]
        results = study(trials, metric=dataclasses.replace(PLAIN, at="min:validation_loss"))
        write_report(results, tmp_path)
        header = (tmp_path / "trials.csv").read_text().splitlines()[0]
        assert ",final,best,counted," in header
        assert "last_difference" in (tmp_path / "summary.csv").read_text().splitlines()[0]
        assert "the evaluation with the lowest validation\\_loss" in (tmp_path / "summary.md").read_text()
        for again in (read_folder(tmp_path), read_results(tmp_path)):
            assert summarise(again).effects == summarise(results).effects

    def test_studies_that_say_nothing_keep_their_bytes(self, tmp_path):
        assert b'"at": ' not in study_json(study(overfitted(), metric=PLAIN))
        assert b'"at": "min:validation_loss"' in study_json(
            study(overfitted(), metric=dataclasses.replace(PLAIN, at="best:validation_loss"))
        )
        write_report(study(overfitted(), metric=PLAIN), tmp_path)
        assert ",final,best,success,final.accuracy," in (tmp_path / "trials.csv").read_text().splitlines()[0]
        assert record(metric=PLAIN).metric.at == "last"


class TestBeforeTraining:
    @pytest.mark.parametrize("at", ["min:eror", "max:valid_accuracy"])
    def test_a_name_that_nobody_measures_is_refused(self, at, tmp_path):
        metric = Metric("error", "error", higher_is_better=False, at=at)
        asked = small(metric=metric)
        for ask in (lambda: dry_run(asked, tmp_path), lambda: run_study(asked, tmp_path, options=OPTIONS)):
            with pytest.raises(StudyError, match=f"metric counts at '{at}', but toy measures no"):
                ask()
        with pytest.raises(StudyError, match="never started"):
            read_folder(tmp_path)

    def test_a_goal_that_waits_for_a_metric_that_nobody_measures_is_refused(self, tmp_path):
        experiment = Toy()
        experiment.goal = Patience("max:accuracy", 2)
        with pytest.raises(ValueError, match=r"Patience waits for 'accuracy', .* there are error"):
            run_study(small(experiment), tmp_path, options=OPTIONS)

    def test_what_training_itself_measures_may_decide(self, tmp_path):
        experiment = Toy()
        experiment.goal = Patience("error", 1)
        metric = Metric("error", "error", higher_is_better=False, at="min:train_loss")
        results = run_study(small(experiment, metric=metric), tmp_path, options=OPTIONS)
        for it in results.trials:
            at = it.curves["train_loss"].values.argmin()
            assert counted_value(it, metric) == it.curves["error"].values[at]
            rose = np.diff(it.curves["error"].values) >= 0
            assert it.step == 12 if not rose.any() else it.curves["error"].steps[rose.argmax() + 1]
