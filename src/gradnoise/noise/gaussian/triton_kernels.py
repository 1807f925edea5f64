"""Triton kernels: the mapping and what writes it to memory, equal to `reference` bit for bit.

A program writes up to `size` neighbours in memory, whole blocks of their stream but for the two ends. Products and
sums are kept apart (launches forbid fused multiply-add) and roots are correctly rounded.
"""

from __future__ import annotations

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

from gradnoise.noise.gaussian import constants

M0, M1, W0, W1 = (tl.constexpr(v) for v in (constants.M0, constants.M1, constants.W0, constants.W1))
ROUNDS = tl.constexpr(constants.ROUNDS)
Q0, Q1, Q2, Q3, Q4, Q5, Q6, Q7 = (tl.constexpr(float(v)) for v in constants.LOG)
S0, S1, S2, S3, S4 = (tl.constexpr(float(v)) for v in constants.SIN)
C0, C1, C2, C3, C4 = (tl.constexpr(float(v)) for v in constants.COS)
LN2 = tl.constexpr(float(constants.LN2))
SQRT_HALF_BITS, MANTISSA_BITS = tl.constexpr(constants.SQRT_HALF_BITS), tl.constexpr(constants.MANTISSA_BITS)
SIGN_BIT = tl.constexpr(constants.SIGN_BIT)
TO_UNIT, TO_SIGNED_UNIT = tl.constexpr(2.0**-32), tl.constexpr(2.0**-31)
TWO_32 = tl.constexpr(2.0**32)


@triton.jit
def _words(block, t, key):
    """Draw the Philox4x32-10 words of blocks; all arguments int64, the words uint32."""
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
def _interleaved(a, b, c, d):
    """Lay out a[0], b[0], c[0], d[0], a[1], ... as the elements of blocks follow each other."""
    return tl.interleave(tl.interleave(a, c), tl.interleave(b, d))


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
def _normals(block, t, key):
    """Draw the normals of blocks, four each."""
    w0, w1, w2, w3 = _words(block, t, key)
    r0, r1 = _radius(w0), _radius(w1)
    cos0, sin0 = _cos_sin(w2)
    cos1, sin1 = _cos_sin(w3)
    return _interleaved(r0 * cos0, r0 * sin0, r1 * cos1, r1 * sin1)


@triton.jit
def _rounded(x, dtype: tl.constexpr):
    if x.dtype == dtype:
        return x
    else:
        return x.to(dtype, fp_downcast_rounding="rtne")


@triton.jit
def _scale_and_add(
    address, begin, length, first, key, t, scale, sigma, dtype: tl.constexpr, work: tl.constexpr, size: tl.constexpr
):
    """Scale a piece of a run and add noise, in the precision `work`, that of scale and sigma.

    The piece is elements begin .. begin + size - 1 of the run, counted from the first element of the block in which the
    run begins: element `first` of the stream, which lies at `address`. The run ends after `length` elements.
    """
    skip = first % 4  # elements of the run's first block that come before it
    address += (begin - skip) * (dtype.primitive_bitwidth // 8)
    z = _normals((first // 4 + begin // 4) + tl.arange(0, size // 4), t, key).to(work)
    place = tl.arange(0, size)
    low = tl.maximum(skip - begin, 0).to(tl.int32)
    high = tl.minimum(skip + length - begin, size).to(tl.int32)
    if (low == 0) & (high == size) & (address % 16 == 0):
        # The compiler now loads and stores whole vectors, and each thread those elements that it drew noise for.
        memory = tl.multiple_of(address.to(tl.pointer_type(dtype)), 16) + place
        x = tl.load(memory).to(work)
        tl.store(memory, _rounded(x * scale + sigma * z, dtype))
    else:
        memory = address.to(tl.pointer_type(dtype)) + place
        inside = (place >= low) & (place < high)
        x = tl.load(memory, mask=inside, other=0.0).to(work)
        tl.store(memory, _rounded(x * scale + sigma * z, dtype), mask=inside)


@triton.jit
def add_parts(table, programs, scale, dtype: tl.constexpr, work: tl.constexpr, size: tl.constexpr):
    """Add noise to parts: program i to piece programs[i, 1] of part programs[i, 0].

    Args:
        table: int64 [1 + parts, 5]. Row 0 has t and the bits of sigma (float64); row 1 + k part k's address, length of
            its runs, key, first element, and the address of an int64 table of the runs' first elements; where that is
            0 the part is one run.
        programs: int32 [programs, 2]. A piece is `size` elements; each of several runs has pieces enough for any
            first element.
        scale: pointer to a number that sigma is multiplied by, or None.
        dtype: of the parts.
        work: the precision that noise is added in.
        size: elements of a program.
    """
    i = tl.program_id(0).to(tl.int64)
    part, piece = tl.load(programs + 2 * i).to(tl.int64), tl.load(programs + 2 * i + 1).to(tl.int64)
    t, sigma = tl.load(table), tl.load(table + 1).to(tl.float64, bitcast=True).to(work)
    if scale is not None:
        sigma *= tl.load(scale).to(work)
    row = table + 5 * (1 + part)
    address, length, key, first, starts = (
        tl.load(row),
        tl.load(row + 1),
        tl.load(row + 2),
        tl.load(row + 3),
        tl.load(row + 4),
    )
    if starts != 0:
        pieces = (length + size + 2) // size
        run = piece // pieces
        piece -= run * pieces
        first = tl.load(starts.to(tl.pointer_type(tl.int64)) + run)
        address += run * length * (dtype.primitive_bitwidth // 8)
    one = tl.full([], 1.0, work)
    _scale_and_add(address, piece * size, length, first, key, t, one, sigma, dtype, work, size)


@triton.jit
def add_rows(x, stride, pieces, count, segments, keys, t, t_stride, sigma, scale, size: tl.constexpr):
    """Scale rows and add noise, see `contract.Backend`; program i takes piece i mod count of row i // count.

    Args:
        x: pointer to a matrix.
        stride: elements from one row to the next.
        pieces: int64 [count, 4]: segment, first element within it, first and last column of the segment.
        count: pieces of a row.
        segments: of a row.
        keys: int64 [P, segments].
        t: int64 [P].
        t_stride: elements from one step to the next.
        sigma: float64 [P].
        scale: pointer to [P] numbers of the dtype of x, or None.
        size: elements of a program.
    """
    i = tl.program_id(0).to(tl.int64)
    p, piece = i // count, pieces + 4 * (i % count)
    dtype: tl.constexpr = x.dtype.element_ty
    s = tl.load(sigma + p).to(dtype)
    c = tl.full([], 1.0, dtype) if scale is None else tl.load(scale + p)
    segment, begin = tl.load(piece), tl.load(piece + 1)
    start, end = tl.load(piece + 2), tl.load(piece + 3)
    address = (x + p * stride + start).to(tl.int64)
    if s != 0:
        key, step = tl.load(keys + p * segments + segment), tl.load(t + p * t_stride)
        _scale_and_add(address, begin, end - start, begin * 0, key, step, c, s, dtype, dtype, size)
    elif c != 1:
        place = begin + tl.arange(0, size)
        memory, inside = x + p * stride + start + place, place < end - start
        tl.store(memory, tl.load(memory, mask=inside, other=0.0) * c, mask=inside)


@triton.jit
def _row_words(count, keys, t, t_stride, pieces, size: tl.constexpr):
    """Draw a program's words of its row: their places in it, which of these exist, the words, and the row."""
    i = tl.program_id(0).to(tl.int64)
    p, begin = i // pieces, i % pieces * size
    block = begin // 4 + tl.arange(0, size // 4)
    w0, w1, w2, w3 = _words(block, tl.load(t + p * t_stride), tl.load(keys + p))
    place = begin + tl.arange(0, size)
    return place, place < count, _interleaved(w0, w1, w2, w3).to(tl.int64), p


@triton.jit
def fill_words(out, stride, count, keys, t, t_stride, pieces, size: tl.constexpr):
    """Fill int64 rows of `count` elements with words, see `contract.Backend`; `pieces` programs a row."""
    place, inside, words, p = _row_words(count, keys, t, t_stride, pieces, size)
    tl.store(out + p * stride + place, words, mask=inside)


@triton.jit
def fill_masks(out, stride, count, keys, t, t_stride, pieces, keep, size: tl.constexpr):
    """Fill rows of `count` elements with masks, see `contract.Backend`; `pieces` programs a row."""
    place, inside, words, p = _row_words(count, keys, t, t_stride, pieces, size)
    share = tl.load(keep + p)
    last = tl.maximum(tl.ceil(share * TWO_32), 1.0).to(tl.int64) - 1
    # With keep 0 the one word that `last` lets through gets the value 0, too.
    value = tl.where(share > 0, 1.0 / share, 0.0).to(out.dtype.element_ty)
    tl.store(out + p * stride + place, tl.where(words <= last, value, 0.0), mask=inside)
