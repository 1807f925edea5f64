"""What noise is added to: pieces of memory whose elements have known places in a stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

NATIVE = (torch.float32, torch.float64)
"""What kernels add to directly; other types go through a float32 copy of at most SLAB elements at a time."""

SLAB = 1 << 16

PLAIN = frozenset((Tensor, Parameter))
"""Types of tensors whose memory is what it seems."""


def working(dtype: torch.dtype) -> torch.dtype:
    """Return the precision that noise is added in."""
    return dtype if dtype in NATIVE else torch.float32


def is_plain(tensors: Sequence[Tensor]) -> bool:
    """Tell whether tensors are whole, contiguous, of one precision that kernels take, and on the CPU."""
    if not PLAIN.issuperset(map(type, tensors)):
        return False
    dtype, strided = tensors[0].dtype, torch.strided
    if dtype not in NATIVE:
        return False
    for x in tensors:  # a loop, as it is by far the quickest
        if x.dtype is not dtype or not x.is_cpu or x.layout is not strided or not x.is_contiguous():
            return False
    return True


class Part(NamedTuple):
    """A real tensor and where its elements stand in a noise stream.

    Args:
        x: floating-point tensor of any shape and stride, on any device.
        key: `stream_key` of its stream.
        first: int64 [R]: the tensor's elements, counted in row-major order, are R runs of equal length, and
            run r begins at element first[r] of the stream. None stands for one run that begins at 0.
    """

    x: Tensor
    key: int
    first: Tensor | None = None


def slabs(part: Part, most: int = SLAB) -> Iterator[Part]:
    """Cut a part into parts of at most so many elements; runs of non-contiguous tensors stay together."""
    x, key, first = part
    if x.numel() <= most:
        yield part
    elif first is None or len(first) == 1:
        start = 0 if first is None else int(first)
        for piece, offset in _cut(x, start, most):
            yield Part(piece, key, torch.tensor([offset], device="cpu"))
    elif x.is_contiguous():
        runs = x.view(len(first), -1)
        rows = most // runs.shape[1]
        if rows > 1:
            for begin in range(0, len(runs), rows):
                yield Part(runs[begin : begin + rows], key, first[begin : begin + rows])
        else:
            for run, start in zip(runs, first.split(1), strict=True):
                yield from slabs(Part(run, key, start), most)
    else:
        yield part


def _cut(x: Tensor, start: int, most: int) -> Iterator[tuple[Tensor, int]]:
    """Yield views of at most so many elements that follow each other in row-major order, with their places."""
    if x.is_contiguous():
        x = x.view(-1)
    inner = math.prod(x.shape[1:])
    rows = most // inner
    if x.numel() <= most:
        yield x, start
    elif rows:
        for begin in range(0, len(x), rows):
            yield x[begin : begin + rows], start + begin * inner
    else:
        for i, piece in enumerate(x):
            yield from _cut(piece, start + i * inner, most)
