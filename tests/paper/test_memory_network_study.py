"""Table 2 as a study: what it claims and admits, the calibration, a network that answers, and the command line."""

import dataclasses
import io
import math

import numpy as np
import pandas
import pytest
from rich.console import Console
from support.commandline import gradnoise

from gradnoise.data.babi import NAMES, encode, load_babi
from gradnoise.paper.memory_network import (
    CLAIMS,
    SYSTEM,
    TABLE_2,
    MemoryNetworkExperiment,
    Reading,
    calibration,
    print_reading,
    read,
    save_figure,
    trained,
)
from gradnoise.paper.memory_network.extras import PUBLISHED, calibrate
from gradnoise.population import PopulationError
from gradnoise.study import StudyError, StudyRecord, StudyResults, TrialResult
from gradnoise.study.report import Table


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder with a cache of its own, without bAbI."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRADNOISE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


# --- the study --------------------------------------------------------------------------------------


def test_claims_hold_the_published_table():
    rows = {c.row: c for c in CLAIMS}
    for (stage, arm), (train, validation) in TABLE_2.items():
        for mode in ("joint", "tasks"):
            assert rows[f"{mode}-{stage}"].figures[arm] == {"best": validation, "train_error": train}
    assert {c.expects for c in CLAIMS} == {"helps"}  # the paper says so of two stages, too: 10.9 to 10.8


def test_runs_are_chosen_by_clean_training_figures_alone():
    selection = SYSTEM.study("smoke").selection
    assert selection is not None and selection.by == ("train_error", "train_cross_entropy")
    assert [m.name for m in selection.report] == ["train_error", "validation_error", "test_error"]


def test_the_study_says_which_tasks_it_has():
    study = SYSTEM.study("quick", "generated")
    assert {s.name for s in study.settings} == {"task 1", "task 6", "task 15"}
    assert "3 of the 20 tasks: 1, 6, 15." in study.deviations
    assert study.experiment.stand_in
    assert all(s.title == "one-stage, mean over 3 tasks" for s in study.settings if s.row == "tasks-one")


def test_answers_that_training_never_has_are_named():
    data = encode(load_babi("generated"), [1])
    assert data.unseen_answers == ()
    answers = data.train.answer.copy()
    answers[answers == data.words.index("garden")] = data.words.index("office")
    changed = dataclasses.replace(data, train=dataclasses.replace(data.train, answer=answers))
    assert changed.unseen_answers == ("garden",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"task": "all"}, "allowed are 1 to 20, and 'joint'"),
        ({"task": 3}, "no task 3"),
        ({"batch_size": 0}, "batch_size = 0: task 1 has 900 questions to train on"),
        ({"batch_size": 901}, "batch_size = 901"),
        ({"time_noise": 1.0}, r"time_noise = 1.0: .* \[0, 1\)"),
        ({"linear_epochs": -1}, "linear_epochs = -1"),
        ({"tying": "loose"}, "tying = 'loose'"),
    ],
)
def test_values_out_of_range_are_refused(value, message):
    experiment = MemoryNetworkExperiment(load_babi("generated"))
    with pytest.raises(ValueError, match=message) as error:
        experiment.model(experiment.configured({"task": 1} | value))
    assert value.keys() & {"tying"} or isinstance(error.value, PopulationError) or "no task" in str(error.value)


# --- calibration --------------------------------------------------------------------------------------


def calibrated(stand_in: bool = False) -> StudyResults:
    """Made-up runs: task t errs by t % in restart 0, the chosen one, and by 2 t % in restart 1."""
    study = SYSTEM.study("paper", "generated", 2)
    trials = []
    for stage, tasks in (("joint-two", ["joint"]), ("tasks-two", list(NAMES))):
        for task in tasks:
            for seed in (0, 1):
                final = {"train_error": float(seed), "train_cross_entropy": 0.0, "validation_error": 9.0}
                final |= {f"test_error_{t}": t * (1.0 + seed) for t in NAMES} if task == "joint" else {}
                final |= {"test_error": task * (1.0 + seed)} if task != "joint" else {}
                name = f"task {task}"
                config = {"task": task, "steps": 10}
                one = TrialResult(
                    f"{stage}{task}{seed}", stage, name, "none", seed, config, "finished", 10, final=final
                )
                trials.append(one)
    return StudyResults(dataclasses.replace(StudyRecord.of(study), stand_in=stand_in), tuple(trials))


@pytest.mark.parametrize("row", PUBLISHED)
def test_calibration_puts_the_chosen_run_beside_the_published_figures(row):
    tasks = calibrate(calibrated(), row)
    assert [(c.task, c.ours, c.low, c.high) for c in tasks] == [(t, float(t), float(t), 2.0 * t) for t in NAMES]
    assert [c.published for c in tasks] == list(PUBLISHED[row])
    assert [c.inside for c in tasks] == [
        t - 0.5 <= p <= 2 * t + 0.5 for t, p in zip(NAMES, PUBLISHED[row], strict=True)
    ]


def test_published_means_are_those_that_are_printed():
    assert {row: round(math.fsum(x) / 20 + 1e-9, 1) for row, x in PUBLISHED.items()} == {
        "tasks-two": 13.9,
        "joint-two": 12.4,
    }
    assert sum(x > 5 for x in PUBLISHED["tasks-two"]) == sum(x > 5 for x in PUBLISHED["joint-two"]) == 11


def test_calibration_is_a_figure_and_a_table_for_each_mode():
    extra = calibration(calibrated())
    tables = [item for _, item in extra if isinstance(item, Table)]
    assert len(extra) == 4 and len(tables) == 2
    assert len(tables[0].rows) == 21 and tables[0].rows[-1][:2] == ("mean", "10.5")
    assert "Provenance" in tables[0].caption
    assert list(calibration(calibrated(stand_in=True))) == []


# --- a network that answers -----------------------------------------------------------------------------


def test_a_reading_is_what_the_network_computes_and_the_file_says(tmp_path):
    seen: list[tuple[int, int]] = []
    reader = trained(1, stage="one", epochs=2, data="generated", progress=lambda *x: seen.append(x))
    assert seen[-1] == (56, 56) and len(seen) == 56
    again = trained(1, stage="one", epochs=2, data="generated", progress=lambda *x: pytest.fail("it was trained again"))
    assert again.errors == reader.errors and 0 < reader.errors["test"] < 100

    right = []
    for number in range(1, 31):
        reading = read(again, number)
        assert len(reading.attention) == 3 and {len(p) for p in reading.attention} == {len(reading.story)}
        assert len(reading.story) == 2 * ((number - 1) % 5 + 1)  # five questions to a story, two sentences before each
        told = [s for s, own in zip(reading.story, reading.support, strict=True) if own]
        assert len(told) == 1 and reading.truth in told[0]  # the support of task 1 holds the answer
        assert reading.question.split()[-1][:-1] in told[0].lower()
        right.append(reading.right)
    whole = read(again, 5)  # ten sentences fill all slots
    assert max(map(abs, whole.empty)) < 1e-5
    assert min(read(again, 1).empty) > 0
    data = encode(again.data, [1])
    assert read(again, 30).truth == data.words[data.test.answer[29]]
    assert 1 - np.mean(right) == pytest.approx(again.errors["test"] / 100, abs=0.35)


READING = Reading(
    3, ("Mary moved to the garden.", "John went to the office."), (True, False), "Where is mary?", "garden",
    ((0.75, 0.125), (1.0, 0.0)), (("garden", 0.9), ("office", 0.1)),
)  # fmt: skip


def printed(reading: Reading, reader, **options) -> str:
    file = io.StringIO()
    print_reading(reader, reading, Console(file=file, width=120, **options))
    return file.getvalue()


def test_a_reading_prints_as_bars_with_and_without_colour(tmp_path):
    reader = trained(1, stage="one", epochs=1, data="generated")
    plain = printed(READING, reader)
    assert "\x1b" not in plain
    assert "██████··  75%  ████████ 100%  •  Mary moved to the garden." in plain
    assert "█·······  12%  ········   0%     (empty memories)" in plain
    assert "garden 90%   then office 10%" in plain and "right" in plain and "NOT bAbI" in plain
    assert "\x1b[" in printed(READING, reader, force_terminal=True)
    wrong = dataclasses.replace(READING, truth="office", attention=((0.5, 0.5), (0.5, 0.5)))
    assert "wrong" in printed(wrong, reader) and "empty" not in printed(wrong, reader)
    for kind in ("svg", "png"):
        save_figure(wrong, tmp_path / f"a.{kind}")
        assert (tmp_path / f"a.{kind}").stat().st_size > 1000
    drawing = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "Mary moved to the garden. •" in drawing and "truth: office" in drawing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": 4}, "no such task in generated stories .*; there are 1, 2, 5, 6, 15"),
        ({"stage": "three"}, "allowed are one .* and two"),
        ({"epochs": 0}, "at least 1 epoch"),
    ],
)
def test_a_network_that_cannot_be_had(options, message):
    with pytest.raises(StudyError, match=message):
        trained(**{"task": 1, "data": "generated"} | options)


# --- the command line -------------------------------------------------------------------------------------


def test_the_smoke_study_ends_in_verdict_and_report(tmp_path, capsys):
    assert gradnoise("run", "memn2n", "--scale", "smoke", "--rows", "tasks-one", "--workers", "1") == 0
    out, folder = capsys.readouterr().out, tmp_path / "runs/memn2n-smoke"
    table = (folder / "summary.md").read_text(encoding="utf-8")
    assert "undecided" in out.lower() and "NOT bAbI" in out and "training error, %" in table and "10.5" in table
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "4 trials of 84 updates" in page and "The run that training would choose" in page
    trials = pandas.read_csv(folder / "trials.csv")
    assert set(trials["status"]) == {"finished"} and trials["chosen"].sum() == 4
    assert {"final.train_error", "final.test_cross_entropy", "final.running_train_error"} <= set(trials.columns)


def test_a_dry_run_tells_the_lengths_of_all_rows(capsys):
    assert gradnoise("run", "memn2n", "--scale", "smoke", "--dry-run") == 0
    assert "84 to 112 updates each" in capsys.readouterr().out


def test_answer_from_the_command_line(tmp_path, capsys):
    command = ("memn2n", "answer", "--data", "generated", "--stage", "one", "--epochs", "1")
    assert gradnoise(*command, "--question", "2", "--figure", "a.svg") == 0
    out = capsys.readouterr().out
    assert "test question 2" in out and "hop 3" in out and "truth" in out and (tmp_path / "a.svg").exists()
    for wrong, message in (
        (("--question", "1001"), "task 1 has test questions 1 to 1,000"),
        (("--figure", "a.gif"), "a picture ends in .svg, .png, .pdf"),
    ):
        assert gradnoise(*command, *wrong) == 1
        assert message in " ".join(capsys.readouterr().err.split())
