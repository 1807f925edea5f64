"""The idx parser: exact on good files, one clear error on each kind of bad one."""

import gzip
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnoise.data import DataError
from gradnoise.data.idx import gunzip, parse_images, parse_labels


def encode(array: np.ndarray) -> bytes:
    header = struct.pack(f">{1 + array.ndim}i", 0x800 | array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def slow_images(payload: bytes) -> list[list[int]]:
    """Byte by byte, as the format is described."""
    magic, n, rows, columns = struct.unpack(">iiii", payload[:16])
    assert magic == 2051
    size = rows * columns
    return [[payload[16 + i * size + j] for j in range(size)] for i in range(n)]


def test_images_equal_a_slow_reader() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    parsed = parse_images(encode(images), "x")
    assert parsed.dtype == np.uint8
    assert parsed.tolist() == slow_images(encode(images))
    assert parsed.tolist() == images.reshape(3, 784).tolist()


@given(st.lists(st.integers(0, 9), min_size=1))
def test_labels_round_trip(labels: list[int]) -> None:
    assert parse_labels(encode(np.array(labels)), "x").tolist() == labels


@given(st.binary(max_size=300), st.integers(0, 9))
def test_gunzip_inverts_gzip(data: bytes, level: int) -> None:
    payload = b"idx" + data
    assert gunzip(gzip.compress(payload, level), "x") == payload


@pytest.mark.parametrize("count", [0, 3, 4, 7, 15, 16, 100, 799])
def test_cut_short_images(count: int) -> None:
    payload = encode(np.zeros((1, 28, 28)))
    with pytest.raises(DataError, match=r"short|empty"):
        parse_images(payload[:count], "x")


@given(data=st.data())
def test_every_truncated_gzip_is_refused(data: st.DataObject) -> None:
    packed = gzip.compress(encode(np.arange(10)), mtime=0)
    with pytest.raises(DataError, match=r"^the/file is (empty|cut short|not gzip)"):
        gunzip(packed[: data.draw(st.integers(0, len(packed) - 1))], "the/file")


@settings(max_examples=300)
@given(data=st.data())
def test_a_flipped_bit_never_changes_what_is_read(data: st.DataObject) -> None:
    """gzip's own checksum catches all damage but that to fields of no account, as its time stamp."""
    payload = encode(np.arange(10))
    packed = bytearray(gzip.compress(payload, mtime=0))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = gunzip(bytes(packed), "x")
    except DataError:
        return
    assert found == payload


GOOD = encode(np.zeros((2, 28, 28)))
BAD_IMAGES = {
    "labels": (encode(np.zeros(2000)), r"magic number 2049, where 2051 \(images\) is needed: .* labels"),
    "little-endian": (struct.pack("<iiii", 2051, 2, 28, 28) + GOOD[16:], "header is little-endian"),
    "other magic": (struct.pack(">i", 3331) + GOOD[4:], "magic number 3331, where 2051"),
    "other size": (encode(np.zeros((2, 32, 30))), "images of 32 x 30 pixels; 28 x 28 are needed"),
    "no image": (encode(np.zeros((0, 28, 28))), "holds no images"),
    "cut": (GOOD[:-1], "cut short: 1,567 bytes of data, its header promises 1,568"),
    "trailing": (GOOD + b"ab", "2 trailing bytes after the 1,568"),
    "huge count": (struct.pack(">iIII", 2051, 2**32 - 1, 28, 28) + GOOD[16:], "cut short"),
    "gzip": (gzip.compress(GOOD), r"is gzip: its name must end in \.gz"),
}


@pytest.mark.parametrize("fault", BAD_IMAGES)
def test_bad_images(fault: str) -> None:
    payload, message = BAD_IMAGES[fault]
    with pytest.raises(DataError, match=f"^the/file .*{message}"):
        parse_images(payload, "the/file")


def test_label_above_nine() -> None:
    with pytest.raises(DataError, match="label 10 at position 2; 0 to 9 are allowed"):
        parse_labels(encode(np.array([1, 9, 10, 200])), "x")


FOREIGN = {
    b"": "is empty",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9912422\n": "Git-LFS pointer",
    b"<!DOCTYPE html>\n<html>": "web page",
    b"\n  <HTML><body>404</body>": "web page",
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>': "web page",
}


@pytest.mark.parametrize("data", FOREIGN)
@pytest.mark.parametrize("read", [gunzip, parse_images, parse_labels])
def test_what_is_no_data_at_all(read: Callable[[bytes, str], object], data: bytes) -> None:
    with pytest.raises(DataError, match=f"^the/file .*{FOREIGN[data]}"):
        read(data, "the/file")


def test_not_gzip() -> None:
    with pytest.raises(DataError, match=r"unpacked idx file: take the \.gz off"):
        gunzip(encode(np.arange(10)), "x")
    with pytest.raises(DataError, match="starts with the bytes 50 4b 03 04"):
        gunzip(b"PK\x03\x04zip", "x")
    with pytest.raises(DataError, match="damaged"):
        gunzip(gzip.compress(b"data") + b"junk", "x")
