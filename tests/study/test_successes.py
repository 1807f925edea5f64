"""Success-rate systems: counts, exact tests against the baseline, learning curves, dose and response."""

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats
from support.report_fakes import METRIC, study, trial

from gradnoise.study.analysis.statistics import clopper_pearson, fisher_exact, mcnemar_exact
from gradnoise.study.analysis.successes import POOLED, done_by_row, success_counts, success_curve
from gradnoise.study.report import dose_response, evaluated_rows, exact_tests, learning_curves
from gradnoise.study.results import Curve, StudyResults, TrialResult
from gradnoise.study.spec import Arm

RATE = dataclasses.replace(METRIC, chance=None, success=100.0, rate=True)
ARMS = (Arm("none", title="no noise"), Arm("weak"), Arm("strong"))
#: Seeds that succeed.
WON = {"none": {0, 1}, "weak": {1, 2, 3, 4}, "strong": set(range(9))}


def runs(row: str = "a", seeds: int = 10, task: str = "lists") -> list[TrialResult]:
    made = [trial(arm, s, 100.0 * (s in WON[arm]), row=row, curve=[0.0, 100.0 * (s in WON[arm])]) for s in range(seeds)
            for arm in WON]  # fmt: skip
    return [dataclasses.replace(t, config={"task": task}) for t in made]


def results(*trials: TrialResult, rows: str = "ab") -> StudyResults:
    return study(trials, metric=RATE, arms=ARMS, rows=tuple(rows))


class TestCounts:
    def test_by_hand(self):
        none, weak, strong = success_counts(results(*runs()))
        assert (none.successes, none.n, none.against) == (2, 10, None)
        assert weak.interval == clopper_pearson(4, 10)
        assert weak.against is not None and (weak.against.gained, weak.against.lost) == (3, 1)
        assert weak.against.mcnemar == mcnemar_exact(3, 1)
        assert weak.against.fisher == fisher_exact(4, 10, 2, 10)
        assert strong.against is not None
        assert strong.against.fisher == pytest.approx(stats.fisher_exact([[9, 1], [2, 8]])[1])

    def test_only_what_is_done_counts_and_a_diverged_run_is_no_success(self):
        more = [trial("weak", 20, None, status="pending"), trial("weak", 21, 100.0, status="diverged")]
        (_, cells), *rest = done_by_row(results(*runs(), *more))
        assert rest == [] and len(cells["weak"]) == 11
        assert success_counts(results(*runs(), *more))[1].successes == 4

    def test_seeds_that_one_arm_lacks_are_no_pairs(self):
        missing = [t for t in runs() if (t.arm, t.seed) != ("none", 2)]
        weak = success_counts(results(*missing))[1]
        assert weak.against is not None and (weak.against.gained, weak.against.lost) == (2, 1)
        assert weak.against.fisher == fisher_exact(4, 10, 2, 9)

    def test_settings_of_a_seed_are_pairs_of_their_own(self):
        both = [*runs(), *(dataclasses.replace(t, setting="lr=0.2", id=f"{t.id}x") for t in runs())]
        weak = success_counts(results(*both))[1]
        assert weak.against is not None and (weak.n, weak.against.gained, weak.against.lost) == (20, 6, 2)

    def test_an_arm_without_its_baseline(self):
        alone = [t for t in runs() if t.arm == "weak"]
        (weak,) = success_counts(results(*alone))
        assert weak.against is not None and (weak.against.mcnemar, weak.against.fisher) == (1.0, 1.0)

    def test_rows_are_pooled_where_they_agree(self):
        def titles(*trials: TrialResult, **options: str) -> list[str]:
            return list(dict.fromkeys(c.row for c in success_counts(results(*trials), **options)))

        assert titles(*runs(), *runs("b"), pool_by="task") == ["Row a", "Row b", POOLED]
        assert titles(*runs(), *runs("b")) == ["Row a", "Row b"]
        assert titles(*runs(), *runs("b", task="sums"), pool_by="task") == ["Row a", "Row b"]
        assert titles(*runs(), *[t for t in runs("b") if t.arm != "weak"], pool_by="task") == ["Row a", "Row b"]
        assert titles(*runs(), pool_by="task") == ["Row a"]
        assert [c.n for c in success_counts(results(*runs(), *runs("b")), pool_by="task")][-3:] == [20, 20, 20]


def test_success_is_kept_once_it_was_reached():
    one = trial("none", 0, 50.0, curve=[50.0, 100.0, 50.0])
    assert success_curve(one, RATE).values.tolist() == [0.0, 100.0, 100.0]


def test_the_table_says_what_the_counts_say():
    table = exact_tests(results(*runs()), succeeds="solved")
    assert table.headings[2] == "solved"
    assert table.rows[0] == ("Row a", "no noise", "2/10", "2.5 to 55.6", "", "", "", "")
    assert table.rows[1] == ("Row a", "weak", "4/10", "12.2 to 73.8", "3", "1", "0.625", "0.628")


def lines(figure: Figure, panel: int) -> list[tuple[list[float], list[float]]]:
    return [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in figure.axes[panel].lines]


class TestLearningCurves:
    def test_a_run_that_ended_counts_on(self):
        short = trial("none", 0, 100.0, curve=[100.0])
        figure = learning_curves(
            results(short, trial("none", 1, 0.0, curve=[0.0, 10.0, 20.0])), "accuracy", y="", y_success=""
        )
        assert lines(figure, 0) == [([10, 20, 30], [50.0, 55.0, 60.0])]
        assert lines(figure, 1) == [([10, 20, 30], [50.0, 50.0, 50.0])]

    def test_a_run_that_trains_on_ends_the_mean(self):
        running = dataclasses.replace(trial("none", 0, 0.0, curve=[0.0]), status="running")
        figure = learning_curves(results(running, trial("none", 1, 0.0)), "accuracy", y="", y_success="")
        assert [x for x, _ in lines(figure, 0)] == [[10]]

    def test_a_panel_for_each_row_and_a_legend_of_the_arms_drawn(self):
        figure = learning_curves(results(*runs(), *runs("b")), "accuracy", y="mean", y_success="share")
        assert len(figure.axes) == 4
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["no noise", "weak", "strong"]

    def test_rows_without_an_evaluated_baseline_are_left_out(self):
        blank = [dataclasses.replace(t, curves={"accuracy": Curve(np.empty(0), np.empty(0))}) for t in runs("b")]
        assert evaluated_rows(results(*runs(), *blank)) == [("a", "Row a")]


def test_dose_and_response():
    figure = dose_response(results(*runs()), {"none": "0", "strong": "1"}, x="η", y="share")
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "1"]
    assert [t.get_text() for t in axes.texts if "/" in t.get_text()] == ["2/10", "9/10"]
    shares = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert shares == [20.0, 90.0]
