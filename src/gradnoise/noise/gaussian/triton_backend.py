"""The backend for CUDA: tells the Triton kernels where to work; many tensors in one launch, never waiting.

Which program takes which piece depends on the sizes of tensors alone. Such tables are made once and stay on the device;
they are waited for when they are made, so that any stream may use them later. A step sends one small table per dtype
and device, with the addresses of its tensors, and for rows given on the device nothing at all: those launches can be
recorded in a CUDA graph once they were made outside of it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton.language as tl  # pyright: ignore[reportMissingImports]
from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian import triton_kernels as kernels
from gradnoise.noise.gaussian.arguments import to_device
from gradnoise.noise.gaussian.parts import Part, working

BLOCK = 2048
"""Elements of a program."""

TYPES = {torch.float32: tl.float32, torch.float64: tl.float64, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def _launch(kernel: Any, programs: int, written: Sequence[Tensor], *args: Any) -> None:
    """Launch so many programs of a kernel that writes to tensors of one device."""
    if programs:
        with torch.cuda.device_of(written[0]):
            kernel[(programs,)](*args, size=BLOCK, enable_fp_fusion=False)
        torch.autograd.graph.increment_version(written)  # torch cannot see what a kernel writes


@torch.no_grad()
def add_parts_(parts: Sequence[Part], t: int, sigma: float, scale: Tensor | None) -> None:
    """Add noise to parts on GPUs, see `contract.Backend`."""
    batches: dict[tuple[torch.device, torch.dtype], list[Part]] = {}
    copies: list[tuple[Tensor, Tensor]] = []
    for part in parts:
        x = part.x
        if not x.is_contiguous() or x.dtype not in TYPES:
            dtype = x.dtype if x.dtype in TYPES else working(x.dtype)
            x = x.to(dtype, memory_format=torch.contiguous_format, copy=True)
            copies.append((part.x, x))
        if x.numel():
            batches.setdefault((x.device, x.dtype), []).append(part._replace(x=x))
    for batch in batches.values():
        _add_batch(batch, t, sigma, scale)
    for x, copy in copies:
        x.copy_(copy)


def _add_batch(parts: Sequence[Part], t: int, sigma: float, scale: Tensor | None) -> None:
    """Add noise to contiguous parts of one dtype on one device."""
    x = parts[0].x
    firsts = [_first(part) for part in parts]
    rows = [_row(part, first) for part, first in zip(parts, firsts, strict=True)]
    head = (t, int(np.float64(sigma).view(np.int64)), 0, 0, 0)
    table = to_device(torch.from_numpy(np.array([head, *rows], dtype=np.uint64).view(np.int64)), x.device)
    programs = _programs(tuple(map(_pieces, rows, firsts)), x.device)
    if scale is not None:
        scale = to_device(scale, x.device)
    types = TYPES[x.dtype], TYPES[working(x.dtype)]
    _launch(kernels.add_parts, len(programs), [part.x for part in parts], table, programs, scale, *types)


def _first(part: Part) -> int | Tensor:
    """Return where the one run of a part begins in its stream, or a table on the device for several."""
    if part.first is None:
        return 0
    if len(part.first) == 1 and part.first.is_cpu:
        return int(part.first)
    return to_device(part.first, part.x.device).contiguous()


def _row(part: Part, first: int | Tensor) -> tuple[int, int, int, int, int]:
    """Return a part's row in the table, see `kernels.add_parts`."""
    x = part.x
    if isinstance(first, int):
        return x.data_ptr(), x.numel(), part.key, first, 0
    return x.data_ptr(), x.numel() // len(first), part.key, 0, first.data_ptr()


def _pieces(row: tuple[int, int, int, int, int], first: int | Tensor) -> int:
    """Return how many programs a part needs; where the host does not know its first elements, for any of them."""
    length = row[1]
    if isinstance(first, int):
        return -(-(length + first % 4) // BLOCK)
    return len(first) * -(-(length + 3) // BLOCK)


@functools.lru_cache(maxsize=64)
def _programs(pieces: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the part and piece of each program, int32 [programs, 2], for so many pieces of each part."""
    begin = np.cumsum([0, *pieces])
    part = np.repeat(np.arange(len(pieces)), pieces)
    piece = np.arange(begin[-1]) - begin[part]
    return _kept(np.stack([part, piece], axis=1).astype(np.int32), device)


def _kept(table: NDArray[Any], device: torch.device) -> Tensor:
    """Return a table on a device, and wait until it is there."""
    return torch.from_numpy(table).to(device)


def add_rows_(x: Tensor, offsets: NDArray[Any], keys: Tensor, t: Tensor, sigma: Tensor, scale: Tensor | None) -> None:
    """Scale rows and add noise, see `contract.Backend`; a row with scale 1 and sigma 0 is not read."""
    pieces = _row_pieces(tuple(offsets.tolist()), x.device)
    count, segments = len(pieces), len(offsets) - 1
    scale = None if scale is None else scale.contiguous()
    place = x, x.stride(0), pieces, count, segments
    numbers = keys.contiguous(), t, t.stride(0), sigma.contiguous(), scale
    _launch(kernels.add_rows, len(x) * count, [x], *place, *numbers)


@functools.cache  # never dropped: a recorded graph would go on reading where it lay
def _row_pieces(offsets: tuple[int, ...], device: torch.device) -> Tensor:
    """Return segment, first element, first and last column of each piece of a row, int64 [pieces, 4]."""
    start, end = np.array(offsets[:-1], dtype=np.int64), np.array(offsets[1:], dtype=np.int64)
    pieces = -(-(end - start) // BLOCK)
    segment = np.repeat(np.arange(len(pieces)), pieces)
    begin = BLOCK * (np.arange(len(segment)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    return _kept(np.stack([segment, begin, start[segment], end[segment]], axis=1), device)


def fill_words_(out: Tensor, keys: Tensor, t: Tensor) -> None:
    """Fill rows with words, see `contract.Backend`."""
    _fill(kernels.fill_words, out, keys, t)


def bernoulli_rows_(out: Tensor, keys: Tensor, t: Tensor, keep: Tensor) -> None:
    """Fill rows with masks, see `contract.Backend`."""
    _fill(kernels.fill_masks, out, keys, t, keep.contiguous())


def _fill(kernel: Any, out: Tensor, keys: Tensor, t: Tensor, *args: Tensor) -> None:
    pieces = -(-out.shape[1] // BLOCK)
    rows = out, out.stride(0), out.shape[1], keys.contiguous(), t, t.stride(0), pieces
    _launch(kernel, len(out) * pieces, [out], *rows, *args)
