"""Compiled passes over memory that some work of a population has on a CPU, where Numba can be had."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable

import torch
from torch import Tensor

#: Precisions that they are made for.
REAL = (torch.float32, torch.float64)


@functools.cache
def kernel(file: str, name: str) -> Callable[..., None] | None:
    """Return a function that a module of this package compiles, None where Numba cannot be had: the noise says so."""
    try:
        return getattr(importlib.import_module(f"{__package__}.{file}"), name)
    except Exception:  # an installation of Numba or LLVM may fail in any way
        return None


def on_cpu_in(x: Tensor, dtypes: tuple[torch.dtype, ...] = REAL) -> bool:
    """Say whether a tensor is one that they are made for."""
    return x.device.type == "cpu" and x.dtype in dtypes
