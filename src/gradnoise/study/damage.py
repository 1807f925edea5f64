"""The error of a store that cannot be used: it holds something wrong, or the disk under it is full."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from gradnoise.errors import StudyError

#: Bytes without which SQLite cannot work beside a file.
ROOM = 1 << 20


def damaged(folder: Path, what: object) -> StudyError:
    """Return the error of a store that holds something wrong; on a full disk SQLite speaks of errors that are none."""
    if isinstance(what, sqlite3.OperationalError) and is_full(folder):
        return StudyError(
            f"the disk of {folder} is full ({what}); make room, then repeat the command (everything committed is kept)"
        )
    return StudyError(f"the store is damaged: {what}; save what can be read with `gradnoise repair {folder}`")


def is_full(folder: Path, room: int = ROOM) -> bool:
    """Tell whether the disk of a folder has less room than so many bytes; where nobody tells, it has."""
    try:
        return shutil.disk_usage(folder).free < room
    except OSError:
        return False


def is_damage(error: sqlite3.OperationalError) -> bool:
    """Tell a file that holds something wrong from one that cannot be reached."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR", "SQLITE_ERROR", "SQLITE_INTERRUPT"))
