"""The SQLite file of a study: one process writes it, any number read it, and its format is checked."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from gradnoise.errors import StudyError

FILE = "study.sqlite"
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
#: Came later; a file of an older version gets it when it is opened for writing.
EVENTS = "CREATE TABLE IF NOT EXISTS events (time TEXT NOT NULL, chunk TEXT NOT NULL, sentence TEXT NOT NULL)"
#: Came later still: the times at which verdicts were read.
LOOKS = "CREATE TABLE IF NOT EXISTS looks (time TEXT NOT NULL, asked INTEGER NOT NULL, seeds TEXT NOT NULL)"


class Database:
    """The open file. Open it for writing in one process at a time; readers are free.

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
            self.db = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=30)
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
        if not readonly:
            self.db.execute(EVENTS)
            self.db.execute(LOOKS)

    def close(self) -> None:
        """Close the file and release the lock."""
        if hasattr(self, "db"):
            self.db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all of a block's writes or none; what was committed before stays."""
        try:
            with self.db:
                yield
        except sqlite3.OperationalError as error:
            raise StudyError(
                f"cannot write to {self.folder / FILE}: {error}; make room or lift the lock, then repeat the command"
                " (everything committed so far is kept)"
            ) from error

    def meta(self, name: str) -> Any:
        """Return a value of the description, or None."""
        found = self.db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return json.loads(found[0]) if found else None
