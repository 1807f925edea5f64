"""Stores that are moved, cut, damaged or hostile: noticed at once, told in one sentence, and nothing is lost or run."""

import errno
import fcntl
import json
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
from support.small import CHUNK, Toy, assert_same, small

from gradnoise.files import ENDING, clear_unfinished, replacement
from gradnoise.population import checkpoint
from gradnoise.study import Options, Store, StudyError, run_study
from gradnoise.study import database as databases
from gradnoise.study.database import COPY, FILE
from gradnoise.study.repair import repair
from gradnoise.study.run.runner import Observer, Progress

OPTIONS = Options(workers=1, chunk=4, slice_seconds=0.0)


def run(folder: Path, observer: Observer | None = None):
    return run_study(small(Toy(poison={1: 7})), folder, options=OPTIONS, observer=observer)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference") / "study"
    return folder, run(folder)


@pytest.fixture
def finished(reference, tmp_path) -> Path:
    return Path(shutil.copytree(reference[0], tmp_path / "study"))


class At(Observer):
    """Does something to the study's folder after some commits."""

    def __init__(self, commits: int, action: Callable[[], object]) -> None:
        self.left, self.action = commits, action

    def progressed(self, progress: Progress) -> None:
        if progress.result:
            self.left -= 1
            if self.left == 0:
                self.action()


# In a run

GONE = {
    "file removed": lambda d: (d / FILE).unlink(),
    "file renamed": lambda d: (d / FILE).rename(d / "other"),
    "file replaced": lambda d: shutil.copy(d / FILE, d / "new") and (d / "new").rename(d / FILE),
    "folder removed": shutil.rmtree,
    "folder renamed": lambda d: d.rename(d.with_name("elsewhere")),
}


@pytest.mark.parametrize("how", GONE)
def test_a_store_that_goes_while_the_study_runs(tmp_path, how):
    folder = tmp_path / "study"
    with pytest.raises(StudyError, match="removed, moved or replaced while the study ran"):
        run(folder, At(2, lambda: GONE[how](folder)))


def test_a_folder_that_was_renamed_goes_on_where_it_is_put_back(tmp_path, reference):
    folder, away = tmp_path / "study", tmp_path / "away"
    with pytest.raises(StudyError, match="put the folder back and repeat the command"):
        run(folder, At(2, lambda: folder.rename(away)))
    shutil.rmtree(folder, ignore_errors=True)
    away.rename(folder)
    assert_same(run(folder), reference[1])


CUTS = {
    "log emptied": lambda d: os.truncate(d / f"{FILE}-wal", 0),
    "log halved": lambda d: os.truncate(d / f"{FILE}-wal", (d / f"{FILE}-wal").stat().st_size // 2),
    "log removed": lambda d: (d / f"{FILE}-wal").unlink(),
    "log overwritten": lambda d: (d / f"{FILE}-wal").write_bytes(b"\x55" * 20_000),
    "file cut": lambda d: os.truncate(d / FILE, 8192),
    "file overwritten": lambda d: (d / FILE).write_bytes((d / FILE).read_bytes()[:4096] + b"\x55" * 30_000),
}


@pytest.mark.parametrize("how", CUTS)
def test_a_store_that_is_cut_while_the_study_runs(tmp_path, how, reference):
    """Either nothing is lost, or the run stops; what then can be saved goes on to the same results."""
    folder = tmp_path / "study"
    try:
        results = run(folder, At(2, lambda: CUTS[how](folder)))
    except StudyError as error:
        assert "the store is damaged" in str(error) and f"gradnoise repair {folder}" in str(error)
        repair(folder)
        results = run(folder)
    assert_same(results, reference[1]) if not _repaired(folder) else _same_numbers(results, reference[1])
    with Store(folder, readonly=True) as store:
        assert len(store.results().trials) == 8


def _repaired(folder: Path) -> bool:
    return any(folder.glob(f"{FILE}.damaged-*"))


def _same_numbers(results, reference) -> None:
    theirs = {t.id: t for t in reference.trials}
    assert {t.id: (t.status, t.step, dict(t.final)) for t in results.trials} == {
        id: (t.status, t.step, dict(t.final)) for id, t in theirs.items()
    }
    for t in results.trials:
        for name, curve in theirs[t.id].curves.items():
            assert t.curves[name].values.tobytes() == curve.values.tobytes()


def test_the_last_good_copy(tmp_path, monkeypatch):
    monkeypatch.setattr("gradnoise.study.store.COPY_COMMITS", 2)
    monkeypatch.setattr("gradnoise.study.store.COPY_SECONDS", 0.0)
    folder, copies = tmp_path / "study", []
    run(folder, At(3, lambda: copies.append((folder / COPY).stat().st_size)))
    assert copies and copies[0] > 0
    with closing(sqlite3.connect(folder / COPY)) as db:  # the last one is of the whole study
        assert db.execute("SELECT count(*) FROM trials WHERE status IN ('finished', 'diverged')").fetchone() == (8,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# Locks and temporaries


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StudyError, match=r"gives no locks .* choose a folder on another disk"):
        Store(tmp_path / "study")


def test_temporaries_of_killed_processes_go_at_the_next_start(finished):
    for name in (f".report.html.0123{ENDING}", f".{COPY}.4567{ENDING}"):
        (finished / name).write_bytes(b"half")
    with replacement(finished / "summary.md") as mine, open(mine, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        clear_unfinished(finished)
        assert [p.name for p in finished.glob(f".*{ENDING}")] == [mine.name]  # what is being written stays
    run(finished)
    assert not list(finished.glob(f".*{ENDING}"))


# Checkpoints of another kind

KINDS = {
    "empty": {},
    "a list": [1, 2],
    "text": "nothing",
    "other keys": {"t": 3},
    "a folder": None,
}


@pytest.mark.parametrize("which", ["last", "both"])
@pytest.mark.parametrize("kind", [*KINDS, "negative t", "text as t", "other shapes", "fewer replicas", "a pipe"])
def test_a_checkpoint_of_another_kind_costs_time_only(tmp_path, kind, which, reference):
    folder = tmp_path / "study"

    def swap() -> None:
        (chunk,) = (folder / "checkpoints").iterdir()
        steps = checkpoint.steps(chunk)
        for step in steps[-1 if which == "last" else 0 :]:
            path = checkpoint.path_for(chunk, step)
            state = checkpoint.load(chunk, step)
            path.unlink()
            if kind == "negative t":
                state["t"] = -5
            elif kind == "text as t":
                state["t"] = "three"
            elif kind == "other shapes":
                state["theta"] = state["theta"][:, :-1]
            elif kind == "fewer replicas":
                state |= {"theta": state["theta"][:-1], "alive": state["alive"][:-1]}
            if kind == "a folder":
                path.mkdir()
            elif kind == "a pipe":
                os.mkfifo(path)
            else:
                torch.save(KINDS.get(kind, state), path)
        raise KeyboardInterrupt  # so that the next run has to read it

    with pytest.raises(KeyboardInterrupt):
        run(folder, At(3, swap))
    told: list[str] = []

    class Told(Observer):
        def progressed(self, progress: Progress) -> None:
            told.extend(progress.result.events if progress.result else ())

    results = run(folder, Told())
    assert told and all("trained again from" in event for event in told)
    assert_same(results, reference[1])


# Damage, and what is saved


@pytest.mark.parametrize("table", ["meta", "trials", "metrics", "chunks"])
def test_a_table_that_is_missing(finished, table, reference):
    with closing(sqlite3.connect(finished / FILE)) as db:
        db.execute(f"DROP TABLE {table}")
        db.commit()
    for readonly in (True, False):
        with pytest.raises(StudyError, match=f"its table '{table}' is missing; save what can be read with"):
            Store(finished, readonly=readonly)
    assert repair(finished).trials == 8  # from the copy
    _same_numbers(run(finished), reference[1])


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_bits_that_were_flipped(finished, seed, copy, reference):
    """Random damage to whole pages. What is read is right, or it is refused; what is saved goes on to the same end."""
    draw, path = random.Random(seed), finished / FILE
    content = bytearray(path.read_bytes())
    for page in draw.sample(range(1, len(content) // 4096), 2):
        start = 4096 * page
        content[start : start + 4096] = draw.randbytes(4096)
    path.write_bytes(content)
    if not copy:
        (finished / COPY).unlink()
    with pytest.raises(StudyError, match="the store is damaged"), Store(finished, readonly=True) as store:
        store.results()
    try:
        found = repair(finished)
    except StudyError as error:
        assert not copy and re.search(r"the description of the study in .* cannot be read any more", str(error))
        return
    assert found.old and found.old.read_bytes() == bytes(content)
    _same_numbers(run(finished), reference[1])


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE meta SET value = '{' WHERE name = 'record'",
        "UPDATE trials SET config = '{' WHERE position = 3",
        "UPDATE trials SET final = '[1]' WHERE position = 3",
        "UPDATE trials SET status = 'done' WHERE position = 3",
        "UPDATE trials SET step = -1 WHERE position = 3",
        "UPDATE chunks SET trials = '[\"x' WHERE rowid = 1",
        "UPDATE chunks SET done = 7 WHERE rowid = 1",
        "UPDATE metrics SET value = 'high' WHERE step = 3",
        "DELETE FROM trials WHERE position = 2",
    ],
)
def test_broken_values_are_one_sentence_and_repaired(finished, sql, reference):
    with closing(sqlite3.connect(finished / FILE)) as db:
        db.execute(sql)
        db.commit()
    with pytest.raises(StudyError, match=r"the store is damaged: .*gradnoise repair"):
        run(finished)
    repair(finished)
    _same_numbers(run(finished), reference[1])


def test_repair_of_a_whole_store_changes_nothing(finished):
    before = (finished / FILE).read_bytes()
    assert repair(finished).whole
    assert (finished / FILE).read_bytes() == before


def test_a_store_that_is_gone_comes_back_from_its_copy(finished, reference):
    (finished / FILE).unlink()
    with pytest.raises(StudyError, match="is gone, but not its copy; bring it back with `gradnoise repair"):
        run(finished)
    assert repair(finished).old is None
    _same_numbers(run(finished), reference[1])


def _without_tables(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA user_version=1;")


def _without_trials(path):
    with closing(sqlite3.connect(path)) as db:
        for table in ("trials", "chunks", "metrics", "meta WHERE name != 'format'"):
            db.execute(f"DELETE FROM {table}")
        db.commit()


@pytest.mark.parametrize("empty", [lambda path: path.write_bytes(b""), _without_tables, _without_trials])
@pytest.mark.parametrize("asked", [run, lambda folder: Store(folder, readonly=True)])
def test_a_store_that_is_empty_does_not_cost_its_copy(finished, reference, empty, asked):
    empty(finished / FILE)
    copy = (finished / COPY).read_bytes()
    with pytest.raises(StudyError, match="is empty, but not its copy; bring it back with `gradnoise repair"):
        asked(finished)
    assert (finished / COPY).read_bytes() == copy
    repair(finished)
    _same_numbers(run(finished), reference[1])


# Hostile stores

HOSTILE = {
    "a view": "DROP TABLE looks; CREATE VIEW looks AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n)"
    " SELECT i AS time, i AS asked, i AS seeds FROM n",
    "a trigger": "CREATE TRIGGER t AFTER UPDATE ON trials BEGIN DELETE FROM metrics; END",
    "a table": "CREATE TABLE secrets (x)",
    "an index": "CREATE INDEX i ON trials (row)",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_study_has(finished, what):
    with closing(sqlite3.connect(finished / FILE)) as db:
        db.executescript(HOSTILE[what])
    for readonly in (True, False):
        with pytest.raises(StudyError, match=r"the store is damaged: it has the .* which no study has"):
            Store(finished, readonly=readonly)


def test_a_store_that_does_not_answer(finished, monkeypatch):
    monkeypatch.setattr(databases, "PATIENCE", 0.2)
    with Store(finished, readonly=True) as store:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n WHERE i > 1"
        with pytest.raises(StudyError, match=r"it did not answer within 0.2 s"):
            list(store.rows(endless))
        assert len(store.results().trials) == 8


DEEP = "[" * 100_000 + "]" * 100_000
RECORDS = {
    "deep": DEEP,
    "a huge number": '{"steps": 1' + "0" * 10_000 + "}",
    "half a character": '{"name": "\\ud800"}',
    "a list": "[]",
    "a number": "7",
    "null": "null",
    "text": '"text"',
    "nothing": "",
    "flags as numbers": None,
}


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("where", ["record", "config", "final"])
def test_hostile_text_in_a_store(finished, kind, where):
    text = RECORDS[kind]
    with closing(sqlite3.connect(finished / FILE)) as db:
        if text is None:
            (plain,) = db.execute("SELECT value FROM meta WHERE name = 'record'").fetchone()
            text = json.dumps({**json.loads(plain), "steps": True}) if where == "record" else '{"error": true}'
            where = "final" if where == "config" else where
        if where == "record":
            db.execute("UPDATE meta SET value = ? WHERE name = 'record'", (text,))
        else:
            db.execute(f"UPDATE trials SET {where} = ? WHERE position = 0", (text,))
        db.commit()
    with pytest.raises(StudyError) as caught, Store(finished, readonly=True) as store:
        store.results()
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


@pytest.mark.parametrize("link", ["store", "checkpoints", "chunk", "lock", "figures"])
def test_links_in_a_folder_lead_nowhere(finished, tmp_path, link):
    """A decoy outside: nothing in it changes, whatever the folder of the study says."""
    from gradnoise.study.report import write_report

    decoy = tmp_path / "decoy"
    (decoy / CHUNK).mkdir(parents=True)
    (decoy / "precious").write_text("keep me")
    (decoy / f".x.1{ENDING}").write_text("keep me")
    shutil.copy(finished / FILE, decoy / FILE)
    before = {p: p.read_bytes() for p in decoy.rglob("*") if p.is_file()}
    with Store(finished, readonly=True) as store:
        results, chunks = store.results(), store.chunks()
    place = {
        "store": FILE,
        "checkpoints": "checkpoints",
        "chunk": f"checkpoints/{chunks[0].id}",
        "lock": ".lock",
        "figures": "figures",
    }[link]
    path = finished / place
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to({"store": decoy / FILE, "lock": decoy / "made"}.get(link, decoy))
    if link == "figures":
        with pytest.raises(OSError, match="a link leads out of"):
            write_report(results, finished)
    elif link == "chunk":
        with closing(sqlite3.connect(finished / FILE)) as db:
            db.execute("UPDATE chunks SET step = 0, done = 0")
            db.execute("UPDATE trials SET step = 0, status = 'pending', diverged_at = NULL, final = '{}'")
            db.commit()
        run(finished)
    else:
        with pytest.raises(StudyError):
            run(finished)
    assert {p: p.read_bytes() for p in decoy.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_another_thing_in_the_place_of_the_store(tmp_path, kind):
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / FILE)
    for readonly in (True, False):
        with pytest.raises(StudyError, match=f"is a {kind}, not a file"):
            Store(tmp_path, readonly=readonly)
