"""`load_images`: what it returns, what it refuses, and that it never swaps data in silence."""

import dataclasses
import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from gradnoise.data import DataError, DataNotFoundError, fetch, load_images, terminal_progress
from gradnoise.data.images import _upscale
from gradnoise.data.sources import SOURCES

Fixture = Any  # TinySet of conftest.py
REAL_DATA = os.environ.get("GRADNOISE_DATA")  # read before the tests cut themselves off from it


@pytest.fixture
def user(tiny: Fixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny set as MNIST in the folder of GRADNOISE_DATA."""
    monkeypatch.setitem(SOURCES, "mnist", tiny.source())
    monkeypatch.setenv("GRADNOISE_DATA", str(tmp_path / "user"))
    return tiny.write(tmp_path / "user" / "mnist")


@pytest.mark.skipif(REAL_DATA is None, reason="GRADNOISE_DATA is not set: no real MNIST to read")
def test_the_real_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADNOISE_DATA", str(REAL_DATA))
    data = load_images("mnist", download=False)
    assert data.train_images.shape == (60_000, 784)
    assert data.test_images.shape == (10_000, 784)
    train, test = data.train_labels.bincount().tolist(), data.test_labels.bincount().tolist()
    assert train == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = data.train_images.double() / 255
    assert (pixels.mean().item(), pixels.std().item()) == pytest.approx((0.13066, 0.30811), abs=5e-6)
    assert data.title == "MNIST (60,000 / 10,000 real images)"
    assert not data.is_stand_in
    assert load_images("auto", download=False) is data


@pytest.mark.usefixtures("user")
def test_the_content_comes_out_as_it_went_in(tiny: Fixture) -> None:
    data = load_images("mnist")
    parts = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    for part, array in zip(parts, tiny.arrays.values(), strict=True):
        assert torch.equal(part.long(), torch.from_numpy(array.reshape(len(array), -1)).squeeze(1).long())
    assert [part.dtype for part in parts] == [torch.uint8, torch.int64] * 2
    assert (data.name, data.title, data.is_stand_in) == ("mnist", "Tiny (12 / 5 real images)", False)
    assert load_images("auto") is load_images("mnist") is data


def test_settings_that_change_are_heeded(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_images("mnist")
    monkeypatch.delenv("GRADNOISE_DATA")
    with pytest.raises(DataNotFoundError):
        load_images("mnist")
    monkeypatch.setenv("GRADNOISE_DATA", str(user))  # the folder itself, as good as the one above it
    second = load_images("mnist")
    assert second is not first
    assert second.fingerprint == first.fingerprint


IMAGES, LABELS, TEST_IMAGES = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"

# Kind of damage -> file, its bytes, what the error says.
DAMAGE: dict[str, tuple[str, Callable[[Fixture], bytes], str]] = {
    "cut gzip": (IMAGES, lambda tiny: tiny.packed[IMAGES][:-9], "cut short"),
    "not gzip": (LABELS, lambda tiny: b"PK\x03\x04", "not gzip"),
    "lfs pointer": (IMAGES, lambda tiny: LFS, "Git-LFS pointer"),
    "web page": (IMAGES, lambda tiny: b"<!doctype html><html>", "web page"),
    "images for labels": (LABELS, lambda tiny: tiny.packed[IMAGES], "magic number 2051"),
    "other size": (IMAGES, lambda tiny: repack(tiny, tiny.arrays[IMAGES][:, :, 1:]), "28 x 27"),
    "trailing": (IMAGES, lambda tiny: gzip.compress(tiny.payloads[IMAGES] + b"!"), "1 trailing bytes"),
    "label 10": (LABELS, lambda tiny: repack(tiny, tiny.arrays[LABELS] + np.uint8(10)), "0 to 9 are allowed"),
    "other pixels": (IMAGES, lambda tiny: repack(tiny, tiny.arrays[IMAGES] ^ np.uint8(1)), "was changed"),
    "wrong name": (IMAGES, lambda tiny: tiny.packed[TEST_IMAGES], "it is Tiny's t10k-images-idx3-ubyte"),
}


def repack(tiny: Fixture, array: np.ndarray) -> bytes:
    return gzip.compress(tiny.encode(array))


@pytest.mark.parametrize("name", ["mnist", "auto"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_corrupt_file_is_one_clear_error(tiny: Fixture, user: Path, kind: str, name: str) -> None:
    file, content, message = DAMAGE[kind]
    path = user / f"{file}.gz"
    path.write_bytes(content(tiny))
    with pytest.raises(DataError, match=f"^{path} .*{message}.* unset GRADNOISE_DATA") as caught:
        load_images(name)
    assert not isinstance(caught.value, DataNotFoundError)


def test_a_corrupt_cache_is_an_error_too(tiny: Fixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tiny.write(tmp_path / "mirror").as_uri() + "/"
    monkeypatch.setitem(SOURCES, "mnist", tiny.source(mirror))
    path = tiny.write(tmp_path / "cache" / "gradnoise" / "mnist") / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=f"^{path} is cut short.* Delete it: the next run downloads it again"):
        load_images("auto")
    path.unlink()  # as told
    assert load_images("auto").name == "mnist"
    assert path.read_bytes() == tiny.packed["t10k-labels-idx1-ubyte"]


def test_an_unreadable_file(user: Path) -> None:
    path = user / "train-labels-idx1-ubyte.gz"
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(DataError, match=f"^{path} cannot be read"):
        load_images("auto")


def test_the_override_accepts_other_content_and_says_so(
    tiny: Fixture, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = load_images("mnist")
    file, content, _ = DAMAGE["other pixels"]
    (user / f"{file}.gz").write_bytes(content(tiny))
    monkeypatch.setenv("GRADNOISE_DATA_UNVERIFIED", "1")
    changed = load_images("mnist")
    assert changed.title == "Tiny (12 / 5 images, checksums not verified)"
    assert changed.fingerprint != published.fingerprint
    assert torch.equal(changed.train_images, published.train_images ^ 1)


def test_the_override_still_refuses_counts_that_differ(
    tiny: Fixture, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADNOISE_DATA_UNVERIFIED", "1")
    (user / "train-labels-idx1-ubyte.gz").write_bytes(repack(tiny, np.zeros(11)))
    with pytest.raises(DataError, match=r"holds 11 labels for the 12 images of train-images-idx3-ubyte\.gz"):
        load_images("mnist")


def test_auto_takes_the_digits_offline_and_waits_for_the_network_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = []

    def no_network(url: str) -> None:
        tries.append(url)
        raise OSError("no route to host")

    monkeypatch.setattr(fetch, "_open", no_network)
    assert load_images("auto", download=False).is_stand_in
    assert not tries
    assert load_images("auto") is load_images("auto") is load_images("digits")
    assert len(tries) == 1
    with pytest.raises(DataNotFoundError, match="no route to host"):  # asked for by name: tried again
        load_images("mnist")
    assert len(tries) == 2


def test_digits_look_like_mnist_and_do_not_pose_as_it() -> None:
    numpy_state, torch_state = np.random.get_state(legacy=False), torch.get_rng_state()
    data = load_images("digits")
    assert data.train_images.shape == (1438, 784)
    assert data.test_images.shape == (359, 784)
    assert data.train_images.dtype == data.test_images.dtype == torch.uint8
    assert (data.train_images.min(), data.train_images.max()) == (0, 255)
    counts = torch.stack([data.train_labels.bincount(), data.test_labels.bincount()])
    assert counts.sum(0).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (counts[1] - counts.sum(0) / 5).abs().max() <= 0.5
    assert data.is_stand_in
    assert "NOT MNIST" in data.title
    assert data.fingerprint == "6f653723f6359ac1"  # the same bytes on every machine
    assert str(np.random.get_state(legacy=False)) == str(numpy_state)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_digits_split_shares_no_image() -> None:
    data = load_images("digits")
    train = {row.numpy().tobytes() for row in data.train_images}
    assert not train & {row.numpy().tobytes() for row in data.test_images}


def test_digits_can_be_learnt() -> None:
    """The nearest training image names the class: labels belong to their images."""
    data = load_images("digits")
    distances = torch.cdist(data.test_images.float(), data.train_images.float())
    guesses = data.train_labels[distances.argmin(1)]
    assert (guesses == data.test_labels).float().mean() > 0.95


def test_upscaling_is_bilinear() -> None:
    grey = np.random.default_rng(2).integers(0, 17, (50, 8, 8))
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(grey).double().unsqueeze(1), size=(28, 28), mode="bilinear", align_corners=False
    )
    difference = torch.from_numpy(_upscale(grey)).double() - reference.reshape(50, 784) * (255 / 16)
    assert difference.abs().max() <= 0.5 + 1e-9
    assert _upscale(np.full((1, 8, 8), 16)).tolist() == [[255] * 784]
    assert _upscale(np.full((1, 8, 8), 8)).tolist() == [[128] * 784]  # 127.5, rounded up


def test_unknown_name() -> None:
    with pytest.raises(DataError, match=r"'fashion_mnist': there are .*did you mean 'fashion-mnist'\?"):
        load_images("fashion_mnist")
    with pytest.raises(ValueError, match="there are auto, mnist, fashion-mnist, digits"):
        load_images("cifar")


def test_image_data_is_frozen_and_prints_in_a_line() -> None:
    data = load_images("digits")
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "mnist"  # type: ignore[misc]
    assert "\n" not in repr(data)
    assert data == data and len({data, data}) == 1


def test_the_progress_bar_is_for_terminals_only() -> None:
    with terminal_progress(Console(file=io.StringIO())) as progress:
        assert progress is None
    screen = io.StringIO()
    with terminal_progress(Console(file=screen, force_terminal=True, width=120)) as progress:
        assert progress is not None
        progress("train-images-idx3-ubyte.gz", 500, 1000)
        progress("train-images-idx3-ubyte.gz", 1000, 1000)
    assert "train-images-idx3-ubyte.gz" in screen.getvalue()
    assert "1.0/1.0 kB" in screen.getvalue()
