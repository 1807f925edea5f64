"""Public functions of the noise streams: checks of the arguments and the choice of a backend."""

from __future__ import annotations

import functools
import importlib.util
import math
import operator
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian import reference
from gradnoise.noise.gaussian.parts import NATIVE, Part

ArrayLike: TypeAlias = Tensor | NDArray[Any] | Sequence[Any]
"""A tensor, numpy array or (nested) sequence of numbers."""

BACKENDS = ("auto", "numba", "triton", "torch")


@functools.cache
def backend(device: str = "cpu") -> str:
    """Name of the code that draws noise for tensors on a device: "numba", "triton" or "torch".

    On a CPU that is Numba and on a GPU Triton, where they are installed; "torch" is the slower reference, which
    runs anywhere. The numbers are the same bit for bit. The environment variable GRADNOISE_BACKEND, read once
    per process, decides otherwise: "torch" takes the reference everywhere, "numba" and "triton" make it an error
    if that one cannot run on its kind of device, "auto" is the default.

    Args:
        device: kind of device: "cpu", "cuda", ...

    Raises:
        ValueError: GRADNOISE_BACKEND is none of the four, or asks for what cannot run.
    """
    choice = os.environ.get("GRADNOISE_BACKEND", "auto")
    if choice not in BACKENDS:
        raise ValueError(f"GRADNOISE_BACKEND must be one of {', '.join(BACKENDS)}, got {choice!r}")
    native = {"cpu": "numba", "cuda": "triton"}.get(device, "torch")
    # The kernels look at pairs of 32-bit words as one 64-bit number, low half first.
    possible = importlib.util.find_spec(native) is not None and sys.byteorder == "little"
    if choice == native and not possible:
        raise ValueError(f"GRADNOISE_BACKEND={native} needs {native} (pip install {native}) on a little-endian machine")
    return native if possible and choice != "torch" else "torch"


def _backend_for(x: Tensor) -> ModuleType:
    return _module("cpu" if x.is_cpu else x.device.type)  # asking for the device costs as much as a small kernel


@functools.cache
def _module(device: str) -> ModuleType:
    """The backend's module; compiling and importing take a while, so only where it is needed."""
    match backend(device):
        case "numba":
            from gradnoise.noise.gaussian import numba_kernels as module
        case "triton":
            from gradnoise.noise.gaussian import triton_kernels as module
        case _:
            module = reference
    return module


def _array(name: str, values: ArrayLike, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    if isinstance(values, Tensor):
        array = values.detach().cpu().numpy()
    elif isinstance(values, np.ndarray):
        array = values
    else:  # NumPy makes float64 of lists with integers on both sides of 2^63; as objects they stay exact
        array = np.asarray(values, dtype=np.float64 if dtype is np.float64 else object)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(array.shape)}")
    if dtype is not np.float64 and array.size:
        if not (array.dtype.kind in "iu" or all(isinstance(v, (int, np.integer)) for v in array.flat)):
            raise ValueError(f"{name} must be integers, got {array.tolist()}")
        if array.min() < 0:
            raise ValueError(f"{name} must not be negative, got {array.min()}")
    return np.ascontiguousarray(array, dtype=dtype)


def _check_sigma(sigma: NDArray[Any]) -> None:
    bad = ~(np.isfinite(sigma) & (sigma >= 0))
    if bad.any():
        raise ValueError(f"sigma must be finite and >= 0, got {sigma[bad][0]}")


def _check_matrix(name: str, x: Tensor) -> None:
    if x.dim() != 2 or x.dtype not in NATIVE:
        raise ValueError(f"{name} must be a matrix of float32 or float64, got {x.dtype} of shape {list(x.shape)}")
    rows, columns = x.shape
    if (columns > 1 and x.stride(1) != 1) or (rows > 1 and x.stride(0) < columns):
        raise ValueError(f"the rows of {name} must be contiguous and must not overlap, got strides {list(x.stride())}")


def add_rows_(
    x: Tensor,
    *,
    offsets: ArrayLike,
    keys: ArrayLike,
    t: ArrayLike,
    sigma: ArrayLike,
    scale: Tensor | None = None,
) -> None:
    """Add Gaussian noise to a matrix in place: x[p, offsets[s] + i] += sigma[p] z(keys[p, s], t[p], i).

    In float32 the noise is float32(sigma) z, in float64 sigma z, rounded once before the addition. One pass,
    no temporary of the size of x, on up to torch.get_num_threads() threads; the result does not depend on
    them. With `scale` each row is first multiplied by its scale and rounded, in the same pass: the bits are
    those of `x.mul_(scale[:, None])` before the noise.

    Args:
        x: float32 or float64 [P, N]; elements of a row contiguous, rows at any distance.
        offsets: integers [S + 1] from 0 to N, not decreasing: they cut each row into S named segments.
        keys: uint64 [P, S], the `stream_key` of each segment.
        t: integers >= 0 [P], the step of each row.
        sigma: float64 [P], standard deviations >= 0. Rows with sigma 0 are only scaled; those with scale 1 as well
            are left untouched, bit for bit.
        scale: factors [P] in the dtype of x and on its device, such as those of clipping; None for ones.

    Raises:
        ValueError: an argument has another shape, dtype or range.

    Example:
        >>> x = torch.zeros(2, 5)
        >>> keys = [[stream_key(seed, name) for name in ("a", "b")] for seed in (0, 1)]
        >>> add_rows_(x, offsets=[0, 3, 5], keys=keys, t=[0, 0], sigma=[0.1, 0.0])
    """
    _check_matrix("x", x)
    rows, columns = x.shape
    cuts = _array("offsets", offsets, np.int64, (max(len(offsets), 1),))
    if cuts[0] != 0 or cuts[-1] != columns or (np.diff(cuts) < 0).any():
        raise ValueError(f"offsets must rise from 0 to {columns}, the length of a row, got {cuts.tolist()}")
    key = _array("keys", keys, np.uint64, (rows, len(cuts) - 1))
    step = _array("t", t, np.uint64, (rows,))
    deviation = _array("sigma", sigma, np.float64, (rows,))
    _check_sigma(deviation)
    if scale is not None and (scale.shape, scale.dtype, scale.device) != ((rows,), x.dtype, x.device):
        raise ValueError(
            f"scale must be {x.dtype} of shape [{rows}] on {x.device}, as x is, got {scale.dtype} of shape"
            f" {list(scale.shape)} on {scale.device}"
        )
    _backend_for(x).add_rows_(x, cuts, key, step, deviation, None if scale is None else scale.detach())


def add_(tensors: Sequence[Tensor], *, keys: Sequence[int], t: int, sigma: float) -> None:
    """Add Gaussian noise to tensors in place: element i (row-major) of tensors[s] += sigma z(keys[s], t, i).

    float32 and float64 as in `add_rows_`; float16 and bfloat16 are added to in float32 and rounded once.
    No temporary is larger than some 10^5 elements.

    Args:
        tensors: dense real floating-point tensors of any shape, stride and device.
        keys: the `stream_key` of each tensor.
        t: step >= 0.
        sigma: standard deviation >= 0; 0 changes nothing.

    Raises:
        ValueError: the numbers of tensors and keys differ, t or sigma is out of range, or a tensor is not
            floating-point.
    """
    if len(tensors) != len(keys):
        raise ValueError(f"each tensor needs one key, got {len(tensors)} tensors and {len(keys)} keys")
    add_parts_(list(map(Part, tensors, keys)), t=t, sigma=sigma)


def add_parts_(parts: Sequence[Part], *, t: int, sigma: float, scale: Tensor | None = None) -> None:
    """Add Gaussian noise to parts of streams in place, such as the shards of a gradient.

    Args:
        parts: tensors with their streams and their places there.
        t: step >= 0.
        sigma: standard deviation >= 0; 0 changes nothing.
        scale: 0-dim tensor that sigma is multiplied by, such as a loss scale; it is read on its own device.

    Raises:
        ValueError: t or sigma is out of range, or a tensor is not floating-point.
    """
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be finite and >= 0, got {sigma}")
    t = check_step(t)
    if sigma == 0:
        return
    modules: dict[ModuleType, list[Part]] = {}
    for part in parts:
        if not part.x.dtype.is_floating_point:
            raise ValueError(f"noise goes onto real floating-point tensors, got {part.x.dtype}")
        modules.setdefault(_backend_for(part.x), []).append(part)
    for module, batch in modules.items():
        module.add_parts_(batch, t, sigma, scale)


def check_step(t: int) -> int:
    """The step as a Python integer; refuses what is none."""
    try:
        step = operator.index(t)
    except TypeError:
        step = -1
    if not 0 <= step < 2**64:
        raise ValueError(f"t must be an integer >= 0, got {t!r}")
    return step


def normal(key: int, t: int, count: int, start: int = 0) -> Tensor:
    """Standard normals z(key, t, i) of one stream, for i = start .. start + count - 1.

    Args:
        key: `stream_key` of the stream.
        t: step >= 0.
        count: how many.
        start: index of the first.

    Returns:
        float32 [count]. Each is within 2.5e-6 of Box-Muller in exact arithmetic on the same words.

    Example:
        >>> normal(stream_key(0, "weight"), t=0, count=2)
    """
    z = torch.from_numpy(np.zeros(count, dtype=np.float32))  # torch.zeros may hang in a forked process
    add_parts_([Part(z, key, torch.tensor([start], device="cpu"))], t=t, sigma=1.0)
    return z


def uniform_words(key: int, t: int, count: int) -> Tensor:
    """Raw Philox words of one stream: element i is word i mod 4 of block i // 4.

    Args:
        key: `stream_key` of the stream.
        t: step >= 0.
        count: how many.

    Returns:
        int64 [count], uniform on the integers of [0, 2^32).
    """
    t = check_step(t)
    return reference.words(key, t, 0, count, torch.device("cpu"))


def word_rows(keys: ArrayLike, t: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """The first words of several streams at one step: row p is `uniform_words(keys[p], t, count)`.

    Args:
        keys: uint64 [P], the `stream_key` of each row.
        t: step >= 0.
        count: words of each row.
        device: of the result.

    Returns:
        int64 [P, count], uniform on the integers of [0, 2^32).
    """
    t = check_step(t)
    key = _array("keys", keys, np.uint64, (len(keys),))
    out = torch.empty(len(key), count, dtype=torch.int64, device=device)
    _backend_for(out).fill_words_(out, key, t)
    return out


def bernoulli_rows_(out: Tensor, *, keys: ArrayLike, t: ArrayLike, keep: ArrayLike) -> None:
    """Fill a matrix with dropout masks: out[p, i] = 1/keep[p] where word i < keep[p] 2^32, else 0.

    Word i of row p is number i of `uniform_words` for keys[p] and t[p].

    Args:
        out: float32 or float64 [P, n]; elements of a row contiguous, rows at any distance.
        keys: uint64 [P], the `stream_key` of each row; use another stream than for noise.
        t: integers >= 0 [P], the step of each row.
        keep: float64 [P] in [0, 1], the probability to keep an element.

    Raises:
        ValueError: an argument has another shape, dtype or range.
    """
    _check_matrix("out", out)
    rows = (len(out),)
    key, step = _array("keys", keys, np.uint64, rows), _array("t", t, np.uint64, rows)
    kept = _array("keep", keep, np.float64, rows)
    if not ((kept >= 0) & (kept <= 1)).all():
        raise ValueError(f"keep must be a probability in [0, 1], got {kept.tolist()}")
    last = np.maximum(np.ceil(kept * 2.0**32), 1).astype(np.uint64) - np.uint64(1)
    # With keep 0 the one word that `last` lets through gets the value 0, too.
    value = np.divide(1.0, kept, out=np.zeros_like(kept), where=kept > 0)
    _backend_for(out).bernoulli_rows_(out, key, step, last, value)
