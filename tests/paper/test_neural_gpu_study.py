"""Table 5 as a study: the published table, the grid, and what the report adds."""

import dataclasses
import itertools

import numpy as np
import pytest

from gradnoise import Annealed
from gradnoise.paper import load_system
from gradnoise.paper.contrast import restated
from gradnoise.paper.neural_gpu import CLAIMS, CONTRASTS, EARLY, MARCH, NeuralGPU, learning
from gradnoise.paper.neural_gpu.extras import learned
from gradnoise.paper.neural_gpu.scales import FACTORS, PARAMETERS, as_strong_as_the_clip, grid
from gradnoise.paper.neural_gpu.study import PUBLISHED
from gradnoise.population import Adam
from gradnoise.study import Curve, StudyRecord, StudyResults, TrialResult
from gradnoise.study.analysis import summarise


def study(*place, **options):
    return load_system("neural-gpu").study(*place, **options)


def test_the_published_table():
    assert PUBLISHED == {1: (28, 58), 2: (90, 159), 3: (172, 282), 5: (387, 570)}
    (claim,) = CLAIMS
    assert [(c.id, c.published) for c in CONTRASTS] == [
        (f"T5.{t}", tuple(pytest.approx(100 * n / 7290) for n in PUBLISHED[t])) for t in (1, 2, 3)
    ]
    assert claim.figures["none"]["mean"] == pytest.approx(5.31, abs=0.01)
    assert claim.figures["eta-1"]["mean"] == pytest.approx(7.82, abs=0.01)


def test_the_grid_has_7290_models_an_arm():
    made = study("paper")
    assert len(made.settings) == 3**6 and len(list(made.trials())) == 2 * 7290
    assert made.settings[0].label == "defaults"
    first, *_ = made.trials()
    assert {n: first.config[n] for n in ("lr", "clip", "bound", "state_dropout", "init_weight", "pull_factor")} == {
        "lr": 1e-3, "clip": 0.05, "bound": 0.12, "state_dropout": 0.2, "init_weight": 1.0, "pull_factor": 1.2,
    }  # fmt: skip
    assert first.config["optimizer"] == Adam(eps=1e-5) and first.config["tests"] == (41, 401)
    for setting in made.settings:
        assert setting.label.count(",") + (setting.label != "defaults") == sum(
            setting.values[name] != first.config[name] for name in FACTORS
        )


@pytest.mark.parametrize(("scale", "cells"), [("centre", 1), ("axes", 13), ("paper", 729)])
def test_cells_that_are_run(scale, cells):
    assert len(study(scale).settings) == cells


def test_values_of_the_march_profile():
    cells = dict(grid(MARCH))
    assert cells["lr 0.002"]["lr"] == 0.002 and cells["lr 0.0005"]["clip"] == 1.0
    values = {name: sorted({v[name] for v in cells.values()}) for name in FACTORS}
    assert values["pull_factor"] == pytest.approx([1.095, 1.2, 1.44], abs=1e-3)
    assert values["bound"] == pytest.approx([0.10, 0.15, 0.225]) and values["clip"] == [0.5, 1, 2]
    assert values["state_dropout"] == pytest.approx([0.06, 0.09, 0.135])
    assert values["init_weight"] == pytest.approx([0.667, 1, 1.5], abs=1e-3)


def test_noise_as_strong_as_the_clip():
    assert sum(x.numel() for x in NeuralGPU().parameters()) == PARAMETERS
    for profile in (EARLY, MARCH):
        schedule = as_strong_as_the_clip(profile).values["noise"]
        assert isinstance(schedule, Annealed)
        assert (schedule(0) * PARAMETERS) ** 0.5 == pytest.approx(profile.clip)


# --- the report -------------------------------------------------------------------------------------------


def results(error, scale="centre", seeds=20) -> StudyResults:
    """Runs of a study of which `error(trial)` says the final error at the tested length."""
    made, trials = study(scale, seeds=seeds), []
    for t in made.trials():
        e = error(t)
        final = {
            "error": e,
            "sequence_error": 100.0,
            "strict_error": 100.0,
            "error_41": 1.0,
            "below_5": 100.0 * (e < 5),
        }
        final |= {f"below_{c}": 100.0 * (e < c) for c in (1, 2, 3)}
        curves = {"error": [40.0, 3.0, e], "error_41": [20.0, 0.5, 1.0], "length_limit": [6.0, 41.0, 41.0]}
        curves = {name: Curve(np.array([1, 2, 3]), np.array(x)) for name, x in curves.items()}
        labels = (t.id, t.row, t.setting, t.arm, t.seed, t.config)
        trials.append(TrialResult(*labels, "finished", t.config["steps"], final=final, curves=curves))
    return StudyResults(StudyRecord.of(made), tuple(trials))


def test_what_the_report_adds():
    found = results(lambda t: 0.5 if t.seed < (12 if t.arm == "eta-1" else 2) else 20.0)
    (_, counts), (_, figure), (_, table) = learning(found)
    for line, (threshold, arm) in zip(counts.rows, itertools.product((1, 2, 3, 5), (0, 1)), strict=True):
        assert line[1] == f"< {threshold} %" and line[3] == ("12/20" if arm else "2/20")
    assert "< 1 %: 28 and 58" in counts.caption and len(figure.axes) == 1
    none, noise = (dict(zip(table.headings, line, strict=True)) for line in table.rows)
    assert (none["digits"], noise["digits"]) == ("20", "0.5")
    # the second checkpoint was best at the training length: that of 3 %
    assert (none["best checkpoint"], none["best < 5 %"], none["training length"]) == ("3", "20/20", "1")
    assert none["limit"] == "41"


def test_what_became_of_the_gradient_is_told_where_it_was_recorded():
    found = results(lambda t: 0.5)
    assert len(learning(found)) == 3
    values = {"clipped_norm": 0.05, "noise_to_gradient": 65.0, "update_cosine": 0.01, "gradient_over_eps": 11.5}
    trials = []
    for t in found.trials:
        curves = {name: Curve(np.array([1, 2]), np.array([9.0, x])) for name, x in values.items()}
        trials.append(dataclasses.replace(t, curves={**t.curves, **curves}))
    *_, (_, table) = learning(StudyResults(found.record, tuple(trials)))
    assert [line[3:] for line in table.rows] == [("", "0.05", "65", "0.01", "11.5")] * 2


def test_nothing_is_added_before_a_run_is_done():
    assert learning(StudyResults(StudyRecord.of(study("centre")), ())) == []
    assert learned(StudyResults(StudyRecord.of(study("centre")), ())).rows == ()


def test_claims_are_judged_by_the_share_of_runs_below_5_percent():
    for hits, status in ((18, "reproduced"), (2, "undecided")):
        summary = summarise(results(lambda t, hits=hits: 0.5 if t.seed < (hits if t.arm == "eta-1" else 2) else 20.0))
        (finding,) = summary.findings
        assert finding.status == status


def test_the_stricter_thresholds_are_judged_from_the_same_runs():
    """With noise 18 runs end at 1.5 %, below the thresholds of 2 and 3 but not of 1."""
    found = results(lambda t: 1.5 if t.seed < (18 if t.arm == "eta-1" else 2) else 20.0)
    verdicts = {}
    for contrast in CONTRASTS:
        assert contrast.metric is not None
        (finding,) = summarise(restated(found, [contrast], contrast.metric)).findings
        verdicts[contrast.id] = finding.status
    assert verdicts == {"T5.1": "undecided", "T5.2": "reproduced", "T5.3": "reproduced"}


def test_cells_are_pooled_within_a_seed():
    """Two of 13 cells of every seed are good without noise, eight with it."""
    cells = [s.label for s in study("axes").settings]
    good = {"none": cells[:2], "eta-1": cells[:8]}
    summary = summarise(results(lambda t: 0.5 if t.setting in good[t.arm] else 20.0, scale="axes", seeds=10))
    (finding,) = summary.findings
    assert finding.status == "reproduced"
