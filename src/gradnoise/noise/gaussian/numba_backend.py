"""The backend for CPUs: lays out what the Numba kernels work on, and shares the work among threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian import numba_kernels as kernels
from gradnoise.noise.gaussian.parts import SLAB, Part, slabs, working
from gradnoise.noise.gaussian.plans import addresses_of, sizes_of
from gradnoise.noise.gaussian.reference import limits
from gradnoise.noise.gaussian.threads import split

Array = NDArray[Any]

SMALL, FEW = 1024, 8  # so few tensors of so few elements have a call each, which costs less than a table of them

REAL = {torch.float32: np.float32, torch.float64: np.float64}
"""What the kernels add to."""


def _addresses(x: Tensor) -> Array:
    """Return the address of each row of a matrix."""
    step = x.stride(0) * x.element_size()
    return np.uint64(x.data_ptr()) + np.arange(len(x), dtype=np.uint64) * np.uint64(step)


def _run(kernel: Callable[..., object], tensors: Tensor | Sequence[Tensor], total: int, *args: object) -> None:
    if total:
        split(functools.partial(kernel, *args), total, torch.get_num_threads())
        torch.autograd.graph.increment_version(tensors)  # torch cannot see what a kernel writes


def _unsigned(bits: Tensor) -> Array:
    """Return 64-bit integers, given as int64 with the same bits, as the kernels take them."""
    return np.ascontiguousarray(bits.numpy()).view(np.uint64)


def add_rows_(x: Tensor, offsets: Array, keys: Tensor, t: Tensor, sigma: Tensor, scale: Tensor | None) -> None:
    """Scale rows and add noise, see `contract.Backend`; a row with scale 1 and sigma 0 is not read."""
    runs = np.zeros((*keys.shape, 4), dtype=np.uint64)
    runs[..., 0] = _addresses(x)[:, None] + (offsets[:-1] * x.element_size()).astype(np.uint64)
    runs[..., 1] = np.diff(offsets)
    runs[..., 3] = keys.numpy().view(np.uint64)
    real = REAL[x.dtype]
    scales = np.ones(len(x), dtype=real) if scale is None else np.ascontiguousarray(scale.numpy())
    _run(kernels.add_rows, x, x.numel(), runs, _unsigned(t), sigma.numpy().astype(real), scales, x.shape[1])


def add_parts_(parts: Sequence[Part], t: int, sigma: float, scale: Tensor | None) -> None:
    """Add noise to parts on the CPU, see `contract.Backend`."""
    if scale is not None:
        sigma *= scale.item()
    direct: dict[torch.dtype, list[Part]] = {}
    others: list[Part] = []
    for part in parts:
        if part.x.dtype in REAL and part.x.is_contiguous():
            direct.setdefault(part.x.dtype, []).append(part)
        else:
            others.append(part)
    for batch in direct.values():
        _add_direct(batch, t, sigma)
    if others:
        _add_to_copies(others, t, sigma)


def add_whole_(
    tensors: Sequence[Tensor],
    keys: Sequence[int],
    runs: Array | None,
    t: int,
    sigma: float,
    scale: Tensor | None,
) -> None:
    """Add noise to contiguous tensors of one precision from their first elements on, see `contract.Backend`."""
    if scale is not None:
        sigma *= scale.item()
    if runs is None:
        add = kernels.adder(tensors[0].dtype)
        for x, key in zip(tensors, keys, strict=True):
            add(x.data_ptr(), x.numel(), key, t, sigma)
        torch.autograd.graph.increment_version(tensors)
        return
    _add_runs(tensors, runs, t, sigma)


def lay_out(tensors: Sequence[Tensor], keys: Array) -> Array | None:
    """Return the table of tensors that the kernel works on, None for a few small ones, which have a call each."""
    return None if len(tensors) <= FEW and _are_small(map(Tensor.numel, tensors)) else _whole(tensors, keys)


def _are_small(sizes: Iterable[int]) -> bool:
    return max(sizes) <= SMALL


def compile_for(like: Sequence[tuple[torch.dtype, int]]) -> None:
    """Compile what noise on tensors of such types and sizes takes, and their norm, by work on memory of its own."""
    for dtype in dict.fromkeys(working(dtype) for dtype, _ in like):
        x = torch.from_numpy(np.zeros(1, REAL[dtype]))
        _add_direct([Part(x, 0)], 0, 1.0)
        square_sum([x])
        if len(like) <= FEW and _are_small(size for _, size in like):
            kernels.adder(dtype)


def square_sum(tensors: Sequence[Tensor]) -> float:
    """Return the sum of squares of all elements of contiguous tensors of one precision, in float64."""
    keys = np.zeros(len(tensors), dtype=np.uint64)
    return kernels.square_sum(_whole(tensors, keys), np.ones(1, REAL[tensors[0].dtype]))


def _whole(tensors: Sequence[Tensor], keys: Array) -> Array:
    """Return address, length, first element and key of contiguous tensors."""
    runs = np.zeros((len(tensors), 4), dtype=np.uint64)
    runs[:, 0] = addresses_of(tensors)
    runs[:, 1] = sizes_of(tensors)
    runs[:, 3] = keys
    return runs


@torch.no_grad()
def _add_to_copies(parts: Sequence[Part], t: int, sigma: float) -> None:
    """Add noise to parts that are not contiguous or have 16 bits, by way of copies of a slab or so."""
    for batch in _slabfuls([slab for part in parts for slab in slabs(part)]):
        copies = [_contiguous(part.x) for part in batch]
        _add_direct([part._replace(x=x) for part, x in zip(batch, copies, strict=True)], t, sigma)
        for part, copy in zip(batch, copies, strict=True):
            part.x.copy_(copy)


def _add_direct(parts: Sequence[Part], t: int, sigma: float) -> None:
    """Add noise to contiguous parts, all float32 or all float64."""
    whole = [(x.data_ptr(), x.numel(), 0, key) for x, key, first in parts if first is None]
    pieces = [_runs(x, key, first) for x, key, first in parts if first is not None]
    runs = np.concatenate([np.array(whole, dtype=np.uint64).reshape(-1, 4), *pieces])
    _add_runs([part.x for part in parts], runs, t, sigma)


def _add_runs(tensors: Sequence[Tensor], runs: Array, t: int, sigma: float) -> None:
    real = REAL[tensors[0].dtype]
    _run(
        kernels.add_runs, tensors, int(runs[:, 1].sum()), runs, np.uint64(t), np.array([sigma], real), np.ones(1, real)
    )


def _runs(x: Tensor, key: int, first: Tensor) -> Array:
    """Return address, length, first element and key of each run of a contiguous tensor."""
    length = x.numel() // max(len(first), 1)
    runs = np.empty((len(first), 4), dtype=np.uint64)
    runs[:, 0] = np.arange(len(first)) * (length * x.element_size()) + x.data_ptr()
    runs[:, 1], runs[:, 2], runs[:, 3] = length, first.numpy(), key
    return runs


def _slabfuls(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Put parts of one precision together up to some SLAB elements: small tensors share a call of the kernel."""
    for kind in (torch.float32, torch.float64):
        batch: list[Part] = []
        size = 0
        for part in parts:
            if working(part.x.dtype) != kind:
                continue
            if batch and size + part.x.numel() > SLAB:
                yield batch
                batch, size = [], 0
            batch.append(part)
            size += part.x.numel()
        if batch:
            yield batch


def _contiguous(x: Tensor) -> Tensor:
    """Return a contiguous copy in the precision that noise is added in."""
    return x.to(working(x.dtype), memory_format=torch.contiguous_format, copy=True)


def fill_words_(out: Tensor, keys: Tensor, t: Tensor) -> None:
    """Fill rows with words, see `contract.Backend`."""
    kernels.fill_words(out.numpy(), _unsigned(keys), _unsigned(t))


def bernoulli_rows_(out: Tensor, keys: Tensor, t: Tensor, keep: Tensor) -> None:
    """Fill rows with masks, see `contract.Backend`."""
    last, value = limits(keep)
    limit, kept = last.numpy().astype(np.uint32), value.numpy().astype(REAL[out.dtype])
    rows = _addresses(out), out.shape[1], _unsigned(keys), _unsigned(t)
    _run(kernels.fill_masks, out, out.numel(), *rows, limit, kept)
