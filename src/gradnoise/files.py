"""The only writer of files: a file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

#: How the names of unfinished files end; `unfinished` finds those that a killed process left.
ENDING = ".part"


def replace_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part, even after a crash.

    Args:
        path: the file; its folder is made when missing.
        write: writes the content to an open file. If it raises, the old file stays and the error goes on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{ENDING}")
    try:
        with open(temporary, "xb") as file:  # x: never through a link that someone put there
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unfinished(folder: Path) -> list[Path]:
    """Files that a process was writing into a folder when it was killed."""
    return sorted(folder.glob(f".*{ENDING}"))
