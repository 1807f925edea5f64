"""The tables that an NRAM study adds to its report, against counts made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from gradnoise.paper import load_system
from gradnoise.paper.nram import learning
from gradnoise.paper.nram.extras import learned
from gradnoise.study import Curve, StudyRecord, StudyResults, TrialResult
from gradnoise.study.report import Table

STUDY = load_system("nram").study("paper", seeds=20)
HITS = {"none": 2, "eta-0.01": 2, "eta-0.3": 11, "eta-1.0": 0}
"""The first seeds of each arm are solved."""


def run(trial, solved):
    error = 0.0 if solved else 40.0 + trial.seed
    final = {"solved": 100.0 * solved, "error": error, "hard_error": 5.0, "far_error": 25.0, "steps": 8.0}
    final |= {"level": 1 + 3 * solved, "error_k0": 10.0, "error_k1": 70.0}
    curves = {name: Curve(np.array([500, 5000]), np.full(2, final[name])) for name in ("error", "solved")}
    labels = (trial.id, trial.row, trial.setting, trial.arm, trial.seed, trial.config)
    return TrialResult(*labels, "finished", 5000, final=final, curves=curves)


def results(rows="AB"):
    trials = [run(t, t.seed < HITS[t.arm]) for t in STUDY.trials() if t.row in rows]
    return StudyResults(StudyRecord.of(STUDY), tuple(trials))


def exact(results):
    """The exact tests among what the report adds."""
    return dict(learning(results))["Exact tests of the runs at zero error"]


def lines(table):
    return {row[:2]: dict(zip(table.headings, row, strict=True)) for row in table.rows}


def test_exact_tests():
    found = lines(exact(results()))
    assert {row for row, _ in found} == {"HP-A", "HP-B", "all"}
    none, middle = found["HP-A", "no noise"], found["HP-A", "noise η = 0.3"]
    assert none["solved"] == "2/20" and none["95 %, exact"] == "1.2 to 31.7" and none["p, Fisher"] == ""
    assert (middle["solved"], middle["gained"], middle["lost"]) == ("11/20", "9", "0")
    assert float(middle["p, McNemar"]) == pytest.approx(2 / 2**9, rel=1e-2)
    assert float(middle["p, Fisher"]) == pytest.approx(stats.fisher_exact([[11, 9], [2, 18]])[1], rel=1e-2)
    weak, strong, pooled = (
        found[k] for k in (("HP-A", "noise η = 0.01"), ("HP-A", "noise η = 1.0"), ("all", "no noise"))
    )
    assert (weak["gained"], weak["lost"], weak["p, McNemar"]) == ("0", "0", "1")
    assert (strong["gained"], strong["lost"], strong["p, McNemar"]) == ("0", "2", "0.5")
    assert pooled["solved"] == "4/40"


def test_rows_that_learn_other_things_are_not_pooled():
    both = results()
    trials = [replace(t, config={**t.config, "lesson": t.row}) for t in both.trials]
    assert {row for row, *_ in exact(StudyResults(both.record, tuple(trials))).rows} == {"HP-A", "HP-B"}


def test_one_row_is_not_pooled():
    assert {row for row, *_ in exact(results("A")).rows} == {"HP-A"}


def test_what_was_learned():
    found = lines(learned(results("A")))
    none, strong = found["HP-A", "no noise"], found["HP-A", "noise η = 1.0"]
    assert (none["hard"], none["twice as large"], none["k = 1"]) == ("5.0", "25.0", "70.0")
    assert none["error, unsolved"] == "50.5"  # the median of 42 to 59
    assert none["level"] == "1.3" and none["E[t]"] == "8.0"
    assert (none["ever below 10 %"], strong["ever below 10 %"]) == ("2/20", "0/20")
    assert strong["hard"] == "" and strong["error, unsolved"] == "49.5"


def test_the_report_has_them_beside_the_figures():
    extras = list(load_system("nram").extras(results()))
    assert [type(x) for _, x in extras] == [Figure, Figure, Table, Table]
    assert extras[2][1].caption.startswith("Clopper-Pearson intervals in %; seeds that are solved with the noise")
    assert extras[3][1] == learned(results())
