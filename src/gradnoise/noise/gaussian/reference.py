"""The mapping in plain torch: the definition that the other backends equal bit for bit, on any device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
from gradnoise.noise.gaussian.parts import Part, slabs, working

Array = NDArray[np.generic]


def philox(block: Tensor, t: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 with counter (block_lo, block_hi, t_lo, t_hi) and key (key_lo, key_hi).

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
    """Box-Muller: words [..., 4] (int64, as from `philox`) to normals [..., 4] (float32)."""
    words = words.to(torch.int32)  # keeps the low 32 bits
    r = _radius(words[..., :2])
    cos, sin = _cos_sin(words[..., 2:])
    return torch.stack((r * cos, r * sin), dim=-1).flatten(-2)


def _radius(w: Tensor) -> Tensor:
    """sqrt(-2 ln u) for u = (w + 1/2) 2^-32 of the unsigned word w, given as int32."""
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
    """Cosine and sine of the angle that word w (int32) stands for; its top bit is the cosine's sign."""
    y = ((w << 1) | 1).to(torch.float32) * 2.0**-31
    y2 = y * y
    s0, s1, s2, s3, s4 = map(float, SIN)
    sin = ((((s4 * y2 + s3) * y2 + s2) * y2 + s1) * y2 + s0) * y
    c0, c1, c2, c3, c4 = map(float, COS)
    cos = (((c4 * y2 + c3) * y2 + c2) * y2 + c1) * y2 + c0
    return (cos.view(torch.int32) ^ (w & SIGN_BIT)).view(torch.float32), sin


def _bits(values: Array, device: torch.device) -> Tensor:
    """A numpy array of 64-bit integers as an int64 tensor with the same bits."""
    return torch.from_numpy(np.ascontiguousarray(values).view(np.int64)).to(device)


def words(key: int, t: int, first: int, count: int, device: torch.device) -> Tensor:
    """Words number first .. first + count - 1 of a stream at step t, int64 [count]."""
    block = torch.arange(first // 4, (first + count + 3) // 4, device=device)
    number = _bits(np.array([t, key], dtype=np.uint64), device)
    return philox(block, number[0], number[1]).flatten()[first % 4 :][:count]


@torch.no_grad()
def add_parts_(parts: Sequence[Part], t: int, sigma: float, scale: Tensor | None) -> None:
    """Add noise to parts, see `api.add_parts_`; by slabs, as temporaries are some 30 times what is added to."""
    for whole in parts:
        for x, key, first in slabs(whole):
            work = x.to(working(x.dtype))
            number = _bits(np.array([t, key], dtype=np.uint64), x.device)
            factor = torch.tensor(sigma, dtype=work.dtype, device=x.device)
            z = _run(number, x.numel()) if first is None else _runs(number, first.to(x.device), x.numel())
            x.copy_(work + (factor if scale is None else factor * scale.to(factor)) * z.view(x.shape).to(work.dtype))


def _run(number: Tensor, count: int) -> Tensor:
    """The first normals of the stream with number = (t, key)."""
    block = torch.arange((count + 3) // 4, device=number.device)
    return normals(philox(block, number[0], number[1])).flatten()[:count]


def _runs(number: Tensor, first: Tensor, count: int) -> Tensor:
    """Normals at the places of runs of equal length, `count` in all."""
    length = count // max(len(first), 1)
    begin = first % 4
    block = (first // 4)[:, None] + torch.arange((length + 6) // 4, device=first.device)  # one more for the offset
    z = normals(philox(block, number[0], number[1])).flatten(1)
    return z.gather(1, begin[:, None] + torch.arange(length, device=first.device))


@torch.no_grad()
def add_rows_(x: Tensor, offsets: Array, keys: Array, t: Array, sigma: Array, scale: Tensor | None) -> None:
    """Scale rows and add noise, see `api.add_rows_`."""
    if scale is not None:
        x *= scale[:, None]
    rows = np.flatnonzero(sigma.astype(np.float32 if x.dtype == torch.float32 else np.float64))
    lengths = np.diff(offsets)
    blocks = (lengths + 3) // 4
    block_start = np.cumsum(blocks) - blocks
    segment = np.repeat(np.arange(len(blocks)), blocks)
    block = torch.from_numpy(np.arange(len(segment)) - block_start[segment]).to(x.device)
    # Column c of x is normal number 4 block_start + i of the row's blocks laid end to end.
    column = np.arange(offsets[-1]) + np.repeat(4 * block_start - offsets[:-1], lengths)
    column = torch.from_numpy(column).to(x.device)
    for p in rows:  # row by row: the temporaries are some 30 times a row
        key = _bits(keys[p, segment], x.device)
        z = normals(philox(block, _bits(t[p : p + 1], x.device), key)).flatten()
        _add(x[p], z[column], torch.tensor(sigma[p], dtype=x.dtype, device=x.device))


def _add(x: Tensor, z: Tensor, sigma: Tensor) -> None:
    x += sigma * z.to(x.dtype)  # two roundings: add_ with alpha may fuse them into one


def fill_words_(out: Tensor, keys: Array, t: int) -> None:
    """out[p, i] = word i of stream keys[p] at step t."""
    block = torch.arange((out.shape[1] + 3) // 4, device=out.device)
    step = _bits(np.array([t], dtype=np.uint64), out.device)
    out.copy_(philox(block, step, _bits(keys, out.device)[:, None]).flatten(1)[:, : out.shape[1]])


@torch.no_grad()
def bernoulli_rows_(out: Tensor, keys: Array, t: Array, last: Array, value: Array) -> None:
    """out[p, i] = value[p] where word i of stream keys[p] at step t[p] is <= last[p], else 0."""
    block = torch.arange((out.shape[1] + 3) // 4, device=out.device)
    w = philox(block, _bits(t, out.device)[:, None], _bits(keys, out.device)[:, None]).flatten(1)
    kept = w[:, : out.shape[1]] <= _bits(last, out.device)[:, None]
    out.copy_(kept * torch.from_numpy(value).to(out)[:, None])
