"""A damaged store made anew: every row that can be read is kept, and what is lost is trained again.

A run is a function of its trial, so that training it again gives the same numbers. A trial is kept when it and the
chunk that it was trained in can be read and none of its measurements is missing; otherwise its chunk starts over.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradnoise.errors import StudyError
from gradnoise.files import replacement
from gradnoise.study.canonical import canonical
from gradnoise.study.codec import read
from gradnoise.study.columns import COLUMNS, checked
from gradnoise.study.database import COPY, FILE, FORMAT, PATIENCE, acquire, connect
from gradnoise.study.provenance import now
from gradnoise.study.results import StudyRecord
from gradnoise.study.store import NO_MEASURE, Store
from gradnoise.study.tables import LATER, TABLES

Row = dict[str, Any]


@dataclass(frozen=True)
class Repaired:
    """What became of a store.

    Args:
        trials: in the fresh store.
        again: of these, that will be trained again.
        old: where the damaged file is now; None where there was none, or nothing was damaged.
        whole: whether nothing was damaged.
    """

    trials: int
    again: int
    old: Path | None = None
    whole: bool = False


@dataclass
class _Found:
    """What could be read of a file: rows as they stand in it, by what tells them apart."""

    record: StudyRecord | None = None
    trials: dict[str, Row] = field(default_factory=dict)
    chunks: dict[str, Row] = field(default_factory=dict)
    metrics: dict[tuple[str, str, int], float | None] = field(default_factory=dict)
    others: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in LATER})

    def add(self, other: _Found) -> None:
        """Take over what is missing here."""
        self.record = self.record or other.record
        for mine, theirs in ((self.trials, other.trials), (self.chunks, other.chunks), (self.metrics, other.metrics)):
            theirs.update(mine)  # type: ignore[arg-type]
            mine.update(theirs)  # type: ignore[arg-type]
        for name, rows in self.others.items():
            rows.extend(() if rows else other.others[name])


def repair(folder: str | Path) -> Repaired:
    """Save what can be read of a study's store, and of the copy beside it, into a fresh store.

    The damaged file stays beside it under another name.

    Args:
        folder: of the study.

    Raises:
        StudyError: nothing is there, the study runs, or what it asks cannot be read in either file.
    """
    folder = Path(folder)
    if not any(os.path.lexists(folder / name) for name in (FILE, COPY)):
        raise StudyError(f"{folder} holds no study ({FILE} is missing); name the folder of a `gradnoise run`")
    lock = acquire(folder)
    try:
        with suppress(StudyError), Store(folder, readonly=True) as store:
            trials = {t.id for t in store.results().trials}
            if all(t in trials for chunk in store.chunks() for t in chunk.trials):
                return Repaired(len(trials), 0, whole=True)
        found = _Found()
        for path, mode in ((folder / FILE, "ro"), (folder / FILE, "ro&immutable=1"), (folder / COPY, "ro")):
            if path.is_file() and not path.is_symlink():
                found.add(_read(path, mode))
        if found.record is None:
            raise StudyError(
                f"the description of the study in {folder} cannot be read any more; run it in a new folder"
            )
        again = _start_over(found)
        return Repaired(len(found.trials), again, _write(folder, found.record, found, again))
    finally:
        os.close(lock)


# --- reading ----------------------------------------------------------------------------------------


def _read(path: Path, mode: str) -> _Found:
    """Read all rows of a file that can be."""
    found = _Found()
    try:
        db = connect(path, mode)
    except sqlite3.Error:
        return found
    with closing(db):
        deadline = [time.monotonic() + PATIENCE]
        db.set_progress_handler(lambda: time.monotonic() > deadline[0], 100_000)
        for table in (*TABLES, *LATER):
            deadline[0] = time.monotonic() + PATIENCE + 1e-5 * path.stat().st_size
            _read_table(db, table, found)
    return found


def _read_table(db: sqlite3.Connection, table: str, found: _Found) -> None:
    if table == "meta":
        for _, value in _rows(db, "SELECT name, value FROM meta WHERE name = 'record'", ("rowid",)):
            with suppress(StudyError, ValueError, TypeError, RecursionError):
                found.record = read(StudyRecord, json.loads(value))
        return
    if table == "metrics":
        query = f"SELECT trial, metric, step, value FROM metrics WHERE NOT ({NO_MEASURE})"
        for trial, metric, step, value in _rows(db, query, ("trial", "metric", "step")):
            found.metrics[trial, metric, step] = value
        return
    names = (*(("position",) if table == "trials" else ()), *COLUMNS[table])
    for values in _rows(db, f"SELECT {', '.join(names)} FROM {table}", ("rowid",)):
        row = dict(zip(names, values, strict=True))
        with suppress(ValueError):
            made = checked(table, {name: value for name, value in row.items() if name != "position"})
            if table == "trials":
                found.trials[row["id"]] = row | {"every": made["config"].get("eval_every")}
            elif table == "chunks":
                found.chunks[row["id"]] = row | {"members": made["trials"]}
            else:
                found.others[table].append(row)


def _rows(db: sqlite3.Connection, query: str, order: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield rows from the first to where the file is damaged, then from the last back to there."""
    seen = set()
    for direction in ("ASC", "DESC"):
        try:
            for row in db.execute(f"{query} ORDER BY {', '.join(f'{name} {direction}' for name in order)}"):
                if row not in seen:
                    seen.add(row)
                    yield row
            return
        except (sqlite3.Error, UnicodeDecodeError):
            continue


# --- what is believed -------------------------------------------------------------------------------


def _start_over(found: _Found) -> int:
    """Let chunks start over whose runs are not all there; return how many trials that are."""
    steps: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for trial, metric, step in found.metrics:
        steps[trial][metric].add(step)
    found.chunks = {id: c for id, c in found.chunks.items() if all(t in found.trials for t in c["members"])}
    names = {metric for _, metric, _ in found.metrics}
    kept: set[str] = set()
    for chunk in found.chunks.values():
        members = chunk["members"]
        whole = all(_complete(found.trials[t], chunk, steps[t], names) for t in members)
        consistent = all((found.trials[t]["status"] in ("finished", "diverged")) or not chunk["done"] for t in members)
        if whole and consistent:
            kept.update(members)
        else:
            chunk.update(step=0, done=0)
    again = 0
    for id, trial in found.trials.items():
        if id not in kept and trial["status"] != "pending":
            trial.update(status="pending", step=0, diverged_at=None, final="{}")
            again += 1
    found.metrics = {key: value for key, value in found.metrics.items() if key[0] in kept}
    return again


def _complete(trial: Row, chunk: Row, steps: Mapping[str, set[int]], names: Iterable[str]) -> bool:
    """Say whether a trial has a value of every metric at every evaluation up to where it stands."""
    every = trial["every"]
    if not isinstance(every, int) or every < 1:
        return False
    if trial["status"] == "diverged":
        wanted = set(range(every, trial["diverged_at"] or 0, every))
    else:
        last = trial["step"] if trial["status"] == "finished" else chunk["step"]
        wanted = {*range(every, last + 1, every), *((last,) if last else ())}
    return all(wanted <= steps.get(name, set()) for name in names) and bool(names or not wanted)


# --- writing ----------------------------------------------------------------------------------------


def _write(folder: Path, record: StudyRecord, found: _Found, again: int) -> Path | None:
    """Put a fresh store in the place of the damaged one, which is kept under another name, and return that."""
    sentence = f"{now()}: {len(found.trials)} trials were saved from a damaged store, {again} of them start over"
    record = dataclasses.replace(record, provenance=(*record.provenance, ("repaired", sentence)))
    with replacement(folder / FILE) as new:
        with closing(sqlite3.connect(new)) as db, db:
            for name, columns in {**TABLES, **LATER}.items():
                db.execute(f"CREATE TABLE {name} {columns}")
            db.executemany("INSERT INTO meta VALUES (?, ?)", [("format", str(FORMAT)), ("record", canonical(record))])
            trials = sorted(found.trials.values(), key=lambda t: (_position(t), t["id"]))
            for i, trial in enumerate(trials):
                _insert(db, "trials", {"position": i} | {name: trial[name] for name in COLUMNS["trials"]})
            for table, rows in {"chunks": list(found.chunks.values()), **found.others}.items():
                for row in rows:
                    _insert(db, table, {name: row[name] for name in COLUMNS[table]})
            db.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?)", [(*k, v) for k, v in found.metrics.items()])
        old = _set_aside(folder)
    return old


def _position(trial: Row) -> int:
    return trial["position"] if isinstance(trial["position"], int) else 0


def _insert(db: sqlite3.Connection, table: str, row: Row) -> None:
    marks = ", ".join("?" for _ in row)
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def _set_aside(folder: Path) -> Path | None:
    """Keep the damaged file under a name that is free, and remove its log, which would be read into the new one."""
    path = folder / FILE
    old = next(p for i in range(1, 10**6) if not (p := folder / f"{FILE}.damaged-{i}").exists())
    for suffix in ("", "-wal"):
        source = Path(f"{path}{suffix}")
        if source.is_file():
            shutil.copyfile(source, f"{old}{suffix}")
    for suffix in ("-wal", "-shm"):
        with suppress(OSError):
            Path(f"{path}{suffix}").unlink()
    return old if old.exists() else None
