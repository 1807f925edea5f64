"""`gradnoise neural-gpu multiply`: what it shows, with weights made by hand and with a run's own."""

import pytest
import torch
from support.commandline import gradnoise

from gradnoise.paper import load_system
from gradnoise.paper.neural_gpu import watch
from gradnoise.paper.neural_gpu.tasks import ONE, PAD, ZERO
from gradnoise.study import Options, run_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("study")
    run_study(load_system("neural-gpu").study("smoke", seeds=1), path, options=Options(workers=1))
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


def test_a_run_multiplies(folder, tmp_path, capsys):
    picture = tmp_path / "state.svg"
    command = ("neural-gpu", "multiply", "6", "5", "--folder", str(folder), "--figure", str(picture))
    assert gradnoise(*command) == 0
    out = capsys.readouterr().out
    assert "a  " in out and "110  = 6" in out and "101  = 5" in out and "··11110  = 30" in out
    assert "trained on numbers of up to 4 bits; these have 3" in out and "of 7 symbols are right" in out
    assert picture.read_text(encoding="utf-8").startswith("<?xml")
    assert gradnoise(*command) == 0  # now from the cache
    assert capsys.readouterr().out == out


def test_a_diagonal_network_multiplies(tmp_path, capsys):
    """A zero behind its product counts as nothing, so that a right answer reads as the product does."""
    folder, picture = tmp_path / "study", tmp_path / "s.svg"
    run_study(load_system("neural-gpu").study("smoke", seeds=1, study="diagonal"), folder, options=Options(workers=1))
    command = ("neural-gpu", "multiply", "3", "2", "--folder", str(folder), "--figure", str(picture))
    assert gradnoise(*command) == 0
    out = capsys.readouterr().out
    assert "trained on numbers of up to 2 bits; these have 2" in out and "··110  = 6" in out and "of 5 symbols" in out
    assert picture.read_text(encoding="utf-8").startswith("<?xml")


def test_the_run_with_the_lowest_error_is_shown(folder):
    study, trial, steps = watch.find(folder)
    assert (trial.row, steps, study.name) == ("bmul", 6, "neural-gpu")
    assert watch.find(folder, arm="eta-1")[1].arm == "eta-1"


def test_right_and_wrong_bits(capsys):
    from rich.console import Console

    # 2 x 3 = 6 in two bits: 0 1 1 from the lowest; the answer has a wrong second bit and a symbol too much
    watch._show(2, 3, 2, [ZERO, ZERO, ONE, PAD, ONE], Console(width=80, color_system=None))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == " a x b  ··110  = 6" and lines[3] == "answer  1·100  is no number"
    assert lines[4].rstrip() == " wrong  ^  ^" and "3 of 5 symbols are right" in lines[5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("9", "1", "--digits", "3"), "9 is no number of 3 bits"),
        (("1", "1", "--arm", "nothing"), "has no such finished run that learns to multiply"),
        (("1", "1", "--figure", "state.txt"), "a picture ends in .svg"),
    ],
)
def test_what_cannot_be_shown(folder, options, message, capsys):
    assert gradnoise("neural-gpu", "multiply", *options, "--folder", str(folder)) != 0
    seen = capsys.readouterr()
    assert message in seen.out + seen.err


def test_any_length(folder):
    """Far more bits than in training: the network has a step for every symbol."""
    study, trial, _ = watch.find(folder)
    network = study.experiment.model(study.experiment.configured(trial.config))
    assert network(torch.ones(1, 101, dtype=torch.int64)).shape == (1, 101, 4)
