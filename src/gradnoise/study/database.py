"""The SQLite file of a study: one process writes it, any number read it, and nothing in it is believed unchecked.

A file may have been damaged, or written by anyone. It may hold our tables and nothing else (a view could take for ever,
a trigger could write), and a query that brings no row in time is ended. A file that is moved, removed or cut while a
study runs is noticed at the next commit, and a copy of its last good state lies beside it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from gradnoise.errors import StudyError
from gradnoise.files import KINDS, clear_unfinished, replacement
from gradnoise.study.damage import damaged, is_damage
from gradnoise.study.tables import LATER, TABLES, is_ours

FILE, COPY, LOCK = "study.sqlite", "study.sqlite.bak", ".lock"
FORMAT = 1
NEVER_STARTED = "{} holds a study that never started; run it first"
LOST = "{} is {}, but not its copy; bring it back with `gradnoise repair {}`, or remove {} to begin anew"

#: Seconds until a query that brings no rows is ended, and those that a check may take for each byte; rows of a read.
PATIENCE, PATIENCE_PER_BYTE, ROWS = 60.0, 1e-6, 500
#: Commits, and seconds, between two copies; a copy that takes long is made more rarely.
COPY_COMMITS, COPY_SECONDS = 25, 120.0


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file of SQLite's: "ro" to read, "rwc" to write, "ro&immutable=1" to read it without its log."""
    absolute = os.path.join("/", os.path.abspath(path).lstrip("/"))  # two slashes at the start would name a host
    return sqlite3.connect(
        f"file:{quote(os.fsencode(absolute))}?mode={mode}", uri=True, timeout=30, check_same_thread=True
    )


def is_blank(path: Path) -> bool:
    """Say whether a file is missing or holds no trial, as one that was cut to nothing; a damaged one is not blank."""
    if not os.path.lexists(path):
        return True
    if not path.is_file() or path.is_symlink():
        return False
    try:
        with closing(connect(path, "ro")) as db:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                return True
            return db.execute("SELECT count(*) FROM trials").fetchone() == (0,)
    except sqlite3.Error:
        return False


def acquire(folder: Path) -> int:
    """Take the lock of a study's folder, which is made when missing; return the descriptor that holds it.

    Raises:
        StudyError: another process has it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise StudyError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise StudyError(
                f"another process is running the study in {folder}; wait for it, or choose another --out"
            ) from error
        raise StudyError(
            f"the file system of {folder} gives no locks ({error.strerror}), without which two processes could write"
            " one study; choose a folder on another disk with --out, or have locks switched on there"
        ) from error
    clear_unfinished(folder)
    return lock


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
        self.path = self.folder / FILE
        self._lock: int | None = None
        self._deadline: float | None = None
        self._commits, self._copied, self._copy_took = 0, time.monotonic(), 0.0
        if readonly and not os.path.lexists(self.path):
            raise StudyError(f"{self.folder} holds no study ({FILE} is missing); name the folder of a `gradnoise run`")
        self._check_file()
        if not readonly:
            self._lock = acquire(self.folder)
        try:
            if (self.folder / COPY).exists() and is_blank(self.path):
                what = "empty" if os.path.lexists(self.path) else "gone"
                raise StudyError(LOST.format(self.path, what, self.folder, COPY))
            self.db = connect(self.path, "ro" if readonly else "rwc")
            self.db.set_progress_handler(self._overdue, 100_000)
            self._open(readonly)
            self._identity = self._found()
        except sqlite3.OperationalError as error:
            self.close()
            if is_damage(error):
                raise damaged(self.folder, error) from error
            raise StudyError(f"{self.path} cannot be opened: {error}; choose another folder with --out") from error
        except (sqlite3.DatabaseError, OSError) as error:
            self.close()
            raise damaged(self.folder, error) from error
        except BaseException:
            self.close()
            raise

    # --- opening and closing ----------------------------------------------------------------------

    def _check_file(self) -> None:
        """Refuse what would be waited for, and a link, through which a file elsewhere would be written."""
        try:
            mode = os.lstat(self.path).st_mode
        except OSError:
            return  # there is none yet, or opening it tells what is wrong
        if stat.S_ISLNK(mode):
            raise StudyError(f"{self.path} is a link; a store is a file in its study's folder: name that folder")
        if not stat.S_ISREG(mode):
            raise StudyError(f"{self.path} is {KINDS[stat.S_IFMT(mode)]}, not a file; choose another folder with --out")

    def _open(self, readonly: bool) -> None:
        self.db.execute("PRAGMA trusted_schema=OFF")
        with self._patient(PATIENCE + PATIENCE_PER_BYTE * os.path.getsize(self.path)):
            tables = self._tables()
            if readonly and not tables:
                raise StudyError(NEVER_STARTED.format(self.folder))
            (verdict,) = self.db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict.splitlines()[-1])
        if not readonly:
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            if not tables:
                self.create()
            for table, columns in LATER.items():
                self.db.execute(f"CREATE TABLE IF NOT EXISTS {table} {columns}")
        elif missing := sorted(TABLES.keys() - tables):
            raise damaged(self.folder, f"its table {missing[0]!r} is missing")
        found = self.meta("format")
        if found != FORMAT:
            raise StudyError(f"{self.folder} was written in format {found}; this version reads format {FORMAT}")

    def create(self) -> None:
        """Make the tables of a fresh study."""
        tables = "".join(f"CREATE TABLE {name} {columns};" for name, columns in TABLES.items())
        self.db.executescript(f"BEGIN;{tables}INSERT INTO meta VALUES ('format', '{FORMAT}');COMMIT;")

    def _tables(self) -> set[str]:
        """Return the names of the tables; anything else in the file is not ours, and a part of ours is too little."""
        names = "name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        found = self.db.execute(f"SELECT type, name, sql FROM sqlite_master WHERE {names}")
        tables = set()
        for kind, name, sql in found.fetchall():
            if kind != "table" or name not in TABLES | LATER:
                raise damaged(self.folder, f"it has the {kind} {name!r}, which no study has")
            if not is_ours(name, sql):
                raise damaged(self.folder, f"its table {name!r} has other columns than that of a study")
            tables.add(name)
        if tables and (missing := [name for name in TABLES if name not in tables]):
            raise damaged(self.folder, f"its table {missing[0]!r} is missing")
        return tables

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

    # --- reading ----------------------------------------------------------------------------------

    def _overdue(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    @contextmanager
    def _patient(self, seconds: float) -> Iterator[None]:
        """End what the block asks of the file after some seconds."""
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None

    def rows(self, query: str, arguments: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query.

        Raises:
            StudyError: the file is damaged, or some rows take too long.
        """
        try:
            with self._patient(PATIENCE):
                cursor = self.db.execute(query, arguments)
                found = cursor.fetchmany(ROWS)
            while found:
                yield from found
                with self._patient(PATIENCE):
                    found = cursor.fetchmany(ROWS)
        except sqlite3.OperationalError as error:
            if str(error) == "interrupted":
                raise damaged(self.folder, f"it did not answer within {PATIENCE:g} s") from error
            raise damaged(self.folder, error) from error
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise damaged(self.folder, error) from error

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read the file within a block as it is now, whatever another process commits meanwhile."""
        if self.db.in_transaction:
            yield
            return
        self.db.execute("BEGIN")
        try:
            yield
        finally:
            self.db.rollback()

    def meta(self, name: str) -> Any:
        """Return a value of the description, or None."""
        for (value,) in self.rows("SELECT value FROM meta WHERE name = ?", (name,)):
            try:
                return json.loads(value)
            except (TypeError, ValueError, RecursionError) as error:
                raise damaged(self.folder, f"its {name} is no JSON ({error})") from error
        return None

    # --- writing ----------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all of a block's writes or none; what was committed before stays.

        Raises:
            StudyError: they cannot be kept, or the file is not where it was.
        """
        try:
            with self.db:
                yield
            self._check_kept()
        except sqlite3.OperationalError as error:
            raise StudyError(
                f"cannot write to {self.path}: {error}; make room or lift the lock, then repeat the command"
                " (everything committed so far is kept)"
            ) from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise  # a row that is wrong, which is no fault of the file
            raise damaged(self.folder, error) from error

    def _found(self) -> tuple[int, int]:
        found = os.stat(self.path)
        return found.st_dev, found.st_ino

    def _check_kept(self) -> None:
        """Check that the file is the one that was opened, and move what was committed from its log into it."""
        try:
            same = self._found() == self._identity
        except OSError:
            same = False
        if not same:
            raise StudyError(
                f"{self.path} was removed, moved or replaced while the study ran, and what was trained since the last"
                " commit cannot be kept; checkpoints stay where they are: put the folder back and repeat the command"
            )
        self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def read_back(self, query: str, arguments: Sequence[object]) -> tuple[Any, ...] | None:
        """Ask for a row as another process would find it.

        Raises:
            StudyError: the file cannot be read any more.
        """
        try:
            with closing(connect(self.path, "ro")) as db:
                return db.execute(query, arguments).fetchone()
        except sqlite3.Error as error:
            raise damaged(self.folder, f"{error}, after a commit; something else has written to it") from error

    def copy(self, due: Callable[[float, int], bool] = lambda seconds, commits: True) -> None:
        """Keep a copy of the file beside it, checked before it takes the place of the last one.

        Args:
            due: of the seconds and commits since the last copy, whether one is made now.

        Raises:
            StudyError: the file is damaged; the last copy stays.
        """
        started = time.monotonic()
        self._commits += 1
        if not due(started - self._copied - 50 * self._copy_took, self._commits):
            return
        try:
            with replacement(self.folder / COPY) as new, closing(sqlite3.connect(new)) as db:
                self.db.backup(db)
                db.execute("PRAGMA journal_mode=DELETE")
                (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict.splitlines()[-1])
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not is_damage(error):
                return  # no room for a copy
            raise damaged(self.folder, error) from error
        except OSError:
            return
        self._commits, self._copied = 0, time.monotonic()
        self._copy_took = self._copied - started
