"""The store takes in a slice as a whole or not at all, and says what is wrong with its file."""

import json
import math
import multiprocessing
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.small import small

from gradnoise import Annealed
from gradnoise.study import Arm, Store, StudyError, StudyRecord
from gradnoise.study.engine import SliceResult
from gradnoise.study.store import FILE, chunk_id

STUDY = small()
TRIALS = list(STUDY.trials())
IDS = [t.id for t in TRIALS]
CHUNK = chunk_id(IDS[:4])
RECORD = StudyRecord.of(STUDY)
TABLES = ("meta", "trials", "metrics", "chunks", "events")


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path) as store:
        store.extend(RECORD, TRIALS, [IDS[:4], IDS[4:]])
        yield store


def result(step: int = 3, **changes) -> SliceResult:
    rows = [(i, "error", step, 0.5 + step) for i in IDS[:4]]
    values = {"chunk": CHUNK, "step": step, "done": False, "rows": rows, "diverged": {}, "final": {}, "seconds": 2.0}
    return SliceResult(**(values | changes))


def state(store: Store) -> tuple:
    return tuple(store.db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES)


# What is asked


def test_a_fresh_study(store):
    record = store.record()
    assert replace(record, arms=RECORD.arms) == RECORD
    assert [(a.name, dict(a.values)) for a in record.arms] == [
        ("none", {}),
        ("noise", {"noise": {"": "gradnoise.schedule:Annealed", "eta": 0.01, "gamma": 0.55}}),
    ]
    assert store.trials() == {t.id: t for t in TRIALS}
    assert [(c.trials, c.step, c.done) for c in store.chunks()] == [
        (tuple(IDS[:4]), 0, False),
        (tuple(IDS[4:]), 0, False),
    ]
    assert store.counts() == {"pending": 8} and store.seconds() == 0
    results = store.results()
    assert [(t.id, t.status, t.step, t.done) for t in results.trials] == [(i, "pending", 0, False) for i in IDS]
    assert all(not t.curves and not t.final for t in results.trials)


def test_an_empty_folder(tmp_path):
    with Store(tmp_path / "a b#c?d%20") as store:  # an address of SQLite's would take these signs for its own
        assert store.trials() == {} and store.chunks() == [] and store.meta("record") is None
        with pytest.raises(StudyError, match="never started"):
            store.record()
    assert (tmp_path / "a b#c?d%20" / FILE).exists()


def test_extending_keeps_what_is_known(store):
    store.commit(result(12, done=True))
    known = state(store)
    more = small(seeds=(0, 1, 2))
    new = [t.id for t in more.trials() if t.seed == 2]
    store.extend(StudyRecord.of(more), list(more.trials()), [IDS[:4], new])
    assert [t.id for t in store.results().trials] == [*IDS, *new]
    assert [t.status for t in store.results().trials] == ["finished"] * 4 + ["pending"] * 8
    assert [c.trials for c in store.chunks()] == [tuple(IDS[:4]), tuple(IDS[4:]), tuple(new)]
    assert store.record().seeds == (0, 1, 2)
    assert state(store)[2] == known[2]  # no metric was touched


def test_new_labels_are_taken_over(store):
    store.commit(result(12, done=True))
    renamed = [replace(t, arm="control" if t.arm == "none" else t.arm, row=t.row.upper()) for t in TRIALS]
    store.extend(RECORD, renamed, [])
    assert [(t.row, t.arm, t.status) for t in store.results().trials[:2]] == [
        ("A", "control", "finished"),
        ("A", "noise", "finished"),
    ]


def test_trials_stand_in_the_order_of_the_last_command(store):
    store.extend(RECORD, TRIALS[4:6], [])
    assert [t.id for t in store.results().trials] == [*IDS[4:6], *IDS[:4], *IDS[6:]]
    for _ in range(2):
        store.extend(RECORD, TRIALS, [])
        assert [t.id for t in store.results().trials] == IDS


def test_a_configuration_with_schedules_comes_back(store):
    assert store.trials()[IDS[1]].config["noise"] == Annealed(0.01)
    arms = (Arm("none"), Arm("other", {"noise": Annealed(0.3)}, title="Other"))
    store.put_record(StudyRecord.of(small(arms=arms)))
    assert store.record().arms[1].label == "Other"
    assert store.record().arms[1].values["noise"]["eta"] == 0.3
    store.put_record(store.record())  # what was read can be written again
    assert store.record().arms[1].values["noise"]["eta"] == 0.3


def test_a_recipe_comes_back(store):
    recipe = {"system": "small", "seeds": 2, "steps": None, "data": "auto"}
    store.put_record(StudyRecord.of(small(recipe=recipe)))
    assert store.record().recipe == recipe


def test_a_store_of_an_older_version(store):
    """Before there were recipes, and arms that may equal the baseline."""
    plain = store.meta("record")
    del plain["recipe"]
    for arm in plain["arms"]:
        del arm["may_equal_baseline"]
    store.db.execute("UPDATE meta SET value = ? WHERE name = 'record'", (json.dumps(plain),))
    record = store.record()
    assert record.recipe is None and [a.may_equal_baseline for a in record.arms] == [False, False]
    assert replace(record, arms=RECORD.arms) == RECORD


# What a slice brings


def test_commits_add_up(store):
    store.commit(result(3))
    store.commit(result(6, diverged={IDS[1]: 5}, final={IDS[1]: {"error": 99.0}}, rows=[(IDS[0], "error", 6, 2.0)]))
    store.commit(result(12, done=True, diverged={IDS[1]: 5}, final={IDS[0]: {"error": 1.5}}, rows=[]))
    first, second, *_ = store.results().trials
    assert (first.status, first.step, first.diverged_at, first.final) == ("finished", 12, None, {"error": 1.5})
    assert (second.status, second.step, second.diverged_at, second.final) == ("diverged", 5, 5, {"error": 99.0})
    assert first.curves["error"].steps.tolist() == [3, 6] and first.curves["error"].values.tolist() == [3.5, 2.0]
    assert store.counts() == {"finished": 3, "diverged": 1, "pending": 4} and store.seconds() == 6.0
    assert [(c.step, c.done) for c in store.chunks()] == [(12, True), (0, False)]


def test_runs_that_end_early_count_when_those_beside_them_have_ended(store):
    # else an unfinished study would count its quick successes and leave out what is still trying
    early = result(finished={IDS[0]: 3}, diverged={IDS[1]: 2}, final={IDS[0]: {"error": 0.0}, IDS[1]: {"error": 1.0}})
    store.commit(early)
    first, second, third, *_ = store.results().trials
    assert (first.status, second.status, third.status) == ("finished", "diverged", "running")
    assert not (first.done or second.done or third.done)
    store.commit(result(6, done=True, final={i: {"error": 0.5} for i in IDS[2:4]}))
    assert [t.done for t in store.results().trials] == [True] * 4 + [False] * 4


def test_the_same_slice_twice_is_the_same(store):
    store.commit(result(3))
    before = store.results()
    store.commit(result(3))
    assert [t.curves["error"].values.tolist() for t in store.results().trials[:4]] == [[3.5]] * 4
    assert [t.status for t in before.trials] == [t.status for t in store.results().trials]


def test_a_finished_trial_stays_finished(store):
    store.commit(result(12, done=True, final={IDS[0]: {"error": 1.0}}))
    store.commit(result(3, final={IDS[0]: {"error": 7.0}}, rows=[]))
    assert store.results().trials[0].final == {"error": 1.0} and store.results().trials[0].status == "finished"


def test_numbers_that_are_none(store):
    values = [math.nan, math.inf, -math.inf]
    store.commit(result(rows=[(IDS[0], "error", s, v) for s, v in enumerate(values)]))
    store.commit(result(12, done=True, rows=[], final={IDS[0]: {"error": math.nan, "mean": math.inf}}))
    first = store.results().trials[0]
    assert np.isnan(first.curves["error"].values).all() and len(first.curves["error"].values) == 3
    assert math.isnan(first.final["error"]) and first.final["mean"] == math.inf


# All or nothing


def wrong_row(store: Store) -> SliceResult:
    return result(rows=[(IDS[0], "error", 3, 1.0), (IDS[0], None, 3, 1.0)])  # type: ignore[list-item]


def wrong_value(store: Store) -> SliceResult:
    return result(rows=[(IDS[0], "error", 3, 1.0), (IDS[0], "error", 6, "no number")])  # type: ignore[list-item]


def wrong_final(store: Store) -> SliceResult:
    return result(final={IDS[3]: {"error": object()}})  # type: ignore[dict-item]


@pytest.mark.parametrize("make", [wrong_row, wrong_value, wrong_final])
def test_a_slice_is_taken_in_as_a_whole(store, make):
    store.commit(result(3))
    before = state(store)
    with pytest.raises((sqlite3.IntegrityError, TypeError)):
        store.commit(make(store))
    assert state(store) == before
    store.commit(result(6))  # and the store goes on
    assert store.chunks()[0].step == 6


def test_a_study_is_taken_in_as_a_whole(store):
    before = state(store)
    bad = [TRIALS[0], replace(TRIALS[1], seed=None)]  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        store.extend(StudyRecord.of(small(title="Another title")), bad, [IDS[:1]])
    assert state(store) == before


def test_a_full_disk(store):
    """SQLite's limit on pages gives the error of a full disk."""
    store.commit(result(3))
    before = state(store)
    (pages,) = store.db.execute("PRAGMA page_count").fetchone()
    store.db.execute(f"PRAGMA max_page_count={pages}")
    large = [(i, f"metric {n}", 6, 1.0) for i in IDS for n in range(2000)]
    with pytest.raises(StudyError, match=r"cannot write to .*study.sqlite: database or disk is full; make room.*kept"):
        store.commit(result(6, rows=large))
    assert state(store) == before
    store.db.execute(f"PRAGMA max_page_count={pages + 10_000}")
    store.commit(result(6, rows=large))
    assert store.chunks()[0].step == 6


def _commit_and_die(folder: Path, before_commit: bool) -> None:
    store = Store(folder)
    store.commit(result(3))
    if before_commit:
        store.db.set_trace_callback(lambda sql: os._exit(9) if sql.startswith("COMMIT") else None)
    store.commit(result(6))
    os._exit(9)


@pytest.mark.parametrize(("before_commit", "step"), [(True, 3), (False, 6)])
def test_a_process_that_dies_in_a_commit(tmp_path, before_commit, step):
    with Store(tmp_path) as store:
        store.extend(RECORD, TRIALS, [IDS[:4]])
    child = multiprocessing.get_context("fork").Process(target=_commit_and_die, args=(tmp_path, before_commit))
    child.start()
    child.join()
    assert child.exitcode == 9
    with Store(tmp_path, readonly=True) as store:  # a reader finds the log that was left behind
        assert store.chunks()[0].step == step
    with Store(tmp_path) as store:
        assert store.chunks()[0].step == step and len(store.results().trials[0].curves["error"].steps) == step // 3


# Who may open it


def test_a_second_writer(store, tmp_path):
    with pytest.raises(StudyError, match=r"another process is running the study in .*; wait for it, or choose another"):
        Store(tmp_path)
    with Store(tmp_path, readonly=True) as reader:
        assert len(reader.results().trials) == 8
    store.commit(result(3))  # the first writer did not notice


def test_the_lock_goes_with_its_owner(tmp_path):
    for _ in range(2):
        with Store(tmp_path):
            pass
        with pytest.raises(RuntimeError, match="on purpose"), Store(tmp_path):
            raise RuntimeError("on purpose")


def test_readers_see_what_is_committed(store, tmp_path):
    with Store(tmp_path, readonly=True) as reader:
        assert reader.counts() == {"pending": 8}
        store.commit(result(3))
        assert reader.counts() == {"running": 4, "pending": 4}


def test_readers_do_not_write(store, tmp_path):
    with Store(tmp_path, readonly=True) as reader:
        with pytest.raises(StudyError, match=r"cannot write to .*readonly"):
            reader.commit(result(3))
        with pytest.raises(StudyError, match=r"cannot write to .*readonly"):
            reader.put_record(RECORD)


@pytest.mark.parametrize("make", [False, True])
def test_reading_where_nothing_is(tmp_path, make):
    folder = tmp_path / "nothing"
    if make:
        folder.mkdir()
    with pytest.raises(StudyError, match=r"nothing holds no study \(study.sqlite is missing\)"):
        Store(folder, readonly=True)
    assert folder.exists() is make and not list(folder.glob("*") if make else [])


def test_a_folder_inside_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"cannot write to .*file.runs: Not a directory; choose another folder"):
        Store(tmp_path / "file" / "runs")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StudyError, match=r"cannot write to .*: Permission denied; choose another folder with --out"):
        Store(tmp_path)


# Files that are something else


def damage(tmp_path: Path, how: str) -> None:
    path = tmp_path / FILE
    whole = path.read_bytes()
    if how == "text":
        path.write_bytes(b"this is no database, whatever its name says" * 100)
    elif how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(whole[:100] + b"\x55" * (len(whole) - 100))


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("how", ["text", "truncated", "overwritten"])
def test_a_damaged_file(tmp_path, how, readonly):
    with Store(tmp_path) as store:
        store.extend(RECORD, TRIALS, [IDS])
    damage(tmp_path, how)
    for _ in range(2):  # the second time shows that no lock was left behind
        with pytest.raises(StudyError, match=r"the store is damaged: .*; save what can .* `gradnoise repair .*`"):
            Store(tmp_path, readonly=readonly)


@pytest.mark.parametrize("readonly", [False, True])
def test_another_format(tmp_path, readonly):
    with Store(tmp_path) as store:
        store.db.execute("UPDATE meta SET value = '2' WHERE name = 'format'")
        store.db.commit()
    for _ in range(2):
        with pytest.raises(StudyError, match="was written in format 2; this version reads format 1"):
            Store(tmp_path, readonly=readonly)


def test_a_process_that_dies_before_the_tables_are_there(tmp_path):
    """An empty file is what a kill right after the start leaves: it reads as nothing, and running fills it."""
    (tmp_path / FILE).write_bytes(b"")
    with pytest.raises(StudyError, match="never started; run it first"):
        Store(tmp_path, readonly=True)
    with Store(tmp_path) as store:
        assert store.trials() == {}


def test_a_directory_of_that_name(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(StudyError, match=r"study.sqlite is a folder, not a file; choose another folder"):
        Store(tmp_path)
