"""Traces of machines and programs, and inputs that are none."""

import dataclasses
import json
import sqlite3

import pytest
import torch
from rich.console import Console

from gradnoise.cli import main
from gradnoise.paper import load_system
from gradnoise.paper.nram import NRAM
from gradnoise.paper.nram.machine.checks import check_distributions, check_integers, check_list, check_precision
from gradnoise.paper.nram.watch.command import Chosen, trace_oracle
from gradnoise.paper.nram.watch.oracles import LISTK_REGISTERS, PROGRAMS, listk_machine
from gradnoise.paper.nram.watch.runs import difference, find_machine
from gradnoise.paper.nram.watch.trace import live, source_names, taken, trace_hard, trace_program, trace_soft
from gradnoise.paper.runs import Wanted
from gradnoise.population import PopulationError
from gradnoise.study import Store, StudyError, run_study

GOLDEN = torch.tensor([5, 2, 2, 0, 2, 13, 11, 0, 0, 3, 5, 0, 0, 9, 2, 0])


def test_soft_and_hard_traces_of_the_golden_example():
    soft = trace_soft(listk_machine(), GOLDEN, 6, LISTK_REGISTERS)
    hard = trace_hard(listk_machine(), GOLDEN, 6, LISTK_REGISTERS)
    assert [[v for v, _ in s.registers] for s in hard.steps[:4]] == [
        [5, 6, 0, 1], [5, 6, 2, 0], [13, 14, 1, 0], [9, 10, 0, 0],
    ]  # fmt: skip
    assert len(hard.steps) == 5 and hard.steps[-1].stop == 1
    assert hard.answer[2] == (5, 1.0)
    value, p = soft.answer[2]
    assert value == 5 and 0.999 < p <= 1 + 1e-6
    for mine, theirs in zip(soft.steps, hard.steps, strict=False):
        assert [v for v, _ in mine.sources] == [v for v, _ in theirs.sources]
        assert [v for v, _ in mine.memory] == [v for v, _ in theirs.memory]


def test_only_modules_that_matter_are_live():
    names, program = PROGRAMS["copy"]
    trace = trace_program(program, names, torch.tensor([3, 7, 4, 0, 0, 0, 0, 0]), 2)
    assert [v for v, _ in trace.answer] == [3, 7, 4, 7, 4, 0, 0, 0]
    every = source_names(trace)
    found = [every[2 + place] for place in live(trace, trace.steps[1])]
    assert found == ["read", "one", "inc", "add", "write"]
    place = trace.wiring.modules.index("add")
    assert [every[s] for s, _ in taken(trace, trace.steps[1], place)] == ["d", "one"]


def test_a_soft_memory_may_be_given():
    memory = torch.eye(16)[GOLDEN]
    assert trace_soft(listk_machine(), memory, 6).answer[2][0] == 5
    with pytest.raises(PopulationError, match="sums to 1 only within"):
        trace_soft(listk_machine(), 2 * memory, 6)


def test_two_passes_have_names_of_their_own():
    trace = trace_soft(NRAM(2, 4, passes=2), torch.tensor([1, 2, 3, 0]), 1)
    assert source_names(trace)[2:4] == ["read", "zero"] and source_names(trace)[16] == "read2"


@pytest.mark.parametrize("task", [*PROGRAMS, "listk"])
def test_oracles_on_the_command_line(task, capsys):
    main(["nram", "trace", "--oracle", task, "--n", "2"])
    said = capsys.readouterr().out
    assert "right" in said and "wrong" not in said


def test_a_run_is_trained_once_more_and_kept(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "study"
    run_study(load_system("nram").study("smoke", seeds=1), folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    main(["nram", "trace", str(folder), "--row", "B", "--arm", "eta-1.0"])
    (kept,) = (tmp_path / "cache" / "gradnoise" / "weights").iterdir()
    assert not (folder / "weights").exists()
    first, written = capsys.readouterr().out, kept.stat().st_mtime_ns
    main(["nram", "trace", str(folder), "--row", "B", "--arm", "eta-1.0"])
    assert capsys.readouterr().out == first and kept.stat().st_mtime_ns == written
    for arguments, message in ((["--row", "Z"], "its rows are A, B"), (["--n", "9"], "sizes 1..2"),
                               (["--memory", "1", "2", "9", "0", "0"], "values are 0..4")):  # fmt: skip
        with pytest.raises(SystemExit):
            main(["nram", "trace", str(folder), *arguments])
        assert message in " ".join(capsys.readouterr().err.split())


def test_another_machine_than_the_stored_run_is_told(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "study"
    run_study(load_system("nram").study("smoke", seeds=1, rows=["A"]), folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = find_machine(folder, Wanted(arm="none"))
    assert difference(found.run, found.run.final) == ""
    half = dataclasses.replace(found.run, final={"error": 50.0})
    assert "error 50 % then, 25 % now" in difference(half, {"error": 25.0})

    main(["nram", "trace", str(folder), "--arm", "none"])
    assert "another machine" not in capsys.readouterr().out
    with sqlite3.connect(folder / "study.sqlite") as db:  # as if other code had trained it
        changed = {**found.run.final, "error": found.run.final["error"] + 1}
        db.execute("UPDATE trials SET final = ? WHERE id = ?", (json.dumps(changed), found.trial.id))
    main(["nram", "trace", str(folder), "--arm", "none"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"another machine than the stored run: error {changed['error']:g} % then" in said


@pytest.mark.parametrize(
    ("task", "n", "message"),
    [
        ("list", None, r"no program for 'list': .*did you mean 'listk'"),
        ("copy", 0, "--n 0: problems of copy have sizes from 1 on"),
    ],
)
def test_an_oracle_that_is_none(task, n, message):
    with pytest.raises(StudyError, match=message):
        trace_oracle(task, Chosen(n), Console())


def test_help_names_every_oracle(capsys):
    with pytest.raises(SystemExit):
        main(["nram", "trace", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(name in said for name in (*PROGRAMS, "listk"))


def test_a_folder_without_machines(tmp_path):
    run_study(load_system("deep-mlp").study("smoke", "digits", 1, rows=["3"]), tmp_path)
    with pytest.raises(StudyError, match="holds a study of deep-mlp"):
        find_machine(tmp_path, Wanted())


def test_a_store_without_a_recipe_is_known_by_its_name_and_scale(tmp_path):
    run_study(load_system("nram").study("smoke", seeds=1, steps=4, rows=["A"]), tmp_path)
    with Store(tmp_path) as store:
        store.put_record(dataclasses.replace(store.record(), recipe=None))
    found = find_machine(tmp_path, Wanted(arm="eta-1.0"))
    trial = found.trial
    assert (trial.row, trial.arm, trial.seed, found.run.step) == ("A", "eta-1.0", 0, 4)
    assert trial in list(found.study.trials())
    with Store(tmp_path) as store:
        store.put_record(dataclasses.replace(store.record(), experiment="nram@another"))
    with pytest.raises(StudyError, match=r"another study than the stored one: its data is .*older version"):
        find_machine(tmp_path, Wanted())
    with Store(tmp_path) as store:
        store.put_record(dataclasses.replace(store.record(), scale="huge"))
    with pytest.raises(StudyError, match="without the recipe of its study, and nram has no scale 'huge'"):
        find_machine(tmp_path, Wanted())


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (torch.tensor([0.0, 1.0, 2.0]), "cells of a problem are integers"),
        (torch.tensor([0, 1]), "2 cells"),
        (torch.tensor([0, 1, 3]), "values are 0..2"),
        (torch.tensor([0, -1, 2]), "values are 0..2"),
    ],
)
def test_integers_that_are_none(memory, message):
    with pytest.raises(PopulationError, match=message):
        check_integers(memory, 3)


@pytest.mark.parametrize(
    ("x", "message"),
    [([0.5, 0.6], "within 0.1"), ([1.5, -0.5], "negative"), ([torch.nan, 1.0], "nan"), ([1, 0], "floating type")],
)
def test_distributions_that_are_none(x, message):
    with pytest.raises(PopulationError, match=message):
        check_distributions(torch.tensor(x))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([4, 0, 2, 0, 6, 0, 0], "pointer 4 is no node"),
        ([9, 0, 2, 0, 7, 0, 0], "values are 0..6"),
        ([3, 0, 2, 5, 1, 3, 2], "circle"),
        ([3, 1, 2, 0, 5, 0, 0], "k = 1 hops in a list of 1"),
        ([0, 0, 2, 0, 0, 0, 0], "list of 0 nodes"),
    ],
)
def test_lists_that_are_none(cells, message):
    with pytest.raises(PopulationError, match=message):
        check_list(torch.tensor(cells))
    check_list(GOLDEN)


def test_precision_that_is_too_low():
    with pytest.raises(PopulationError, match="float32 or float64"):
        check_precision(torch.bfloat16)
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(PopulationError, match="needs 'highest'"):
            check_precision(torch.float32)
    finally:
        torch.set_float32_matmul_precision("highest")
