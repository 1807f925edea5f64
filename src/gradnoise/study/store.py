"""The durable record of a study: one SQLite file in the study's folder, written by one process."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from gradnoise.errors import StudyError
from gradnoise.study.canonical import canonical, restore
from gradnoise.study.results import Curve, StudyRecord, StudyResults, TrialResult
from gradnoise.study.spec import Arm, Claim, Metric, Selection, Trial

FILE = "study.sqlite"
MetricRow = tuple[str, str, int, float]
FORMAT = 1
NEVER_STARTED = "{} holds a study that never started; run it first"

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trials (
    id TEXT PRIMARY KEY, position INTEGER NOT NULL, row TEXT NOT NULL, setting TEXT NOT NULL, arm TEXT NOT NULL,
    seed INTEGER NOT NULL, config TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'pending',
    step INTEGER NOT NULL DEFAULT 0, diverged_at INTEGER, final TEXT NOT NULL DEFAULT '{}');
CREATE TABLE metrics (
    trial TEXT NOT NULL REFERENCES trials (id), metric TEXT NOT NULL, step INTEGER NOT NULL, value REAL,
    PRIMARY KEY (trial, metric, step)) WITHOUT ROWID;
CREATE TABLE chunks (
    id TEXT PRIMARY KEY, trials TEXT NOT NULL, step INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0);
"""


@dataclass(frozen=True)
class Chunk:
    """Trials that are trained as one population, and how far they are."""

    id: str
    trials: tuple[str, ...]
    step: int = 0
    done: bool = False


@dataclass(frozen=True)
class Report:
    """What a slice of training brought: to be committed as one transaction.

    Args:
        chunk: id of the chunk.
        step: updates done; a checkpoint of this step lies on disk unless `done`.
        done: whether the chunk needs no more training.
        rows: (trial id, metric, step, value).
        diverged: trial id -> update at which it stopped being finite.
        final: trial id -> metrics that count, for trials that are done.
        seconds: time that the slice took.
        finished: trial id -> updates done, for trials that ended before the last update.
    """

    chunk: str
    step: int
    done: bool
    rows: Sequence[MetricRow]
    diverged: Mapping[str, int]
    final: Mapping[str, Mapping[str, float]]
    seconds: float
    finished: Mapping[str, int] = field(default_factory=dict)


class Store:
    """The study's SQLite file. Open it for writing in one process at a time; readers are free.

    Args:
        folder: of the study; created when missing.
        readonly: open for reading only: no lock, no folder made.

    Raises:
        StudyError: the folder is in use by another process, cannot be written, holds no study
            (when reading) or a damaged one.
    """

    def __init__(self, folder: Path, *, readonly: bool = False) -> None:
        self.folder = Path(folder)
        path = self.folder / FILE
        self._lock: int | None = None
        if readonly and not path.exists():
            raise StudyError(f"{self.folder} holds no study ({FILE} is missing); name the folder of a `gradnoise run`")
        if not readonly:
            self._acquire()
        try:
            mode = "ro" if readonly else "rwc"
            self.db = sqlite3.connect(f"file:{_quote(path)}?mode={mode}", uri=True, timeout=30)
            self._open(readonly)
        except sqlite3.Error as error:
            self.close()
            raise StudyError(
                f"{path} cannot be opened: {error}; if the file is damaged, move the folder away and run again"
            ) from error
        except BaseException:
            self.close()
            raise

    def _acquire(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StudyError(
                f"cannot write to {self.folder}: {error.strerror}; choose another folder with --out"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = None
            raise StudyError(
                f"another process is running the study in {self.folder}; wait for it, or choose another --out"
            ) from error

    def _open(self, readonly: bool) -> None:
        tables = self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if readonly and not tables:
            raise StudyError(NEVER_STARTED.format(self.folder))
        (verdict,) = self.db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if not readonly:
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            if not tables:
                self.db.executescript(f"BEGIN;{SCHEMA}INSERT INTO meta VALUES ('format', '{FORMAT}');COMMIT;")
        found = self.meta("format")
        if found != FORMAT:
            raise StudyError(f"{self.folder} was written in format {found}; this version reads format {FORMAT}")

    def close(self) -> None:
        """Close the file and release the lock."""
        if hasattr(self, "db"):
            self.db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of a block's writes or none; what was committed before stays."""
        try:
            with self.db:
                yield
        except sqlite3.OperationalError as error:
            raise StudyError(
                f"cannot write to {self.folder / FILE}: {error}; make room or lift the lock, then repeat the command"
                " (everything committed so far is kept)"
            ) from error

    # --- description ------------------------------------------------------------------------------

    def meta(self, name: str) -> Any:
        """A value of the description, or None."""
        found = self.db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return json.loads(found[0]) if found else None

    def record(self) -> StudyRecord:
        """The description of the study."""
        plain = self.meta("record")
        if plain is None:
            raise StudyError(NEVER_STARTED.format(self.folder))
        return _record(plain)

    def put_record(self, record: StudyRecord) -> None:
        """Set the description of the study."""
        with self._transaction():
            self._put_record(record)

    def _put_record(self, record: StudyRecord) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('record', ?)", (canonical(record),))

    # --- trials -----------------------------------------------------------------------------------

    def extend(self, record: StudyRecord, trials: Sequence[Trial], chunks: Iterable[Sequence[str]]) -> None:
        """Take in what is asked for: all of it or nothing.

        Args:
            record: the description.
            trials: those that are there keep what is known of them and get the new labels. They are listed
                first from now on, those of earlier runs behind them.
            chunks: which trials train together, by id; kept, so that a resumed study trains the same
                populations.
        """
        rows = [(t.id, i, t.row, t.setting, t.arm, t.seed, canonical(t.config)) for i, t in enumerate(trials)]
        bodies = [canonical(list(ids)) for ids in chunks]
        with self._transaction():
            self._put_record(record)
            self.db.execute("UPDATE trials SET position = position + ?", (len(rows),))
            self.db.executemany(
                "INSERT INTO trials (id, position, row, setting, arm, seed, config) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET position = excluded.position, row = excluded.row,"
                " setting = excluded.setting, arm = excluded.arm",
                rows,
            )
            self.db.executemany(
                "INSERT OR IGNORE INTO chunks (id, trials) VALUES (?, ?)",
                [(_hash(body), body) for body in bodies],
            )

    def trials(self, known: Iterable[type] = ()) -> dict[str, Trial]:
        """All trials by id, those too that an earlier run of the study asked for and this one does not.

        Args:
            known: dataclasses that may occur in configurations beside our own, see `Study.dataclasses`.
        """
        if self.meta("record") is None:
            return {}
        experiment = self.record().experiment
        rows = self.db.execute("SELECT id, row, setting, arm, seed, config FROM trials ORDER BY position")
        known = tuple(known)
        return {
            checked_id(id): Trial(experiment, row, setting, arm, seed, restore(config, known))
            for id, row, setting, arm, seed, config in rows
        }

    def chunks(self) -> list[Chunk]:
        """All chunks in the order in which they were planned."""
        rows = self.db.execute("SELECT id, trials, step, done FROM chunks ORDER BY rowid")
        return [Chunk(checked_id(i), tuple(json.loads(trials)), step, bool(done)) for i, trials, step, done in rows]

    def commit(self, report: Report) -> None:
        """Take in what a slice brought: all of it or nothing."""
        with self._transaction():
            self.db.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)", _rows(report))
            self.db.execute(
                "UPDATE chunks SET step = ?, done = ?, seconds = seconds + ? WHERE id = ?",
                (report.step, report.done, report.seconds, report.chunk),
            )
            (body,) = self.db.execute("SELECT trials FROM chunks WHERE id = ?", (report.chunk,)).fetchone()
            for trial in json.loads(body):
                if trial in report.diverged:
                    status, step = "diverged", report.diverged[trial]
                elif trial in report.finished:
                    status, step = "finished", report.finished[trial]
                else:
                    status, step = ("finished" if report.done else "running"), report.step
                self.db.execute(
                    "UPDATE trials SET status = ?, step = ?, diverged_at = ?, final = ?"
                    " WHERE id = ? AND status NOT IN ('finished', 'diverged')",
                    (
                        status,
                        step,
                        report.diverged.get(trial),
                        json.dumps(report.final.get(trial, {})),
                        trial,
                    ),
                )

    # --- reading ----------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Trials by status."""
        return dict(self.db.execute("SELECT status, count(*) FROM trials GROUP BY status"))

    def seconds(self) -> float:
        """Time spent in slices, summed over workers."""
        return self.db.execute("SELECT coalesce(sum(seconds), 0) FROM chunks").fetchone()[0]

    def results(self) -> StudyResults:
        """The study as reports and tables want it."""
        curves: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
        query = "SELECT trial, metric, step, value FROM metrics ORDER BY trial, metric, step"
        for trial, metric, step, value in self.db.execute(query):
            steps, values = curves.setdefault(trial, {}).setdefault(metric, ([], []))
            steps.append(step)
            values.append(np.nan if value is None else value)
        waiting = {trial for chunk in self.chunks() if not chunk.done for trial in chunk.trials}
        columns = "id, row, setting, arm, seed, config, status, step, diverged_at, final"
        trials = []
        for i, row, setting, arm, seed, config, status, step, diverged_at, final in self.db.execute(
            f"SELECT {columns} FROM trials ORDER BY position"
        ):
            own = {m: Curve(np.array(s), np.array(v, dtype=float)) for m, (s, v) in curves.get(i, {}).items()}
            trials.append(
                TrialResult(
                    i,
                    row,
                    setting,
                    arm,
                    seed,
                    json.loads(config),
                    status,
                    step,
                    diverged_at,
                    json.loads(final),
                    own,
                    i in waiting,
                )
            )
        return StudyResults(self.record(), tuple(trials))


def _rows(report: Report) -> list[tuple[str, str, int, float | None]]:
    """Metric rows as SQLite keeps them: nan and inf are NULL."""
    return [(t, m, s, v if np.isfinite(v) else None) for t, m, s, v in report.rows]


def checked_id(id: str) -> str:
    """An id as it came out of a store, which anyone may have written: ids become names of folders.

    Raises:
        StudyError: it is not of the form of an id.
    """
    if not (isinstance(id, str) and re.fullmatch("[0-9a-f]{12}|[0-9a-f]{16}", id)):
        raise StudyError(f"the store is damaged: {id!r} is no id of a trial or chunk; run the study in a new folder")
    return id


def chunk_id(trials: Sequence[str]) -> str:
    """The id of the chunk of some trials."""
    return _hash(canonical(list(trials)))


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:12]


def _quote(path: Path) -> str:
    return quote(str(path))


def _record(plain: Mapping[str, Any]) -> StudyRecord:
    """A StudyRecord from its JSON."""

    def build(kind: type, value: Mapping[str, Any]) -> Any:
        names = {f.name for f in dataclasses.fields(kind)}
        return kind(**{k: v for k, v in value.items() if k in names})

    def pairs(name: str) -> tuple[tuple[str, str], ...]:
        return tuple((a, b) for a, b in plain[name])

    fields = {k: v for k, v in plain.items() if k}  # "" names the class
    fields |= {name: pairs(name) for name in ("rows", "protocol", "provenance")}
    fields["arms"] = tuple(build(Arm, a) for a in plain["arms"])
    fields["claims"] = tuple(build(Claim, c) for c in plain["claims"])
    fields["metric"] = build(Metric, plain["metric"])
    if selection := plain.get("selection"):
        fields["selection"] = Selection(tuple(selection["by"]), tuple(build(Metric, m) for m in selection["report"]))
    fields["deviations"], fields["seeds"] = tuple(plain["deviations"]), tuple(plain["seeds"])
    return StudyRecord(**fields)
