"""Where the published bAbI files are: a folder, or the official archive, of the user's or in the cache.

They are never downloaded: put `tasks_1-20_v1-2.tar.gz` or its folder there.
"""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from gradnoise.errors import DataError, DataNotFoundError
from gradnoise.files import opened, read_bytes, unpacked

from ..fetch import DATA_VARIABLE, UNVERIFIED_VARIABLE, cache_folder, user_folder
from ..sources import has_digest
from .checksums import NAMES, SHA256

INSIDE = "tasks_1-20_v1-2/en"
ARCHIVE = "tasks_1-20_v1-2.tar.gz"
FOLDERS = ("babi/en", f"babi/{INSIDE}", "babi", INSIDE, "en", ".")
ARCHIVES = (f"babi/{ARCHIVE}", ARCHIVE)
GZIP = b"\x1f\x8b"
#: Bytes that a file, the archive, and what it unfolds to may have; many times what the official ones have.
MAX_BYTES, MAX_ARCHIVE, MAX_UNPACKED = 64 << 20, 256 << 20, 1 << 30
#: Types of headers that go before that of a member, which tarfile reads as a whole, and bytes that one may have.
HEADERS = (b"x", b"g", b"X", tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
MAX_HEADER = 1 << 16
OFFICIAL = f"http://www.thespermwhale.com/jaseweston/babi/{ARCHIVE}"


def file_names(task: int) -> tuple[str, str]:
    """Names of a task's training file and test file."""
    return f"qa{task}_{NAMES[task]}_train.txt", f"qa{task}_{NAMES[task]}_test.txt"


def read_published(environ: Mapping[str, str]) -> tuple[dict[int, tuple[bytes, bytes]], bool, str]:
    """The files of all 20 tasks, checked against the published checksums.

    Args:
        environ: environment variables; GRADNOISE_DATA is looked in first, then the cache.

    Returns:
        Task -> bytes of its training file and test file; whether all checksums were right; where they were found.

    Raises:
        DataError: the folder lacks one of the files, or one was changed (GRADNOISE_DATA_UNVERIFIED=1 accepts that).
        DataNotFoundError: there are none; the text says how to get them.
    """
    read, where = _find(environ)
    unverified = environ.get(UNVERIFIED_VARIABLE) == "1"
    found, right = {}, True
    for task in NAMES:
        pair = []
        for name, digest in zip(file_names(task), SHA256[task], strict=True):
            payload = read(name)
            if not has_digest(payload, digest):
                right = False
                if not unverified:
                    raise DataError(
                        f"{where}: {name} does not have the checksum of bAbI v1.2; replace it by the original"
                        f" ({OFFICIAL}), or accept it as it is with {UNVERIFIED_VARIABLE}=1."
                    )
            pair.append(payload)
        found[task] = (pair[0], pair[1])
    return found, right, where


def _find(environ: Mapping[str, str]) -> tuple[Callable[[str], bytes], str]:
    """How to read a file by name, and where from."""
    user = user_folder(environ)
    cache = cache_folder(environ)
    for root in filter(None, (user, cache)):
        for folder in (root / layout for layout in FOLDERS):
            if any(folder.glob("qa*_*.txt")):
                return _folder(folder), str(folder)
        for path in (root / layout for layout in ARCHIVES):
            if os.path.lexists(path):
                return _archive(path), str(path)
    place = f"{DATA_VARIABLE} ({user / 'babi/en' if user else 'not set'})"
    raise DataNotFoundError(
        f"The bAbI tasks are not here. Looked in {place} and in the cache ({cache / 'babi'}).\n"
        f"To get them, put {ARCHIVE} ({OFFICIAL}), or the folder {INSIDE} of it, into DIR/babi and set"
        f" {DATA_VARIABLE}=DIR. Generated stories ('generated') need no files."
    )


def _folder(folder: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        try:
            return read_bytes(folder / name, MAX_BYTES)
        except OSError as error:
            raise DataError(f"{folder / name} cannot be read ({error.strerror}); all 40 files are needed.") from None

    return read


def _archive(path: Path) -> Callable[[str], bytes]:
    try:
        with opened(path, MAX_ARCHIVE) as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            stream = unpacked(file, MAX_UNPACKED) if packed else file
            # A stream, which never goes back: no link is followed.
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive:
                members = dict(_members(archive, path))
    except DataError:
        raise
    except Exception as error:  # tarfile has many words for damage, those of zlib and of its own slips among them
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path} cannot be read as a tar.gz archive ({reason}).") from None

    def read(name: str) -> bytes:
        if name not in members:
            raise DataError(f"{path} lacks {INSIDE}/{name}; all 40 files are needed.")
        return members[name]

    return read


class _Header(tarfile.TarInfo):
    """A header that ends the reading where it is one of those before a member and large."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Read it."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in HEADERS and header.size > MAX_HEADER:
            raise OSError(errno.EFBIG, f"a header has {header.size:,} bytes; at most {MAX_HEADER:,} are read")
        return header


def _members(archive: tarfile.TarFile, path: Path) -> Iterator[tuple[str, bytes]]:
    wanted = {name for task in NAMES for name in file_names(task)}
    for member in archive:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise DataError(f"{path} has a member {member.name!r} outside its folder; the official archive has none.")
        if name.parent != PurePosixPath(INSIDE) or member.isdir():
            continue
        if not member.isreg():
            raise DataError(f"{path} has a link or device {member.name!r}; the official archive has files alone.")
        if not 0 <= member.size <= MAX_BYTES:
            raise DataError(f"{path} has {member.name!r} of {member.size:,} bytes; at most {MAX_BYTES:,} are read.")
        if name.name in wanted and (stream := archive.extractfile(member)):
            yield name.name, stream.read()
