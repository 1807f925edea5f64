"""Checks of the arguments of row functions, and their way to the device of the rows.

Numbers on the host are checked and sent without waiting. Tensors on a GPU are taken as they are: only their shape and
dtype are checked, as reading values would make the host wait for the device.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian.parts import NATIVE

ArrayLike: TypeAlias = Tensor | NDArray[Any] | Sequence[Any]
"""A tensor, numpy array or (nested) sequence of numbers."""

Shape: TypeAlias = tuple[int, ...]

MAX = float(np.finfo(np.float64).max)


def check_step(t: int) -> int:
    """Return the step as a Python integer; refuse what is none."""
    try:
        step = operator.index(t)
    except TypeError:
        step = -1
    if not 0 <= step < 2**64:
        raise ValueError(f"t must be an integer >= 0, got {t!r}")
    return step


def check_matrix(name: str, x: Tensor) -> None:
    """Refuse what the kernels cannot write to row by row."""
    if x.dim() != 2 or x.dtype not in NATIVE:
        raise ValueError(f"{name} must be a matrix of float32 or float64, got {x.dtype} of shape {list(x.shape)}")
    rows, columns = x.shape
    if (columns > 1 and x.stride(1) != 1) or (rows > 1 and x.stride(0) < columns):
        raise ValueError(f"the rows of {name} must be contiguous and must not overlap, got strides {list(x.stride())}")


def check_scale(scale: Tensor, x: Tensor) -> None:
    """Refuse factors that are not one number per row in the dtype of the rows."""
    if (scale.shape, scale.dtype, scale.device) != (x.shape[:1], x.dtype, x.device):
        raise ValueError(
            f"scale must be {x.dtype} of shape [{len(x)}] on {x.device}, as x is, got {scale.dtype} of shape"
            f" {list(scale.shape)} on {scale.device}"
        )


def offsets_of(values: ArrayLike, columns: int) -> NDArray[Any]:
    """Return offsets as int64 [S + 1] on the host; refuse those that do not cut a row of `columns` elements."""
    offsets = _integers("offsets", values, (max(len(values), 1),)).astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != columns or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets must rise from 0 to {columns}, the length of a row, got {offsets.tolist()}")
    return offsets


def steps(t: ArrayLike | int, rows: int, device: torch.device) -> Tensor:
    """Return the step of each row, int64 [rows] on a device, given one per row or one for all."""
    one = t.dim() == 0 if isinstance(t, Tensor) else np.ndim(t) == 0
    return integers("t", t, (), device).expand(rows) if one else integers("t", t, (rows,), device)


def integers(name: str, values: ArrayLike | int, shape: Shape, device: torch.device) -> Tensor:
    """Return integers in [0, 2^64) as an int64 tensor with the same bits on a device.

    Args:
        name: of the argument, for messages.
        values: the integers.
        shape: what they must have.
        device: where they are wanted.

    Raises:
        ValueError: the values have another shape, are no integers, or (if they are on the host) are negative.
    """
    if _stays(values, device):
        _check_shape(name, values.shape, shape)
        if values.dtype not in (torch.int64, torch.uint64):
            raise ValueError(f"{name} must be integers of 64 bits, got {values.dtype}")
        return values.detach().view(torch.int64)
    bits = np.ascontiguousarray(_integers(name, values, shape), dtype=np.uint64).view(np.int64)
    return to_device(torch.from_numpy(bits), device)


def reals(name: str, values: ArrayLike, shape: Shape, device: torch.device, most: float = MAX) -> Tensor:
    """Return real numbers in [0, most] as a float64 tensor on a device.

    Args:
        name: of the argument, for messages.
        values: the numbers.
        shape: what they must have.
        device: where they are wanted.
        most: the largest number allowed.

    Raises:
        ValueError: the values have another shape or dtype, or (if they are on the host) are out of range.
    """
    if _stays(values, device):
        _check_shape(name, values.shape, shape)
        if values.dtype != torch.float64:
            raise ValueError(f"{name} must be float64, got {values.dtype}")
        return values.detach()
    array = np.ascontiguousarray(_on_host(values, np.float64), dtype=np.float64)
    _check_shape(name, array.shape, shape)
    good = (array >= 0) & (array <= most)
    if not good.all():
        allowed = "finite and >= 0" if most == MAX else f"in [0, {most:g}]"
        raise ValueError(f"{name} must be {allowed}, got {array[~good][0]}")
    return to_device(torch.from_numpy(array), device)


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a GPU gets it from pinned memory, so that the host does not wait.

    Raises:
        RuntimeError: a CUDA graph is being recorded, which would read the memory of the host again when it is replayed.
    """
    if x.device == device:
        return x
    if x.is_cpu and device.type == "cuda":
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "numbers on the host cannot go into a CUDA graph, which would repeat them at every replay; give keys, t"
                " and sigma as tensors on the GPU, and keep optimizers with attached noise out of recorded graphs"
            )
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def _stays(values: Any, device: torch.device) -> TypeGuard[Tensor]:
    """Tell whether values are on the wanted device already and that is not the host."""
    return isinstance(values, Tensor) and not values.is_cpu and values.device == device


def _check_shape(name: str, given: Shape, wanted: Shape) -> None:
    if given != wanted:
        raise ValueError(f"{name} must have shape {list(wanted)}, got {list(given)}")


def _on_host(values: ArrayLike | int, kind: type[Any]) -> NDArray[Any]:
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return values if isinstance(values, np.ndarray) else np.asarray(values, dtype=kind)


def _integers(name: str, values: ArrayLike | int, shape: Shape) -> NDArray[Any]:
    # NumPy makes float64 of lists with integers on both sides of 2^63; as objects they stay exact.
    array = _on_host(values, object)
    _check_shape(name, array.shape, shape)
    if array.size:
        if not (array.dtype.kind in "iu" or all(isinstance(v, (int, np.integer)) for v in array.flat)):
            raise ValueError(f"{name} must be integers, got {array.tolist()}")
        if array.min() < 0:
            raise ValueError(f"{name} must not be negative, got {array.min()}")
    return array
