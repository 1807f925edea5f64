"""The run that training would choose: by training alone, with ties, gaps and an interval; and where it is shown."""

import dataclasses
import io
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support.report_fakes import ARMS, study, trial
from support.small import small

from gradnoise.study import Claim, Metric, Selection, Store, StudyError
from gradnoise.study.analysis.selection import choose, chosen_trials
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.report import print_table, write_report
from gradnoise.study.report.tables import markdown
from gradnoise.study.report.text import best_heading, lines
from gradnoise.study.results import StudyRecord, StudyResults, TrialResult

HELD = Metric("validation_error", "validation error", "%", higher_is_better=False, margin=1.0)
TRAIN = dataclasses.replace(HELD, name="train_error", title="training error")
SELECTION = Selection(("train_error", "train_loss"), (TRAIN, HELD))


def run(
    seed: int, train: float, loss: float, held: float, setting: str = "s", arm: str = "none", status: str = "finished"
) -> TrialResult:
    final = {"train_error": train, "train_loss": loss, "validation_error": held}
    one = trial(arm, seed, held, setting=setting, status=status, metric="validation_error")
    return dataclasses.replace(one, final={k: v for k, v in final.items() if not math.isnan(v)}, config={"steps": 30})


def values(trials, **options) -> dict[str, float]:
    return {f.metric.name: f.value for f in choose(trials, SELECTION, 0.95, 0, **options).metrics}


class TestChoosing:
    def test_the_lowest_training_error_wins_whatever_was_held_out(self):
        trials = [run(0, 5.0, 0.1, 1.0), run(1, 4.0, 0.9, 30.0), run(2, 6.0, 0.0, 0.0)]
        assert chosen_trials(trials, SELECTION)["s"].seed == 1
        assert values(trials) == {"train_error": 4.0, "validation_error": 30.0}

    def test_ties_go_to_the_loss_then_to_the_lower_seed(self):
        assert chosen_trials([run(0, 0.0, 0.3, 9.0), run(1, 0.0, 0.2, 9.0)], SELECTION)["s"].seed == 1
        assert chosen_trials([run(1, 0.0, 0.2, 1.0), run(0, 0.0, 0.2, 9.0)], SELECTION)["s"].seed == 0

    def test_nan_is_the_last_choice(self):
        trials = [run(0, math.nan, 0.0, 1.0), run(1, 50.0, math.nan, 20.0), run(2, 50.0, 1.0, 30.0)]
        assert chosen_trials(trials, SELECTION)["s"].seed == 2
        assert chosen_trials(trials[:1], SELECTION)["s"].seed == 0

    def test_each_setting_chooses_for_itself_and_counts_alike(self):
        trials = [
            run(0, 1.0, 0, 10.0, "a"),
            run(1, 2.0, 0, 20.0, "a"),
            run(0, 9.0, 0, 30.0, "b"),
            run(1, 5, 0, 50, "b"),
        ]
        chosen = choose(trials, SELECTION, 0.95, 0)
        assert dict(chosen.seeds) == {"a": 0, "b": 1}
        assert chosen.of("validation_error").value == 30.0
        assert chosen.of("validation_error").over_restarts.mean == 27.5

    def test_a_seed_that_lacks_a_setting_waits(self):
        trials = [run(0, 3.0, 0, 3.0, "a"), run(0, 3.0, 0, 3.0, "b"), run(1, 0.0, 0, 0.0, "a")]
        pending = run(1, 0.0, 0, 0.0, "b", status="pending")
        assert choose([*trials, pending], SELECTION, 0.95, 0).restarts == 1
        assert values([*trials, pending])["train_error"] == 3.0
        nothing = choose([pending], SELECTION, 0.95, 0)
        assert nothing.restarts == 0 and nothing.seeds == {} and math.isnan(nothing.metrics[0].value)

    @given(st.lists(st.tuples(*[st.floats(0, 100)] * 4), min_size=1, max_size=6), st.randoms(use_true_random=False))
    def test_held_out_values_and_the_order_of_runs_decide_nothing(self, runs, random):
        first = [run(s, a, b, c) for s, (a, b, c, _) in enumerate(runs)]
        second = [run(s, a, b, d) for s, (a, b, _, d) in enumerate(runs)]
        random.shuffle(second)
        assert chosen_trials(first, SELECTION)["s"].seed == chosen_trials(second, SELECTION)["s"].seed


class TestInterval:
    def test_resampled_restarts_choose_anew(self):
        """Of two restarts the better one is drawn with probability 3/4; with it the choice is as before."""
        trials = [run(0, 1.0, 0, 10.0), run(1, 2.0, 0, 4.0)]
        narrow, wide = (choose(trials, SELECTION, level, 0).of("validation_error").interval for level in (0.4, 0.9))
        assert (narrow.low, narrow.high) == (10.0, 10.0)
        assert (wide.low, wide.high) == (4.0, 10.0)

    def test_a_restart_is_drawn_with_all_its_settings(self):
        """Settings whose runs mirror each other cancel in every resample, unless they were drawn apart."""
        trials = [run(s, float(s), 0, v, name) for s in range(4) for name, v in (("a", 10.0 * s), ("b", 30 - 10.0 * s))]
        interval = choose(trials, SELECTION, 0.95, 0).of("validation_error").interval
        assert (interval.low, interval.high) == (15.0, 15.0)

    def test_it_repeats_and_one_restart_has_none(self):
        trials = [run(s, s % 3, s, 7.0 * s % 5) for s in range(6)]
        assert choose(trials, SELECTION, 0.95, 5) == choose(trials, SELECTION, 0.95, 5)
        assert choose(trials[:1], SELECTION, 0.95, 5).metrics[0].interval.high == math.inf


@pytest.fixture(scope="module")
def results() -> StudyResults:
    trials = [
        run(s, 5.0 - s if arm == "none" else 2.0 + s, 0.1, 20.0 + s - 3 * (arm == "noise"), setting, arm)
        for s in range(4)
        for arm in ("none", "noise")
        for setting in ("x", "y")
    ]
    figures = {"none": {"best": 19.5, "train_error": 10.5}, "noise": {"best": 16.6, "train_error": 9.6}}
    claim = Claim("M", "a", "Noise helps.", "Paper, Table 2", "noise", "helps", figures)
    return study(trials, metric=HELD, claims=(claim,), selection=SELECTION, arms=ARMS)


class TestShown:
    def test_lines_have_the_chosen_run_where_others_have_the_best(self, results):
        none, noise = lines(summarise(results))
        assert best_heading(results.record) == "Chosen run"
        assert (none.final.best, noise.final.best) == ("23.0", "17.0")  # the best ones are 20 and 17
        assert [f.value for f in none.chosen] == ["2.0", "23.0"]
        assert [f.published for f in noise.chosen] == ["9.6", "16.6"]
        assert none.chosen[0].mean == "3.5"
        assert summarise(results).findings[0].status == "undecided"

    def test_every_table_shows_it(self, results, tmp_path):
        summary = summarise(results)
        file = io.StringIO()
        print_table(summary, Console(file=file, width=200))
        page = write_report(results, tmp_path, summary=summary).read_text(encoding="utf-8")
        for text in (file.getvalue(), markdown(summary), page):
            assert "training error" in text and "lower train loss" in text and "10.5" in text and "16.6" in text
        assert "The run that training would choose" in page
        table = pd.read_csv(tmp_path / "summary.csv").set_index("arm")
        assert table.loc["none", "chosen_train_error"] == 2.0 and table.loc["none", "published_train_error"] == 10.5
        assert table.loc["none", "chosen_validation_error_low"] <= table.loc["none", "chosen_validation_error"]
        trials = pd.read_csv(tmp_path / "trials.csv")
        picked = trials[trials["chosen"] == 1]
        assert sorted(zip(picked["arm"], picked["setting"], picked["seed"], strict=True)) == [
            ("noise", "x", 0), ("noise", "y", 0), ("none", "x", 3), ("none", "y", 3),
        ]  # fmt: skip

    def test_other_studies_show_nothing_of_it(self, results, tmp_path):
        plain = dataclasses.replace(results, record=dataclasses.replace(results.record, selection=None))
        page = write_report(plain, tmp_path).read_text(encoding="utf-8")
        assert "Chosen" not in page and "training would choose" not in page
        assert "chosen" not in pd.read_csv(tmp_path / "trials.csv").columns
        assert not [c for c in pd.read_csv(tmp_path / "summary.csv").columns if "chosen" in c]


class TestAsking:
    METRIC = Metric("error", "error", higher_is_better=False)

    @pytest.mark.parametrize("by", [("error",), ("mean", "error"), ()])
    def test_choosing_by_what_is_compared_is_refused(self, by):
        with pytest.raises(StudyError, match="choose by measures of training, and not by 'error'"):
            small(metric=self.METRIC, selection=Selection(by, (self.METRIC,)))

    def test_the_metric_must_be_reported(self):
        with pytest.raises(StudyError, match="does not report its metric 'error'"):
            small(metric=self.METRIC, selection=Selection(("mean",), (dataclasses.replace(self.METRIC, name="mean"),)))

    def test_the_store_keeps_it(self, tmp_path):
        chosen = Selection(("mean",), (self.METRIC,))
        with Store(tmp_path) as store:
            store.extend(StudyRecord.of(small(metric=self.METRIC, selection=chosen)), [], [])
            assert store.record().selection == chosen
            store.extend(StudyRecord.of(small(metric=self.METRIC)), [], [])
            assert store.record().selection is None
