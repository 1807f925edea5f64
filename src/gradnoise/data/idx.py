"""The idx file format of MNIST and Fashion-MNIST, read strictly and purely: bytes in, arrays out.

An idx file is big-endian: int32 magic ``0x0800 | ndim`` (unsigned bytes), one int32 per dimension, then the
bytes themselves, last dimension fastest. Anything else is a `DataError` that names the file and its fault.
"""

import io
import math

import numpy as np
from numpy.typing import NDArray

from gradnoise.errors import DataError
from gradnoise.files import UNREADABLE, unpacked

#: A file may have, and unfold to, so many bytes: five times the largest.
MAX_BYTES = 256 << 20

SIDE = 28
CLASSES = 10

_GZIP_MAGIC = b"\x1f\x8b"
_UBYTE_MAGIC = 0x0800
_KINDS = {1: "labels", 3: "images"}


def gunzip(data: bytes, where: str) -> bytes:
    """Unpack the bytes of a ``.gz`` file.

    Args:
        data: the whole file.
        where: the file's name for error messages, a path or an address.

    Returns:
        The unpacked bytes.

    Raises:
        DataError: `data` is empty, a Git-LFS pointer, a web page, not gzip, cut short, damaged, or unfolds to over
            MAX_BYTES.
    """
    _reject_foreign(data, where)
    if not data.startswith(_GZIP_MAGIC):
        if data.startswith(b"\0\0\x08"):
            raise DataError(f"{where} is not gzip but an unpacked idx file: take the .gz off its name.")
        raise DataError(f"{where} is not gzip: it starts with the bytes {data[:4].hex(' ')}, not 1f 8b.")
    try:
        return unpacked(io.BytesIO(data), MAX_BYTES).read()
    except EOFError:
        raise DataError(f"{where} is cut short: its gzip stream stops before the end.") from None
    except UNREADABLE as error:
        raise DataError(f"{where} is damaged: {getattr(error, 'strerror', None) or error}.") from None


def parse_images(payload: bytes, where: str) -> NDArray[np.uint8]:
    """Read the images of an unpacked ``idx3-ubyte`` file.

    Args:
        payload: the whole unpacked file.
        where: the file's name for error messages.

    Returns:
        Array [n, 784] of grey values 0 (background) to 255 (ink), row by row; it shares `payload`'s memory.

    Raises:
        DataError: not an idx file of n >= 1 images of 28 x 28 unsigned bytes, cut short, or trailing bytes.
    """
    images = _parse(payload, 3, where)
    if images.shape[1:] != (SIDE, SIDE):
        rows, columns = images.shape[1:]
        raise DataError(f"{where} holds images of {rows} x {columns} pixels; {SIDE} x {SIDE} are needed.")
    return images.reshape(-1, SIDE * SIDE)


def parse_labels(payload: bytes, where: str) -> NDArray[np.uint8]:
    """Read the labels of an unpacked ``idx1-ubyte`` file.

    Args:
        payload: the whole unpacked file.
        where: the file's name for error messages.

    Returns:
        Array [n] of classes 0 to 9, n >= 1; it shares `payload`'s memory.

    Raises:
        DataError: not an idx file of n >= 1 unsigned bytes, cut short, trailing bytes, or a label above 9.
    """
    labels = _parse(payload, 1, where)
    if labels.max() >= CLASSES:
        first = int(np.argmax(labels >= CLASSES))
        raise DataError(f"{where} holds the label {labels[first]} at position {first}; 0 to 9 are allowed.")
    return labels


def _parse(payload: bytes, ndim: int, where: str) -> NDArray[np.uint8]:
    _reject_foreign(payload, where)
    if payload.startswith(_GZIP_MAGIC):
        raise DataError(f"{where} is gzip: its name must end in .gz.")
    header = 4 * (1 + ndim)
    if len(payload) < header:
        raise DataError(f"{where} is cut short: {len(payload)} bytes; the idx header alone takes {header}.")
    magic, *shape = (int(word) for word in np.frombuffer(payload, ">u4", count=1 + ndim))
    _check_magic(magic, ndim, where)
    found, promised = len(payload) - header, math.prod(shape)
    if shape[0] == 0:
        raise DataError(f"{where} holds no {_KINDS[ndim]}: its header says 0.")
    if found < promised:
        raise DataError(f"{where} is cut short: {found:,} bytes of data, its header promises {promised:,}.")
    if found > promised:
        raise DataError(f"{where} has {found - promised:,} trailing bytes after the {promised:,} promised.")
    return np.frombuffer(payload, np.uint8, offset=header).reshape(shape)


def _check_magic(magic: int, ndim: int, where: str) -> None:
    expected = _UBYTE_MAGIC | ndim
    if magic == expected:
        return
    problem = f"{where} has the magic number {magic}, where {expected} ({_KINDS[ndim]}) is needed"
    kinds = {_UBYTE_MAGIC | other: f"it is a file of {kind}" for other, kind in _KINDS.items()}
    if magic in kinds:
        problem += f": {kinds[magic]}"
    elif int.from_bytes(magic.to_bytes(4, "big"), "little") == expected:
        problem += ": its header is little-endian, idx is big-endian"
    raise DataError(f"{problem}.")


def _reject_foreign(data: bytes, where: str) -> None:
    """Name the two things that often lie where a data file should: a Git-LFS pointer and a web page."""
    head = data[:512].lstrip().lower()
    if not data:
        raise DataError(f"{where} is empty.")
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{where} is a Git-LFS pointer, not the data: run `git lfs pull` where it came from.")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DataError(f"{where} is a web page, not the data (perhaps a login or error page).")
