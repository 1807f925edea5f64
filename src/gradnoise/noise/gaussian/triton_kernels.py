"""The mapping as a one-pass Triton kernel for CUDA tensors: many tensors in one launch.

Each program adds noise to up to BLOCK elements of one run. What it must know of the runs lies in a table on the
device, sent there without waiting. Products and sums are kept apart (no fused multiply-add) and roots correctly
rounded, so that the bits are the reference's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian import constants, reference
from gradnoise.noise.gaussian.parts import Part, working

Array = NDArray[Any]

BLOCK = 2048
SUPPORTED = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

M0, M1, W0, W1 = (tl.constexpr(v) for v in (constants.M0, constants.M1, constants.W0, constants.W1))
ROUNDS = tl.constexpr(constants.ROUNDS)
Q0, Q1, Q2, Q3, Q4, Q5, Q6, Q7 = (tl.constexpr(float(v)) for v in constants.LOG)
S0, S1, S2, S3, S4 = (tl.constexpr(float(v)) for v in constants.SIN)
C0, C1, C2, C3, C4 = (tl.constexpr(float(v)) for v in constants.COS)
LN2 = tl.constexpr(float(constants.LN2))
SQRT_HALF_BITS, MANTISSA_BITS = tl.constexpr(constants.SQRT_HALF_BITS), tl.constexpr(constants.MANTISSA_BITS)
SIGN_BIT = tl.constexpr(constants.SIGN_BIT)
TO_UNIT, TO_SIGNED_UNIT = tl.constexpr(2.0**-32), tl.constexpr(2.0**-31)


@triton.jit
def _words(block, t, key):
    """Philox4x32-10 words of blocks; all arguments int64, the words uint32."""
    c0, c1 = block.to(tl.uint32), (block >> 32).to(tl.uint32)
    c2 = (block * 0 + t).to(tl.uint32)
    c3 = (block * 0 + (t >> 32)).to(tl.uint32)
    k0, k1 = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    m0, m1 = tl.full([], M0, tl.uint32), tl.full([], M1, tl.uint32)
    w0, w1 = tl.full([], W0, tl.uint32), tl.full([], W1, tl.uint32)
    for _ in tl.static_range(ROUNDS):
        high0, high1 = tl.umulhi(c0, m0 + c0 * 0), tl.umulhi(c2, m1 + c2 * 0)
        low0, low1 = c0 * m0, c2 * m1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + w0, k1 + w1
    return c0, c1, c2, c3


@triton.jit
def _radius(word):
    w = word.to(tl.int32, bitcast=True)
    f = (w.to(tl.float32) + 0.5) * TO_UNIT
    u = f + tl.where(w < 0, 1.0, 0.0)
    d = u.to(tl.int32, bitcast=True) - SQRT_HALF_BITS
    e = (d >> 23).to(tl.float32)
    m = ((d & MANTISSA_BITS) + SQRT_HALF_BITS).to(tl.float32, bitcast=True) - 1.0
    x = tl.where(d >= 0, f, m)
    x2 = x * x
    low = (Q1 * x + Q0) + (Q3 * x + Q2) * x2
    high = (Q5 * x + Q4) + (Q7 * x + Q6) * x2
    return tl.sqrt_rn((low + high * (x2 * x2)) * x + e * LN2)


@triton.jit
def _cos_sin(word):
    w = word.to(tl.int32, bitcast=True)
    y = ((w << 1) | 1).to(tl.float32) * TO_SIGNED_UNIT
    y2 = y * y
    sin = ((((S4 * y2 + S3) * y2 + S2) * y2 + S1) * y2 + S0) * y
    cos = (((C4 * y2 + C3) * y2 + C2) * y2 + C1) * y2 + C0
    return (cos.to(tl.int32, bitcast=True) ^ (w & SIGN_BIT)).to(tl.float32, bitcast=True), sin


@triton.jit
def _add(runs, sigmas, programs, dtype: tl.constexpr, work: tl.constexpr, size: tl.constexpr):
    """Program i takes piece programs[i, 1] of run programs[i, 0]; runs are (address, length, first, key, t)."""
    i = tl.program_id(0)
    run, piece = tl.load(programs + 2 * i), tl.load(programs + 2 * i + 1)
    address, length = tl.load(runs + 5 * run), tl.load(runs + 5 * run + 1)
    first, key, t = tl.load(runs + 5 * run + 2), tl.load(runs + 5 * run + 3), tl.load(runs + 5 * run + 4)
    block = first // 4 + (piece * (size // 4) + tl.arange(0, size // 4)).to(tl.int64)
    w0, w1, w2, w3 = _words(block, t, key)
    r0, r1 = _radius(w0), _radius(w1)
    cos0, sin0 = _cos_sin(w2)
    cos1, sin1 = _cos_sin(w3)
    z = tl.interleave(tl.interleave(r0 * cos0, r1 * cos1), tl.interleave(r0 * sin0, r1 * sin1))
    place = (piece * size + tl.arange(0, size)).to(tl.int64) - first % 4
    memory = address.to(tl.pointer_type(dtype)) + place
    inside = (place >= 0) & (place < length)
    x = tl.load(memory, mask=inside, other=0.0).to(work)
    x += tl.load(sigmas + run) * z.to(work)
    if dtype == work:
        tl.store(memory, x, mask=inside)
    else:
        tl.store(memory, x.to(dtype, fp_downcast_rounding="rtne"), mask=inside)


_TRITON = {torch.float32: tl.float32, torch.float64: tl.float64, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def _launch(runs: Array, sigmas: Tensor, dtype: torch.dtype) -> None:
    """Add noise to runs [n, 5] of (address, length, first, key, t) with standard deviations sigmas [n]."""
    pieces = -(-(runs[:, 1] + runs[:, 2] % 4) // BLOCK)
    run = np.repeat(np.arange(len(runs)), pieces)
    piece = np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    if len(run):
        table, programs = _send(runs, sigmas.device), _send(np.stack([run, piece], axis=1), sigmas.device)
        work = tl.float64 if dtype == torch.float64 else tl.float32
        kernel = cast(Any, _add)[(len(run),)]
        kernel(table, sigmas, programs, _TRITON[dtype], work, BLOCK, enable_fp_fusion=False)


def _send(table: Array, device: torch.device) -> Tensor:
    """A table on the device; from pinned memory, so that the host does not wait."""
    tensor = torch.from_numpy(np.ascontiguousarray(table, dtype=np.int64))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


@torch.no_grad()
def add_parts_(parts: Sequence[Part], t: int, sigma: float, scale: Tensor | None) -> None:
    """Add noise to parts on a GPU, see `api.add_parts_`."""
    batches: dict[tuple[torch.device, torch.dtype], list[Part]] = {}
    copies: list[tuple[Tensor, Tensor]] = []
    for part in parts:
        x = part.x
        if not x.is_contiguous():
            x = x.contiguous()
            copies.append((part.x, x))
        batches.setdefault((x.device, x.dtype), []).append(part._replace(x=x))
    for (device, dtype), batch in batches.items():
        runs = np.concatenate([_runs(part, t) for part in batch])
        sigmas = torch.full((len(runs),), sigma, dtype=working(dtype), device=device)
        with torch.cuda.device_of(sigmas):
            _launch(runs, sigmas if scale is None else sigmas * scale.to(sigmas), dtype)
        torch.autograd.graph.increment_version([part.x for part in batch])
    for x, copy in copies:
        x.copy_(copy)


def _runs(part: Part, t: int) -> Array:
    """Address, length, first element, key and step of each run of a contiguous part."""
    x, key, first = part
    starts = np.zeros(1, dtype=np.int64) if first is None else first.cpu().numpy()
    length = x.numel() // max(len(starts), 1)
    runs = np.empty((len(starts), 5), dtype=np.int64)
    runs[:, 0] = x.data_ptr() + np.arange(len(starts)) * (length * x.element_size())
    runs[:, 1], runs[:, 2] = length, starts
    runs[:, 3:] = np.array([key, t], dtype=np.uint64).view(np.int64)
    return runs


@torch.no_grad()
def add_rows_(x: Tensor, offsets: Array, keys: Array, t: Array, sigma: Array, scale: Tensor | None) -> None:
    """Scale rows and add noise, see `api.add_rows_`."""
    if scale is not None:
        x *= scale[:, None]
    noisy = np.flatnonzero(sigma)
    runs = np.zeros((len(noisy), keys.shape[1], 5), dtype=np.int64)
    row = x.data_ptr() + noisy * (x.stride(0) * x.element_size())
    runs[..., 0] = row[:, None] + offsets[:-1] * x.element_size()
    runs[..., 1] = np.diff(offsets)
    runs[..., 3], runs[..., 4] = keys[noisy].view(np.int64), t[noisy].view(np.int64)[:, None]
    sigmas = torch.from_numpy(np.repeat(sigma[noisy], keys.shape[1])).to(x.dtype)
    with torch.cuda.device_of(x):
        _launch(runs.reshape(-1, 5), sigmas.to(x.device, non_blocking=True), x.dtype)
    torch.autograd.graph.increment_version(x)


bernoulli_rows_ = reference.bernoulli_rows_
fill_words_ = reference.fill_words_
