"""A study goes on from the tables of its report, as they lie in a results folder, where its store is gone."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest

from gradnoise.errors import StudyError
from gradnoise.paper import load_system
from gradnoise.study import read_folder, run_and_report, run_study
from gradnoise.study.database import acquire
from gradnoise.study.run.runner import dry_run
from gradnoise.study.store import FILE

TABLES = ("study.json", "trials.csv", "curves.csv.gz")
RESULTS = Path(__file__).parents[2] / "results"


def study(seeds=2, **options):
    return load_system("nram").study("smoke", seeds=seeds, **options)


def forget_store(folder: Path) -> None:
    for path in [*folder.glob(f"{FILE}*"), folder / ".lock"]:
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A folder with a report and no store."""
    folder = tmp_path_factory.mktemp("reported") / "study"
    run_and_report(study(), folder)
    forget_store(folder)
    return folder


@pytest.fixture
def folder(reported, tmp_path):
    return Path(shutil.copytree(reported, tmp_path / "study"))


def contents(folder: Path) -> dict[str, bytes]:
    found = {name: (folder / name).read_bytes() for name in TABLES[:2]}
    return found | {"curves": gzip.decompress((folder / TABLES[2]).read_bytes())}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_empty_store_is_none(folder, tmp_path):
    before = contents(folder)
    (folder / FILE).write_bytes(b"")
    run_and_report(study(), folder)
    after = contents(folder)
    assert after["trials.csv"] == before["trials.csv"] and after["curves"] == before["curves"]


def test_finished_runs_stay_finished_and_more_seeds_are_added(folder, tmp_path):
    run_and_report(study(4), folder)
    run_and_report(study(4), tmp_path / "at once")
    found, expected = contents(folder), contents(tmp_path / "at once")
    assert found["trials.csv"] == expected["trials.csv"] and found["curves"] == expected["curves"]


def test_what_was_looked_at_before_counts(folder, reported):
    run_and_report(study(4), folder)
    looks = read_folder(folder).looks
    assert [(x.asked, x.seeds) for x in looks] == [(2, (0, 1)), (4, (0, 1, 2, 3))]
    assert any("8 finished runs were entered" in text for _, text in read_folder(folder).record.provenance)


def test_the_same_study_again_trains_nothing_and_keeps_its_tables(folder):
    before = contents(folder)
    plan = dry_run(study(), folder)
    assert not plan.chunks and plan.done == 8
    assert not (folder / FILE).exists(), "a dry run writes nothing"
    run_and_report(study(), folder)
    after = contents(folder)
    assert all(before[name] == after[name] for name in ("trials.csv", "curves"))


def test_other_rows_of_before_are_kept(folder):
    rows = {t.row for t in read_folder(folder).trials}
    run_and_report(study(rows=(sorted(rows)[0],)), folder)
    assert {t.row for t in read_folder(folder).trials} == rows
    assert all(t.done for t in read_folder(folder).trials)


def test_runs_that_were_not_finished_are_trained(folder):
    lines = (folder / "trials.csv").read_text().splitlines()
    place = lines[0].split(",").index("status")
    cells = lines[3].split(",")
    assert cells[place] == "finished"
    cells[place] = "running"
    (folder / "trials.csv").write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]) + "\n")
    assert dry_run(study(), folder).done == 7
    assert all(t.done for t in run_study(study(), folder).trials)


def test_tables_of_another_study_stay_as_they_are(folder):
    before = files(folder)
    for other in (load_system("deep-mlp").study("smoke"), load_system("nram").study("quick")):
        for ask in (run_study, dry_run):
            with pytest.raises(StudyError, match=r"holds another study: .*choose another folder"):
                ask(other, folder)
    assert files(folder) == before


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("damage", ["missing", "rubbish", "cut", "empty"])
def test_damaged_tables_are_refused_and_stay_as_they_are(folder, name, damage):
    path = folder / name
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(b"rubbish" if damage == "rubbish" else path.read_bytes()[: path.stat().st_size // 2])
    before = files(folder)
    with pytest.raises(StudyError, match=name):
        run_study(study(), folder)
    assert files(folder) == before


def test_a_table_that_lost_lines_is_refused(folder):
    path = folder / "trials.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(StudyError, match=r"which trials\.csv lacks: one of the two is damaged"):
        run_study(study(), folder)


def test_a_folder_that_cannot_be_written(folder, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradnoise.study.run.taken_over.os.replace", full)
    before = contents(folder)
    with pytest.raises(StudyError, match=r"cannot write to .*: No space left on device; choose another folder"):
        run_study(study(), folder)
    monkeypatch.undo()
    (folder / ".taking-over-killed").mkdir()
    assert contents(folder) == before
    assert all(t.done for t in run_study(study(), folder).trials)
    assert not any(p.name.startswith(".taking") for p in folder.iterdir())


def test_another_process_has_the_folder(folder):
    lock = acquire(folder)
    try:
        with pytest.raises(StudyError, match="another process is running the study"):
            run_study(study(), folder)
    finally:
        os.close(lock)
    assert not (folder / FILE).exists()


def test_values_that_are_not_all_in_the_table_are_refused(folder):
    """Of a run that is no longer asked for, and so is known from the table alone."""
    text = (folder / "trials.csv").read_text().splitlines()
    place = next(i for i, name in enumerate(text[0].split(",")) if name.startswith("config.lr"))
    changed = [",".join("0.125" if i == place else c for i, c in enumerate(line.split(","))) for line in text[1:]]
    (folder / "trials.csv").write_text("\n".join([text[0], *changed]) + "\n")
    before, record = files(folder), json.loads((folder / "study.json").read_text())
    with pytest.raises(StudyError, match="are not all in the table"):
        run_study(study(rows=(record["rows"][0][0],)), folder)
    assert files(folder) == before


def test_a_committed_folder_goes_on(tmp_path):
    folder = Path(shutil.copytree(RESULTS / "neural_gpu" / "diagonal", tmp_path / "study"))
    more = load_system("neural-gpu").study("half", seeds=80, study="diagonal")
    plan = dry_run(more, folder)
    assert plan.done == 240 and not plan.chunks
