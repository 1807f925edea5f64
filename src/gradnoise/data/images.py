"""Image sets, 28 x 28 grey pixels in ten classes: MNIST, Fashion-MNIST, and digits to stand in for MNIST."""

import functools
import hashlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradnoise.errors import DataError, DataNotFoundError, nearest

from .fetch import DATA_VARIABLE, UNVERIFIED_VARIABLE, Progress, find_files, mismatch, read_payload
from .idx import SIDE, parse_images, parse_labels
from .sources import SOURCES, IdxFile, Source

NAMES = ("auto", *SOURCES, "digits")
DIGITS_TITLE = "embedded digits (scikit-learn, 8x8 upscaled to 28x28; NOT MNIST)"

_lock = threading.Lock()
_loaded: dict[tuple[str | None, ...], "ImageData"] = {}
_unreachable: set[str] = set()  # sources whose download failed in this process: "auto" does not wait again


@dataclass(frozen=True, eq=False)
class ImageData:
    """An image set, split for training and testing. The process shares it: do not write to its tensors.

    Attributes:
        name: "mnist", "fashion-mnist" or "digits".
        title: its name in headings, with what a reader must know about it.
        train_images: uint8 [n, 784], grey 0 (background) to 255 (ink), row by row.
        train_labels: int64 [n], class 0 to 9.
        test_images: uint8 [m, 784], likewise.
        test_labels: int64 [m], likewise.
        fingerprint: first 16 hex digits of a sha256 over the four tensors.
    """

    name: str
    title: str
    train_images: Tensor = field(repr=False)
    train_labels: Tensor = field(repr=False)
    test_images: Tensor = field(repr=False)
    test_labels: Tensor = field(repr=False)
    fingerprint: str

    @property
    def is_stand_in(self) -> bool:
        """Whether these are the embedded digits: figures from them say nothing about MNIST."""
        return self.name == "digits"


def load_images(name: str = "auto", *, progress: Progress | None = None, download: bool = True) -> ImageData:
    """Load an image set by name.

    Files are looked for in the folder that the environment variable ``GRADNOISE_DATA`` names, then in the
    cache, then at the official mirrors, and are checked against the published checksums.

    Args:
        name: "mnist" or "fashion-mnist"; "digits" for scikit-learn's embedded 8 x 8 digits, upscaled (no file
            needed); "auto" for MNIST where it can be had and the digits where not. A corrupt MNIST is an
            error for "auto" too, never a silent fall-back.
        progress: called as ``progress(file_name, bytes_so_far, bytes_in_all_or_None)`` while downloading;
            `terminal_progress` makes one.
        download: False uses only what is on this machine.

    Returns:
        The data; the same object again for the same name and settings in one process.

    Raises:
        DataError: `name` is unknown, ``GRADNOISE_DATA`` is no folder, or a file found is corrupt.
        DataNotFoundError: the set asked for by name cannot be had; the text says how to get it.

    Example:
        >>> data = load_images("digits")
        >>> data.train_images.shape, data.test_images.shape, data.is_stand_in
        (torch.Size([1438, 784]), torch.Size([359, 784]), True)
    """
    if name not in NAMES:
        raise DataError(f"no image set {name!r}: there are {', '.join(NAMES)}{nearest(str(name), NAMES)}")
    with _lock:
        if name == "digits":
            return _digits()
        if name == "auto":
            try:
                return _published(SOURCES["mnist"], progress, download and "mnist" not in _unreachable)
            except DataNotFoundError:
                return _digits()
        return _published(SOURCES[name], progress, download)


def _published(source: Source, progress: Progress | None, download: bool) -> ImageData:
    settings = (DATA_VARIABLE, UNVERIFIED_VARIABLE, "XDG_CACHE_HOME", "HOME")
    key = (source.name, *map(os.environ.get, settings))
    if key not in _loaded:
        try:
            located = find_files(source, os.environ, progress=progress, download=download)
        except DataNotFoundError:
            if download:
                _unreachable.add(source.name)
            raise
        unverified = os.environ.get(UNVERIFIED_VARIABLE) == "1"
        try:
            _loaded[key] = _read(source, located.paths, unverified=unverified)
        except DataError as error:
            raise DataError(f"{error} {located.remedy}") from None
    return _loaded[key]


def _read(source: Source, paths: tuple[Path, ...], *, unverified: bool) -> ImageData:
    """Read the four files at `paths`; each must be the published one unless `unverified`."""
    parts, all_known = [], True
    for file, path in zip(source.files, paths, strict=True):
        part, known = _read_file(file, path, unverified)
        parts.append(part)
        all_known &= known
    for images, labels in ((0, 1), (2, 3)):
        n, found = len(parts[images]), len(parts[labels])
        if n != found:
            raise DataError(f"{paths[labels]} holds {found:,} labels for the {n:,} images of {paths[images].name}.")
    kind = "real images" if all_known else "images, checksums not verified"
    title = f"{source.title} ({len(parts[0]):,} / {len(parts[2]):,} {kind})"
    return _image_data(source.name, title, *parts)


def _read_file(file: IdxFile, path: Path, unverified: bool) -> tuple[NDArray[np.uint8], bool]:
    payload, known = read_payload(file, path)
    parse = parse_images if "images" in file.name else parse_labels
    array = parse(payload, str(path))  # before the checksum: "cut short" says more than "differs"
    if not (known or unverified):
        raise DataError(f"{mismatch(file, payload, str(path))} {UNVERIFIED_VARIABLE}=1 accepts it as it is.")
    return array, known


@functools.cache
def _digits() -> ImageData:
    """The 1,797 digits of scikit-learn (8 x 8, grey 0 to 16), every fifth of each class for testing."""
    # Imported here: it takes a second or two that users of MNIST need not wait.
    from sklearn.datasets import load_digits

    images, labels = map(np.asarray, load_digits(return_X_y=True))
    pixels = _upscale(images.astype(np.int64).reshape(-1, 8, 8))
    labels = labels.astype(np.uint8)
    rank = np.zeros(len(labels), np.int64)  # position of each image within its class
    for digit in range(10):
        rank[labels == digit] = np.arange(np.count_nonzero(labels == digit))
    test = rank % 5 == 2  # 2: each class gives a fifth rounded to the nearest
    return _image_data("digits", DIGITS_TITLE, pixels[~test], labels[~test], pixels[test], labels[test])


def _upscale(grey: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Bilinear 8 x 8 -> 28 x 28, grey 0..16 -> 0..255, rounded half up.

    In integers, so that every machine gets the same bytes: output pixel i samples the input at (4 i - 5) / 14
    (pixel centres aligned, edges repeated), hence all weights are whole fourteenths.
    """
    weights = np.zeros((SIDE, 8), np.int64)
    for i in range(SIDE):
        left, right_weight = divmod(min(max(4 * i - 5, 0), 14 * 7), 14)
        weights[i, left] += 14 - right_weight
        weights[i, min(left + 1, 7)] += right_weight
    scaled = weights @ grey @ weights.T  # 0 .. 16 * 14^2
    full = 16 * 14**2
    return ((255 * scaled + full // 2) // full).astype(np.uint8).reshape(len(grey), SIDE * SIDE)


def _image_data(name: str, title: str, *parts: NDArray[np.uint8]) -> ImageData:
    content = hashlib.sha256()
    for part in parts:
        content.update(repr(part.shape).encode())
        content.update(part.tobytes())
    train_images, train_labels, test_images, test_labels = parts
    return ImageData(
        name=name,
        title=title,
        train_images=torch.from_numpy(train_images.copy()),
        train_labels=torch.from_numpy(train_labels.astype(np.int64)),
        test_images=torch.from_numpy(test_images.copy()),
        test_labels=torch.from_numpy(test_labels.astype(np.int64)),
        fingerprint=content.hexdigest()[:16],
    )
