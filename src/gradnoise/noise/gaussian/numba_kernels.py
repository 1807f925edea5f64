"""Compiled loops: the mapping and what writes it to memory, equal to `reference` bit for bit.

One file, because Numba compiles again only what was changed in the very file that it finds a function in.

A batch of blocks goes through three loops that LLVM vectorises: words, normals, addition. What makes that
work: 64-bit lanes for Philox (vpmuludq ignores the upper half, so nothing is masked), a fused Box-Muller loop
without branches or libm, and scratch arrays that stay in the first-level cache. Numba promotes int32
arithmetic to int64; the casts back to int32 keep eight lanes per AVX2 register.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import llvmlite.ir as ir
import numba
import numba.extending
import numpy as np
import torch
from numba import carray, types  # pyright: ignore[reportPrivateImportUsage]
from numba.core import cgutils

from gradnoise.noise.gaussian import constants
from gradnoise.noise.gaussian.numba_cache import compiled

BATCH = 256  # blocks per batch; divides 2^32, so the upper counter word is constant within a batch
ALIGN = 8  # short batches are rounded up to whole vectors; surplus draws are discarded

intrinsic = cast(Callable[[Callable[..., Any]], Any], numba.extending.intrinsic)

i32, u64, f32 = np.int32, np.uint64, np.float32
M0, M1, W0, W1, LOW = map(u64, (constants.M0, constants.M1, constants.W0, constants.W1, constants.MASK32))
HIGH = u64(32)  # shift that brings down the upper half
ROUNDS = constants.ROUNDS
Q0, Q1, Q2, Q3, Q4, Q5, Q6, Q7 = constants.LOG
S0, S1, S2, S3, S4 = constants.SIN
C0, C1, C2, C3, C4 = constants.COS
LN2 = constants.LN2
SQRT_HALF_BITS, ONE_BITS = i32(constants.SQRT_HALF_BITS), i32(constants.ONE_BITS)
MANTISSA_BITS, SIGN_BIT = i32(constants.MANTISSA_BITS), i32(constants.SIGN_BIT)
HALF, ONE, TO_UNIT, TO_SIGNED_UNIT = f32(0.5), f32(1), f32(2.0**-32), f32(2.0**-31)


@intrinsic
def _bits(typing_context: Any, x: Any) -> Any:
    """Reinterpret the bits of a float32 as int32."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), build


@intrinsic
def _float(typing_context: Any, x: Any) -> Any:
    """Reinterpret the bits of an int32 as float32."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), build


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    """Turn an address (uint64) into a pointer."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.uint64), build


@compiled()
def _words(key, t, block, n, a, b):
    """Draw the words of n blocks from `block` on: a[j] = (w0, w1) and b[j] = (w2, w3), w0 and w2 in the low halves."""
    upper = block >> HIGH
    for j in range(n):
        c0, c1, c2, c3 = block + u64(j), upper, t & LOW, t >> HIGH
        k0, k1 = key & LOW, key >> HIGH
        for _ in range(ROUNDS - 1):  # upper halves of c are garbage that the next product ignores
            p0, p1 = M0 * (c0 & LOW), M1 * (c2 & LOW)
            c0, c1, c2, c3 = (p1 >> HIGH) ^ c1 ^ k0, p1, (p0 >> HIGH) ^ c3 ^ k1, p0
            k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
        p0, p1 = M0 * (c0 & LOW), M1 * (c2 & LOW)
        # The halves of a product swapped are the last round's (hi ^ c ^ k, lo) but for the exclusive or.
        a[j] = ((p1 >> HIGH) | (p1 << HIGH)) ^ ((c1 ^ k0) & LOW)
        b[j] = ((p0 >> HIGH) | (p0 << HIGH)) ^ ((c3 ^ k1) & LOW)


@compiled(inline="always")
def _radius(w):
    f = (f32(w) + HALF) * TO_UNIT
    u = f + _float(i32(i32(w >> i32(31)) & ONE_BITS))
    d = i32(_bits(u) - SQRT_HALF_BITS)
    e = f32(i32(d >> i32(23)))
    m = _float(i32(i32(d & MANTISSA_BITS) + SQRT_HALF_BITS)) - ONE
    x = f if d >= i32(0) else m
    x2 = x * x
    low = (Q1 * x + Q0) + (Q3 * x + Q2) * x2
    high = (Q5 * x + Q4) + (Q7 * x + Q6) * x2
    return math.sqrt((low + high * (x2 * x2)) * x + e * LN2)


@compiled(inline="always")
def _cos_sin(w):
    y = f32(i32(i32(w << i32(1)) | i32(1))) * TO_SIGNED_UNIT
    y2 = y * y
    sin = ((((S4 * y2 + S3) * y2 + S2) * y2 + S1) * y2 + S0) * y
    cos = (((C4 * y2 + C3) * y2 + C2) * y2 + C1) * y2 + C0
    return _float(i32(_bits(cos) ^ i32(w & SIGN_BIT))), sin


@compiled()
def _normals(a, b, z, n):
    for j in range(n):
        r = _radius(a[j])
        cos, sin = _cos_sin(b[j])
        z[2 * j] = r * cos
        z[2 * j + 1] = r * sin


@compiled()
def _scale_and_add(x, scale, z, sigma):
    for i in range(x.size):  # scale 1 changes no bit and costs next to nothing
        x[i] = x[i] * scale + sigma * z[i]


@compiled()
def _scale(x, scale):
    for i in range(x.size):
        x[i] *= scale


@compiled()
def _batch_end(index, end):
    """Return the blocks [block, stop) that hold elements index .. end - 1, cut where a batch ends."""
    block = index // 4
    return block, min((block // BATCH + 1) * BATCH, (end + 3) // 4)


@compiled()
def _add_run(x, scale, key, t, sigma, index, a, b, z):
    """Set x[i] to scale x[i] + sigma z(key, t, index + i), rounded after every operation."""
    end = index + x.size
    done = 0
    while done < x.size:
        block, stop = _batch_end(index + done, end)
        n = (stop - block + ALIGN - 1) // ALIGN * ALIGN
        _words(key, t, u64(block), n, a, b)
        _normals(a.view(np.int32), b.view(np.int32), z, 2 * n)
        skip = index + done - 4 * block
        size = min(x.size - done, 4 * (stop - block) - skip)
        _scale_and_add(x[done : done + size], scale, z[skip : skip + size], sigma)
        done += size


@compiled()
def add_runs(runs, t, sigma, scale, lo, hi):
    """Add noise to runs (address, length, first element, key); of all laid end to end, to elements lo .. hi - 1.

    sigma and scale have one element each, as arrays tell the kernel the precision of the runs.
    """
    a, b, z = np.empty(BATCH, np.uint64), np.empty(BATCH, np.uint64), np.empty(4 * BATCH, np.float32)
    signed = runs.view(np.int64)
    begin = 0
    for s in range(len(runs)):
        length = signed[s, 1]
        i = max(lo - begin, 0)
        n = min(hi - begin, length) - i
        begin += length
        if n > 0:
            x = carray(_pointer(runs[s, 0] + u64(i * sigma.itemsize)), n, sigma.dtype)
            _add_run(x, scale[0], runs[s, 3], t, sigma[0], signed[s, 2] + i, a, b, z)


@compiled()
def square_sum(runs, like):
    """Return the sum of squares of runs (address, length, ...) of the precision of the array `like`, in float64."""
    signed = runs.view(np.int64)
    total = 0.0
    for s in range(len(runs)):
        x = carray(_pointer(runs[s, 0]), signed[s, 1], like.dtype)
        n = x.size // 8 * 8
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0  # independent sums fill the lanes of a vector
        for i in range(0, n, 8):
            s0 += np.float64(x[i]) * np.float64(x[i])
            s1 += np.float64(x[i + 1]) * np.float64(x[i + 1])
            s2 += np.float64(x[i + 2]) * np.float64(x[i + 2])
            s3 += np.float64(x[i + 3]) * np.float64(x[i + 3])
            s4 += np.float64(x[i + 4]) * np.float64(x[i + 4])
            s5 += np.float64(x[i + 5]) * np.float64(x[i + 5])
            s6 += np.float64(x[i + 6]) * np.float64(x[i + 6])
            s7 += np.float64(x[i + 7]) * np.float64(x[i + 7])
        for i in range(n, x.size):
            s0 += np.float64(x[i]) * np.float64(x[i])
        total += ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
    return total


@functools.cache
def adder(dtype: torch.dtype) -> Callable[[int, int, int, int, float], None]:
    """Return the kernel for one run from element 0 on: (address, length, key, t, sigma).

    Numba takes numbers faster than arrays, and for a known signature faster still; for a tensor of a few
    hundred elements that is most of the time.
    """
    real = {torch.float32: types.float32, torch.float64: types.float64}[dtype]
    word = types.uint64

    @compiled(signature=types.void(word, types.int64, word, word, real))
    def add(address, length, key, t, sigma):
        a, b, z = np.empty(BATCH, np.uint64), np.empty(BATCH, np.uint64), np.empty(4 * BATCH, np.float32)
        _add_run(carray(_pointer(address), length, real), real(1), key, t, sigma, 0, a, b, z)

    return add


@compiled()
def add_rows(runs, t, sigma, scale, length, lo, hi):
    """Scale rows of runs and add noise; of all rows laid end to end, each `length` long, to elements lo .. hi - 1."""
    for p in range(lo // length, (hi - 1) // length + 1):
        begin, end = max(lo - p * length, 0), min(hi - p * length, length)
        if sigma[p] != 0:
            add_runs(runs[p], t[p], sigma[p : p + 1], scale[p : p + 1], begin, end)
        elif scale[p] != 1:
            _scale(carray(_pointer(runs[p, 0, 0]), length, scale.dtype)[begin:end], scale[p])


@compiled()
def _fill_kept(out, words, last, value, zero):
    for i in range(out.size):
        out[i] = value if words[i] <= last else zero


@compiled()
def fill_masks(address, length, keys, t, last, value, lo, hi):
    """Fill rows of memory with masks; of all rows laid end to end, elements lo .. hi - 1."""
    a, b, w = np.empty(BATCH, np.uint64), np.empty(BATCH, np.uint64), np.empty(2 * BATCH, np.uint64)
    for p in range(lo // length, (hi - 1) // length + 1):
        i, end = max(lo - p * length, 0), min(hi - p * length, length)
        out = carray(_pointer(address[p]), length, value.dtype)
        while i < end:
            block, stop = _batch_end(i, end)
            _words(keys[p], t[p], u64(block), (stop - block + ALIGN - 1) // ALIGN * ALIGN, a, b)
            for j in range(stop - block):
                w[2 * j] = a[j]
                w[2 * j + 1] = b[j]
            size = min(end, 4 * stop) - i
            words = w.view(np.uint32)[i - 4 * block :]
            _fill_kept(out[i : i + size], words, last[p], value[p], value[p] - value[p])
            i += size


@compiled()
def fill_words(out, keys, t):
    """Fill rows with the words of their streams."""
    blocks = (out.shape[1] + 3) // 4
    n = (blocks + ALIGN - 1) // ALIGN * ALIGN
    a, b = np.empty(n, np.uint64), np.empty(n, np.uint64)
    for p in range(len(keys)):
        _words(keys[p], t[p], u64(0), n, a, b)
        for i in range(out.shape[1]):
            pair = a[i // 4] if i % 4 < 2 else b[i // 4]
            out[p, i] = pair & LOW if i % 2 == 0 else pair >> HIGH
