"""Archives that are damaged or lie: one sentence each, nothing is followed, and what they unfold to has limits."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gradnoise.data.babi import files
from gradnoise.data.babi.files import ARCHIVE, INSIDE, file_names, read_published
from gradnoise.data.fetch import DATA_VARIABLE
from gradnoise.errors import DataError

NAME = f"{INSIDE}/{file_names(1)[0]}"
PAX, PAX_FOR_ALL = b"x", b"g"
Fill = Callable[[tarfile.TarFile], None]


def member(name: str = NAME, content: bytes = b"1 a\n", **changes) -> Fill:
    """Add a member; changes are attributes of its header."""

    def fill(archive: tarfile.TarFile) -> None:
        header = tarfile.TarInfo(name)
        header.size = len(content)
        for key, value in changes.items():
            setattr(header, key, value)
        archive.addfile(header, io.BytesIO(content) if header.size == len(content) else None)

    return fill


def link(to: str, kind: bytes = tarfile.SYMTYPE, name: str = NAME) -> Fill:
    return member(name, b"", type=kind, linkname=to)


def packed(*fill: Fill, format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for add in fill:
            add(archive)
    return file.getvalue()


def header(kind: bytes, content: bytes) -> bytes:
    """Return a header that goes before that of a member, and its content, as they lie in an archive."""
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


def pax(**values: str) -> bytes:
    lines = b""
    for key, value in values.items():
        body = f" {key}={value}\n".encode()
        size = len(body) + 2
        lines += f"{size}".encode() + body if len(f"{size}") == 2 else f"{size + 1}".encode() + body
    return header(PAX, lines)


def large(kind: bytes) -> bytes:
    return header(kind, bytes(files.MAX_HEADER + 1))


PLAIN = packed(member())
BAD = {
    "a link within": (packed(link(file_names(2)[0])), "a link or device"),
    "a link elsewhere": (packed(link("/etc/passwd")), "a link or device"),
    "links in a circle": (packed(link(f"{NAME}2"), link(NAME, name=f"{NAME}2")), "a link or device"),
    "a hard link to itself": (packed(link(NAME, tarfile.LNKTYPE)), "a link or device"),
    "a hard link to what is not there": (packed(link("gone", tarfile.LNKTYPE)), "a link or device"),
    "a pipe": (packed(member(type=tarfile.FIFOTYPE, content=b"")), "a link or device"),
    "a device": (packed(member(type=tarfile.CHRTYPE, content=b"", devmajor=1, devminor=5)), "a link or device"),
    "outside": (packed(member(f"{INSIDE}/../../x")), "outside its folder"),
    "from the root": (packed(member("/etc/x")), "outside its folder"),
    "outside by a PAX header": (pax(path="../../x") + PLAIN, "outside its folder"),
    "a PAX header's size below 0": (pax(size="-5") + PLAIN, "of -5 bytes; at most"),
    "a PAX header's large size": (pax(size=str(1 << 60)) + PLAIN, "at most"),
    "a PAX header that is no text": (header(PAX, b"\xff" * 40) + PLAIN, "does not have the checksum"),
    "a PAX header of a wrong length": (header(PAX, b"999 path=x\n") + PLAIN, "(cannot be read|lacks)"),
    "a large PAX header": (large(PAX) + PLAIN, "a header has 65,537 bytes"),
    "a large PAX header for all": (large(PAX_FOR_ALL) + PLAIN, "a header has 65,537 bytes"),
    "a large name": (large(tarfile.GNUTYPE_LONGNAME) + PLAIN, "a header has 65,537 bytes"),
    "a large name of a link": (large(tarfile.GNUTYPE_LONGLINK) + PLAIN, "a header has 65,537 bytes"),
    "headers before headers": (pax(path="x") * 3000 + PLAIN, "cannot be read"),
    "names before names": (header(tarfile.GNUTYPE_LONGNAME, b"x\0") * 3000 + PLAIN, "cannot be read"),
    "a size that is not there": (packed(member(size=1 << 20))[:2048], "cannot be read"),
    "a member too large": (packed(member(size=files.MAX_BYTES + 1, content=b"x")), "at most"),
    "nothing": (b"", "cannot be read"),
    "zeros": (bytes(10240), "lacks"),
    "a page": (b"<!doctype html><title>404</title>" * 40, "cannot be read"),
    "gzip of nothing": (gzip.compress(b""), "cannot be read"),
    "gzip within gzip": (gzip.compress(gzip.compress(PLAIN)), "cannot be read"),
    "gzip cut short": (gzip.compress(os.urandom(4096) + PLAIN)[:2000], "cannot be read"),
}


def refused(folder: Path, content: bytes, message: str) -> None:
    """Check that an archive is refused in one sentence."""
    (folder / ARCHIVE).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_published({DATA_VARIABLE: str(folder), "XDG_CACHE_HOME": str(folder / "none")})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("case", BAD)
def test_an_archive_that_is_refused(tmp_path, case):
    content, message = BAD[case]
    refused(tmp_path, content, message)
    assert [p.name for p in tmp_path.iterdir()] == [ARCHIVE]


def test_what_unfolds_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_UNPACKED", 1 << 20)
    refused(tmp_path, gzip.compress(packed(member(f"{INSIDE}/other", bytes(2 << 20)))), "unfolds to over 1,048,576")
    monkeypatch.setattr(files, "MAX_ARCHIVE", 1 << 12)
    refused(tmp_path, packed(member(content=bytes(1 << 13))), "at most 4,096 are read")


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a link to itself", "a link to a device", "a link to nothing"])
def test_another_thing_in_the_place_of_the_archive(tmp_path, kind):
    path = tmp_path / ARCHIVE
    {
        "a pipe": lambda: os.mkfifo(path),
        "a folder": path.mkdir,
        "a link to itself": lambda: path.symlink_to(path),
        "a link to a device": lambda: path.symlink_to("/dev/zero"),
        "a link to nothing": lambda: path.symlink_to(tmp_path / "gone"),
    }[kind]()
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_published({DATA_VARIABLE: str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "none")})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_is_one_sentence(tmp_path, seed):
    rng = random.Random(seed)
    content = bytearray(gzip.compress(packed(*(member(f"{INSIDE}/{n}") for n in file_names(1)))))
    for _ in range(rng.choice([1, 3, 30])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    refused(tmp_path, bytes(content[: rng.choice([None, len(content) - 9])]), "(cannot be read|lacks|checksum|at most)")
