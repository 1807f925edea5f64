"""The only writer of files, and the reader of files that anyone may have put there.

A file is whole or not there, whatever happens while it is written; nothing is written through a link that leads out of
the folder that is meant; and what is read is a file of a limited size, not a pipe or a device.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import io
import os
import secrets
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

#: What reading a packed file may raise that is damaged; its text says little to a reader.
UNREADABLE = (OSError, EOFError, zlib.error)

#: How the names of unfinished files end; `clear_unfinished` removes those that a killed process left.
ENDING = ".part"

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def replace_atomically(path: Path, write: Callable[[BinaryIO], object], within: Path | None = None) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part, even after a crash.

    Args:
        path: the file; its folder is made when missing.
        write: writes the content to an open file. If it raises, the old file stays and the error goes on.
        within: a folder that nothing may be written outside of, whatever links it holds; None for no such limit.

    Raises:
        OSError: the file cannot be written, or a link leads out of `within`.
    """
    with replacement(path, within) as temporary, open(temporary, "r+b") as file:
        with suppress(OSError):  # so that nobody clears it away; where there are no locks nobody does
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write(file)


@contextmanager
def replacement(path: Path, within: Path | None = None) -> Iterator[Path]:
    """Make an empty file that takes the place of another when the block ends well, see `replace_atomically`."""
    if within is not None:
        check_within(path.parent, within)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}{ENDING}")
    try:
        with open(temporary, "xb"):  # x: never through a link that someone put there
            pass
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def clear_unfinished(folder: Path) -> None:
    """Remove what processes were writing into a folder when they were killed; what is being written stays."""
    for path in folder.glob(f".*{ENDING}"):
        with suppress(OSError), opened(path, links=False) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def check_within(path: Path, folder: Path) -> None:
    """Check that a path leads nowhere outside a folder.

    Raises:
        OSError: a link on the way leads out.
    """
    real, root = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if not real.is_relative_to(root):
        raise OSError(errno.ELOOP, f"a link leads out of {folder}, to {real}; remove it", str(path))


def make_room(path: Path, folder: bool) -> None:
    """Remove what stands where a file, or a folder, of ours belongs and is none; a link goes, not what it leads to."""
    with suppress(OSError):
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode) and not folder:
            shutil.rmtree(path)
        elif folder and not stat.S_ISDIR(mode):
            path.unlink()


def opened(path: str | Path, most: int | None = None, links: bool = True) -> BinaryIO:
    """Open a file for reading, and nothing else: to open a pipe would wait for ever, to read a device would never end.

    Args:
        path: the file.
        most: bytes that it may have; None for any number.
        links: whether the last part of the path may be a link.

    Raises:
        OSError: it is no file, larger, or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW))
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            kind = KINDS.get(stat.S_IFMT(found.st_mode), "something else")
            code = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
            raise OSError(code, f"it is {kind}, not a file", str(path))
        if most is not None and found.st_size > most:
            raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes; at most {most:,} are read", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | Path, most: int) -> bytes:
    """Read a file of at most `most` bytes.

    Raises:
        OSError: it is no file, larger, or cannot be read.
    """
    with opened(path, most) as file:
        content = file.read(most + 1)
    if len(content) > most:  # it grew meanwhile, or is one of those in /proc that say 0
        raise OSError(errno.EFBIG, f"it has over {most:,} bytes", str(path))
    return content


class Limited(io.RawIOBase):
    """A stream that ends in an error where it goes on for longer than it may, as packed data can.

    Args:
        stream: what is read.
        most: bytes that it may have.
    """

    def __init__(self, stream: io.BufferedIOBase | BinaryIO, most: int) -> None:
        self._stream, self._most, self._read = stream, most, 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer.

        Raises:
            OSError: more was read than may be.
        """
        found = self._stream.read(len(buffer))
        self._read += len(found)
        if self._read > self._most:
            raise OSError(errno.EFBIG, f"it unfolds to over {self._most:,} bytes")
        buffer[: len(found)] = found
        return len(found)


def unpacked(stream: BinaryIO, most: int) -> io.BufferedReader:
    """Return a reader of what a stream of gzip unfolds to.

    Args:
        stream: packed.
        most: bytes that it may unfold to; reading on raises OSError.
    """
    return io.BufferedReader(Limited(gzip.GzipFile(fileobj=stream), most), 1 << 16)
