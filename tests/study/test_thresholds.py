"""Several thresholds of success of one metric: counts by hand, strictness, and the picture."""

import math

import pytest
from scipy import stats

from gradnoise.study import Arm, Metric, Setting, Study, StudyError, StudyRecord, StudyResults, TrialResult
from gradnoise.study.report import distribution, threshold_counts

ERROR = Metric("error", "wrong digits", unit="%", higher_is_better=False)


class Subject:
    name, fingerprint, data_title, stand_in = "toy", "", "toy data", False


STUDY = Study(
    name="toy",
    title="Toy",
    experiment=Subject(),
    arms=(Arm("none"), Arm("noise", {"eta": 1}, title="with noise")),
    metric=Metric("accuracy", "accuracy"),
    settings=(Setting("A", "row A", {"lr": 1}, name="1"), Setting("A", "row A", {"lr": 2}, name="2")),
    seeds=(0, 1, 2),
)
#: (setting, seed) -> error without and with noise.
ERRORS = {
    ("1", 0): (4.0, 0.5),
    ("1", 1): (1.0, 0.9),
    ("1", 2): (60.0, 2.0),
    ("2", 0): (0.0, 7.0),
    ("2", 1): (math.nan, 0.99),
    ("2", 2): (30.0, 40.0),
}


def results(**changed) -> StudyResults:
    trials = []
    for t in STUDY.trials():
        value = ERRORS[t.setting, t.seed][t.arm == "noise"]
        labels = (t.id, t.row, t.setting, t.arm, t.seed, t.config)
        trials.append(TrialResult(*labels, "finished", 1000, final={"error": value} | changed))
    return StudyResults(StudyRecord.of(STUDY), tuple(trials))


def lines(table):
    return {row[1:3]: dict(zip(table.headings, row, strict=True)) for row in table.rows}


def test_counts_by_hand():
    found = lines(threshold_counts(results(), ERROR, (1, 5)))
    assert list(found) == [("< 1 %", "none"), ("< 1 %", "with noise"), ("< 5 %", "none"), ("< 5 %", "with noise")]
    assert [line["runs"] for line in found.values()] == ["1/6", "3/6", "3/6", "4/6"]
    strict = found["< 1 %", "with noise"]
    assert (strict["gained"], strict["lost"]) == ("3", "1")  # pairs share setting and seed
    assert float(strict["p"]) == 1  # by seeds: 0, 2 and 0 runs more
    low, high = stats.binomtest(3, 6).proportion_ci(method="exact")
    assert strict["95 %, exact"] == f"{100 * low:.1f} to {100 * high:.1f}"
    assert found["< 1 %", "none"]["gained"] == ""


def test_one_pair_a_seed_is_tested_as_mcnemar_does():
    one = results()
    one = StudyResults(one.record, tuple(t for t in one.trials if t.setting == "1"))
    strict = lines(threshold_counts(one, ERROR, [1]))["< 1 %", "with noise"]
    assert (strict["gained"], strict["lost"]) == ("2", "0")
    assert float(strict["p"]) == pytest.approx(stats.binomtest(0, 2).pvalue)


def test_a_threshold_is_strict():
    for threshold, runs in ((1.0, "1/6"), (1.0001, "2/6"), (4.0, "2/6"), (4.5, "3/6")):
        assert threshold_counts(results(), ERROR, [threshold]).rows[0][3] == runs


@pytest.mark.parametrize("options", [(ERROR, ()), (Metric("accuracy", "accuracy"), (1,))])
def test_what_has_no_thresholds_is_refused(options):
    with pytest.raises(StudyError, match="give one threshold or more, and a metric of which lower values are better"):
        threshold_counts(results(), *options)


def test_the_distribution_is_that_of_all_runs():
    (axes,) = distribution(results(), ERROR, (1, 5)).axes
    without, treated, *marks = axes.lines
    assert without.get_xdata().tolist() == [0, 0, 1, 4, 30, 60]
    assert without.get_ydata().tolist() == pytest.approx([0, *(100 * k / 6 for k in range(1, 6))])  # the nan never ends
    assert treated.get_xdata().tolist() == [0, 0.5, 0.9, 0.99, 2, 7, 40] and treated.get_ydata()[-1] == 100
    assert [line.get_xdata()[0] for line in marks] == [1, 5]


def test_a_study_without_runs_has_no_distribution():
    with pytest.raises(StudyError, match="no run that is done"):
        distribution(StudyResults(StudyRecord.of(STUDY), ()), ERROR, (1,))
