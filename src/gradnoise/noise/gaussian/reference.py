"""The mapping in plain torch: the definition that the other backends equal bit for bit, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian.arguments import to_device
from gradnoise.noise.gaussian.constants import (
    COS,
    LN2,
    LOG,
    M0,
    M1,
    MANTISSA_BITS,
    MASK32,
    ONE_BITS,
    ROUNDS,
    SIGN_BIT,
    SIN,
    SQRT_HALF_BITS,
    W0,
    W1,
)
from gradnoise.noise.gaussian.parts import SLAB, Part, slabs, working

SERIAL = 4000
"""Elements that torch works on in one thread, its square roots too; on a busy CPU waiting for threads takes longer."""


def philox(block: Tensor, t: Tensor, key: Tensor) -> Tensor:
    """Compute Philox4x32-10 with counter (block_lo, block_hi, t_lo, t_hi) and key (key_lo, key_hi).

    Args:
        block: int64, any shape; as t and key the bits of an unsigned 64-bit number.
        t: int64, shape that broadcasts with block.
        key: int64, shape that broadcasts with block.

    Returns:
        Words in [0, 2^32) as int64 [..., 4].

    Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    block, t, key = torch.broadcast_tensors(block, t, key)
    c0, c1, c2, c3 = block & MASK32, (block >> 32) & MASK32, t & MASK32, (t >> 32) & MASK32
    k0, k1 = key & MASK32, (key >> 32) & MASK32
    for _ in range(ROUNDS):
        p0, p1 = c0 * M0, c2 * M1  # the low 64 bits are exact: int64 products wrap
        high0, high1 = (p0 >> 32) & MASK32, (p1 >> 32) & MASK32
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, p1 & MASK32, high0 ^ c3 ^ k1, p0 & MASK32
        k0, k1 = (k0 + W0) & MASK32, (k1 + W1) & MASK32
    return torch.stack((c0, c1, c2, c3), dim=-1)


def normals(words: Tensor) -> Tensor:
    """Turn words [..., 4] (int64, as from `philox`) into normals [..., 4] (float32) by Box-Muller."""
    words = words.to(torch.int32)  # keeps the low 32 bits
    r = _radius(words[..., :2])
    cos, sin = _cos_sin(words[..., 2:])
    return torch.stack((r * cos, r * sin), dim=-1).flatten(-2)


def _radius(w: Tensor) -> Tensor:
    """Return sqrt(-2 ln u) for u = (w + 1/2) 2^-32 of the unsigned word w, given as int32."""
    f = (w.to(torch.float32) + 0.5) * 2.0**-32  # u, or u - 1 where u >= 1/2: close to 1 nothing is lost
    u = f + ((w >> 31) & ONE_BITS).view(torch.float32)
    d = u.view(torch.int32) - SQRT_HALF_BITS
    e = (d >> 23).to(torch.float32)  # u = 2^e (1 + x) with 1 + x in [sqrt(1/2), sqrt(2))
    x = torch.where(d >= 0, f, ((d & MANTISSA_BITS) + SQRT_HALF_BITS).view(torch.float32) - 1.0)
    q0, q1, q2, q3, q4, q5, q6, q7 = map(float, LOG)
    x2 = x * x
    low = (q1 * x + q0) + (q3 * x + q2) * x2
    high = (q5 * x + q4) + (q7 * x + q6) * x2
    square = (low + high * (x2 * x2)) * x + e * float(LN2)
    # torch.sqrt in float32 is off by an ulp at times; by way of float64 it comes out correctly rounded.
    return torch.sqrt(square.to(torch.float64)).to(torch.float32)


def _cos_sin(w: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of the angle that word w (int32) stands for; its top bit is the cosine's sign."""
    y = ((w << 1) | 1).to(torch.float32) * 2.0**-31
    y2 = y * y
    s0, s1, s2, s3, s4 = map(float, SIN)
    sin = ((((s4 * y2 + s3) * y2 + s2) * y2 + s1) * y2 + s0) * y
    c0, c1, c2, c3, c4 = map(float, COS)
    cos = (((c4 * y2 + c3) * y2 + c2) * y2 + c1) * y2 + c0
    return (cos.view(torch.int32) ^ (w & SIGN_BIT)).view(torch.float32), sin


@torch.no_grad()
def add_parts_(parts: Sequence[Part], t: int, sigma: float, scale: Tensor | None) -> None:
    """Add noise to parts, see `contract.Backend`; by slabs, as temporaries are some 30 times what is added to."""
    for whole in parts:
        for x, key, first in slabs(whole, SERIAL if whole.x.is_cpu else SLAB):
            work = x.to(working(x.dtype))
            number = to_device(torch.from_numpy(np.array([t, key], dtype=np.uint64).view(np.int64)), x.device)
            factor = torch.full((), sigma, dtype=work.dtype, device=x.device)
            if scale is not None:
                factor = factor * scale.to(factor)
            z = _run(number, x.numel()) if first is None else _runs(number, to_device(first, x.device), x.numel())
            x.copy_(work + factor * z.view(x.shape).to(work.dtype))


def _run(number: Tensor, count: int) -> Tensor:
    """Return the first normals of the stream with number = (t, key)."""
    block = torch.arange((count + 3) // 4, device=number.device)
    return normals(philox(block, number[0], number[1])).flatten()[:count]


def _runs(number: Tensor, first: Tensor, count: int) -> Tensor:
    """Return normals at the places of runs of equal length, `count` in all."""
    length = count // max(len(first), 1)
    begin = first % 4
    block = (first // 4)[:, None] + torch.arange((length + 6) // 4, device=first.device)  # one more for the offset
    z = normals(philox(block, number[0], number[1])).flatten(1)
    return z.gather(1, begin[:, None] + torch.arange(length, device=first.device))


@torch.no_grad()
def add_rows_(x: Tensor, offsets: NDArray[Any], keys: Tensor, t: Tensor, sigma: Tensor, scale: Tensor | None) -> None:
    """Scale rows and add noise, see `contract.Backend`; row by row, as temporaries are some 30 times a row."""
    factors = sigma.to(x.dtype)
    silent = factors == 0
    idle = silent if scale is None else silent & (scale == 1)
    segment, block, column = (torch.from_numpy(a).to(x.device) for a in _layout(offsets))
    for p in range(len(x)):
        if x.is_cpu and idle[p]:  # on a device the question would wait for the answer
            continue
        row = x[p] if scale is None else x[p] * scale[p]
        z = normals(philox(block, t[p], keys[p, segment])).flatten()[column]
        noisy = row + factors[p] * z.to(x.dtype)  # two roundings: add with alpha may fuse them into one
        x[p] = torch.where(silent[p], row, noisy)


def _layout(offsets: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return segment and number of each block of a row, blocks laid end to end, and the normal of each column."""
    lengths = np.diff(offsets)
    blocks = (lengths + 3) // 4
    start = np.cumsum(blocks) - blocks
    segment = np.repeat(np.arange(len(blocks)), blocks)
    column = np.arange(offsets[-1]) + np.repeat(4 * start - offsets[:-1], lengths)
    return segment, np.arange(len(segment)) - start[segment], column


@torch.no_grad()
def fill_words_(out: Tensor, keys: Tensor, t: Tensor) -> None:
    """Fill rows with words, see `contract.Backend`."""
    out.copy_(_words(out.shape[1], keys, t))


@torch.no_grad()
def bernoulli_rows_(out: Tensor, keys: Tensor, t: Tensor, keep: Tensor) -> None:
    """Fill rows with masks, see `contract.Backend`."""
    last, value = limits(keep)
    out.copy_((_words(out.shape[1], keys, t) <= last[:, None]) * value.to(out.dtype)[:, None])


def limits(keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last word that is kept (int64) and what stands for it in a mask (float64), per probability."""
    last = torch.clamp(torch.ceil(keep * 2.0**32), min=1).to(torch.int64) - 1
    # With keep 0 the one word that `last` lets through gets the value 0, too.
    return last, torch.where(keep > 0, 1 / keep, 0.0)


def _words(count: int, keys: Tensor, t: Tensor) -> Tensor:
    """Return the first words of streams, int64 [P, count]."""
    block = torch.arange((count + 3) // 4, device=keys.device)
    return philox(block, t[:, None], keys[:, None]).flatten(1)[:, :count]
