"""The study of Table 1: its grid, its pairs and the paper's figures."""

import dataclasses
from collections import Counter

import pytest

from gradnoise.noise.schedule import Annealed
from gradnoise.paper.deep_mlp import CLAIMS, SYSTEM, weight_sd
from gradnoise.paper.deep_mlp.extras import diffused_sd
from gradnoise.study import StudyError


@pytest.fixture(scope="module")
def study():
    return SYSTEM.study("paper", "digits")


def test_the_paper_scale_is_600_runs_of_60_000_updates(study):
    trials = list(study.trials())
    cells = Counter((t.row, t.arm) for t in trials)
    assert len(trials) == 600 and set(cells.values()) == {40}
    assert len([row for row, _ in cells if row != "5-layer"]) == 13
    assert {t.config["steps"] for t in trials} == {60_000}
    assert len({t.id for t in trials}) == 600


def test_a_row_pools_both_learning_rates_over_20_seeds(study):
    runs = Counter((t.row, t.arm, t.config["lr"]) for t in study.trials())
    assert set(runs.values()) == {20} and {lr for *_, lr in runs} == {0.1, 0.01}


def test_pairs_differ_in_the_arm_alone(study):
    pairs = {}
    for t in study.trials():
        pairs.setdefault((t.row, t.setting, t.seed), {})[t.arm] = t.config
    for arms in pairs.values():
        for name, config in arms.items():
            changed = {k for k in config if config[k] != arms["none"].get(k)}
            assert changed == {"none": set(), "noise": {"noise"}, "dropout": {"dropout"}}[name]
            if name == "noise":
                assert config["noise"] == Annealed(eta=0.01, gamma=0.55)


def test_dropout_runs_without_noise_in_the_first_row_only(study):
    assert {(t.row, t.config["dropout"], t.config.get("noise")) for t in study.trials() if t.arm == "dropout"} == {
        ("1", 0.5, None)
    }


def test_rows_hold_the_papers_initialisations_and_clips(study):
    rows = {t.row: (t.config["init"], t.config["clip"], t.config["depth"]) for t in study.trials()}
    assert rows == {
        "1": ("simple", None, 20),
        "2": ("simple", 100.0, 20),
        "3": ("simple", 10.0, 20),
        "4": ("sussillo", 10.0, 20),
        "5": ("he", 10.0, 20),
        "6": ("zero", 10.0, 20),
        "5-layer": ("simple", None, 5),
    }


def test_claims_hold_the_papers_table():
    figures = {c.id: {arm: (f["best"], f["mean"]) for arm, f in c.figures.items()} for c in CLAIMS}
    table = {id: of for id, of in figures.items() if not id.endswith("/raw")}
    assert table == {
        "T1.1": {"none": (89.9, 43.1), "noise": (96.7, 52.7)},
        "T1.2": {"none": (90.0, 46.3), "noise": (96.7, 52.3)},
        "T1.3": {"none": (95.7, 51.6), "noise": (97.0, 53.6)},
        "T1.4": {"none": (97.4, 92.1), "noise": (97.5, 92.2)},
        "T1.5": {"none": (97.4, 91.7), "noise": (97.2, 91.7)},
        "T1.6": {"none": (11.4, 10.1), "noise": (94.5, 49.7)},
        "T1.1-dropout": {"none": (89.9, 43.1), "dropout": (11.3, 10.8)},
        "4.1-five": {},
    }
    assert {id: of for id, of in figures.items() if id not in table} == {
        f"T1.{row}/raw": table[f"T1.{row}"] for row in (1, 2, 3)
    }


@pytest.mark.parametrize("scale", ["smoke", "quick"])
def test_smaller_scales_say_how_they_depart(scale):
    study = SYSTEM.study(scale, "digits")
    assert any(scale in line.lower() for line in study.deviations)
    assert study.experiment.stand_in and study.scale == scale


def test_fewer_seeds_and_updates_are_reported_as_deviations():
    study = SYSTEM.study("paper", "digits", seeds=6, steps=30_000)
    assert "30,000 updates a run instead of 60,000." in study.deviations
    assert "6 seeds instead of 20." in study.deviations
    assert {t.config["steps"] for t in study.trials()} == {30_000}


def test_more_seeds_keep_the_ids_of_those_before():
    few, more = (SYSTEM.study("paper", "digits", seeds=n) for n in (2, 3))
    assert {t.id for t in few.trials()} < {t.id for t in more.trials()}


def test_wrong_scale_and_seeds_are_refused():
    with pytest.raises(StudyError, match="scales are smoke, quick, paper"):
        SYSTEM.study("huge", "digits")
    with pytest.raises(StudyError, match="give 1 or more"):
        SYSTEM.study("smoke", "digits", seeds=0)


def test_other_data_and_shuffled_labels_have_other_ids(study):
    from gradnoise.data import load_images
    from gradnoise.paper.deep_mlp import DeepMLPExperiment

    shuffled = dataclasses.replace(study, experiment=DeepMLPExperiment(load_images("digits"), shuffle_labels=1))
    assert {t.id for t in study.trials()}.isdisjoint(t.id for t in shuffled.trials())


def test_diffusion_formula_gives_the_tabulated_values():
    # specification, section 6: standard deviation that noise adds at lr 0.1, eta 0.01, gamma 0.55
    import numpy as np

    added = diffused_sd(0.0, 0.1, 0.01, 0.55, np.array([1_000, 10_000, 60_000]))
    assert added == pytest.approx([0.069, 0.118, 0.177], abs=5e-4)
    assert weight_sd("he", 50) == pytest.approx(0.2)
