"""Figures and tables that the report of Neural Programmers adds."""

import pytest

from gradnoise.paper import load_system
from gradnoise.paper.neural_programmer.extras import answers, by_category, by_setting
from gradnoise.study import Options, StudyResults, run_study


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> StudyResults:
    study = load_system("neural-programmer").study("smoke", study="figure2")
    return run_study(study, tmp_path_factory.mktemp("study"), options=Options(workers=1))


def test_the_report_shows_what_is_answered(results):
    found = dict(answers(results))
    assert list(found)[-1] == "Figure 2: our runs beside the paper's" and len(found) == 5
    loss, accuracy = found["Figure 2: our runs beside the paper's"].axes
    assert len(loss.lines) == len(accuracy.lines) == 6  # two seeds in two arms, and the paper's two curves
    assert max(accuracy.lines[-1].get_ydata()) == 99 and min(loss.lines[-1].get_ydata()) == 1300
    ours = [line for line in accuracy.lines if line.get_linestyle() == "-"]
    assert all(list(line.get_xdata())[-1] == 2 for line in ours)


def test_tables_count_runs(results):
    table = by_category(results)
    assert [line[1:6] for line in table.rows] == [("no noise", *["0/2"] * 4), ("noise", *["0/2"] * 4)]
    for line in table.rows:
        runs = [t for t in results.trials if t.arm == ("none" if line[1] == "no noise" else "noise")]
        assert line[-1] == f"{max(t.final['accuracy'] for t in runs):.1f}"
        assert line[8] == f"{sum(t.final['test_logic'] for t in runs) / 2:.1f}"
    assert by_setting(results).rows[0][2:] == ("0: 0/1  1: 0/1", "1: 0/2", "10: 0/2", "50: 0/2")


def test_nothing_is_shown_of_a_study_without_runs(results):
    assert answers(StudyResults(results.record, ())) == []
