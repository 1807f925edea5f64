"""The choice of the code that draws noise for a kind of device."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import warnings

from torch import Tensor

from gradnoise.noise.gaussian import reference
from gradnoise.noise.gaussian.contract import Backend
from gradnoise.noise.gaussian.meanwhile import Meanwhile

CHOICES = ("auto", "numba", "triton", "torch")


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
