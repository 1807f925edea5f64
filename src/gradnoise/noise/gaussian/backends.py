"""The contract of the code that draws noise, and the choice of an implementation for a kind of device."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian import reference
from gradnoise.noise.gaussian.meanwhile import Meanwhile
from gradnoise.noise.gaussian.parts import Part

CHOICES = ("auto", "numba", "triton", "torch")


class Backend(Protocol):
    """Draws noise on one kind of device; the modules `reference`, `numba_backend` and `triton_backend` are such.

    All give the bits of `reference`. Arguments are checked already: tensors lie on one device and have the shapes and
    dtypes stated here. 64-bit integers come as int64 tensors with the same bits. Every function writes to its first
    argument, tells autograd so, and reads no other tensor back to the host if that lies on a GPU.
    """

    def add_parts_(self, parts: Sequence[Part], t: int, sigma: float, scale: Tensor | None) -> None:
        """Add noise to parts of streams.

        Args:
            parts: floating-point tensors on devices of this backend, with their places in their streams.
            t: step in [0, 2^64).
            sigma: standard deviation > 0.
            scale: 0-dim floating-point tensor on any device that sigma is multiplied by, or None.
        """
        ...

    def add_rows_(
        self, x: Tensor, offsets: NDArray[Any], keys: Tensor, t: Tensor, sigma: Tensor, scale: Tensor | None
    ) -> None:
        """Scale rows and add noise: x[p, offsets[s] + i] = scale[p] x[...] + sigma[p] z(keys[p, s], t[p], i).

        Args:
            x: float32 or float64 [P, N]; elements of a row contiguous, rows at any distance.
            offsets: int64 [S + 1] on the host, from 0 to N, not decreasing.
            keys: int64 [P, S].
            t: int64 [P], any stride.
            sigma: float64 [P]; it is rounded to the dtype of x.
            scale: factors [P] in the dtype of x, or None. A row with sigma 0 is only scaled, and one without scale
                or with scale 1 as well is left as it is.
        """
        ...

    def bernoulli_rows_(self, out: Tensor, keys: Tensor, t: Tensor, keep: Tensor) -> None:
        """Fill a matrix with masks: out[p, i] = 1/keep[p] where word i of the row's stream is < keep[p] 2^32, else 0.

        Args:
            out: float32 or float64 [P, n]; elements of a row contiguous, rows at any distance.
            keys: int64 [P].
            t: int64 [P], any stride.
            keep: float64 [P] in [0, 1].
        """
        ...

    def fill_words_(self, out: Tensor, keys: Tensor, t: Tensor) -> None:
        """Fill a matrix with words: out[p, i] = word i of stream keys[p] at step t[p].

        Args:
            out: int64 [P, n], contiguous.
            keys: int64 [P].
            t: int64 [P], any stride.
        """
        ...


@functools.cache
def backend(device: str = "cpu") -> str:
    """Return the name of the code that draws noise for tensors on a device: "numba", "triton" or "torch".

    On a CPU that is Numba and on a GPU Triton, where they are installed; "torch" is the slower reference, which
    runs anywhere. The numbers are the same bit for bit. The environment variable GRADNOISE_BACKEND, read once
    per process, overrides this: "torch" takes the reference everywhere, "numba" and "triton" make it an error
    if that one cannot run on its kind of device, "auto" is the default.

    Args:
        device: kind of device: "cpu", "cuda", ...

    Raises:
        ValueError: GRADNOISE_BACKEND is none of the four, or asks for what cannot run.
    """
    choice = os.environ.get("GRADNOISE_BACKEND", "auto")
    if choice not in CHOICES:
        raise ValueError(f"GRADNOISE_BACKEND must be one of {', '.join(CHOICES)}, got {choice!r}")
    native = {"cpu": "numba", "cuda": "triton"}.get(device, "torch")
    # The kernels look at pairs of 32-bit words as one 64-bit number, low half first.
    possible = importlib.util.find_spec(native) is not None and sys.byteorder == "little"
    if native == "numba" and _numba_is_off():
        possible = False
    if choice == native and not possible:
        raise ValueError(
            f"GRADNOISE_BACKEND={native} needs {native} (pip install {native}) on a little-endian machine, and no"
            " NUMBA_DISABLE_JIT"
        )
    return native if possible and choice != "torch" else "torch"


def _numba_is_off() -> bool:
    """Tell whether Numba is told to run kernels as Python, which they cannot."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0").strip() not in ("", "0")


_implementations: dict[str, Backend] = {}


def implementation(device: str) -> Backend:
    """Return the backend that serves a kind of device now; see `Meanwhile` for the first updates on a CPU."""
    if device not in _implementations:
        _implementations[device] = _implementation(device)
    return _implementations[device]


def forget() -> None:
    """Have backends chosen anew, by the environment as it is now."""
    backend.cache_clear()
    _implementations.clear()


def _implementation(device: str) -> Backend:
    """Return the backend to begin with; it is imported here, as importing takes a while."""
    chosen = backend(device)
    if chosen == "torch" and device == "cpu" and _numba_is_off():
        warnings.warn("NUMBA_DISABLE_JIT is set: noise is drawn by plain torch, some 40 times slower", stacklevel=2)
    match chosen:
        case "numba" if os.environ.get("GRADNOISE_BACKEND", "auto") == "auto":
            return Meanwhile(functools.partial(_implementations.__setitem__, device))
        case "numba":
            from gradnoise.noise.gaussian import numba_backend

            return numba_backend
        case "triton":
            from gradnoise.noise.gaussian import triton_backend

            return triton_backend
    return reference


def backend_of(x: Tensor) -> Backend:
    """Return the backend that writes to a tensor."""
    return implementation("cpu" if x.is_cpu else x.device.type)  # asking for the device costs as much as a small kernel
