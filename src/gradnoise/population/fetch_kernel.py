"""Bytes of chosen examples as floats, compiled by Numba: every byte is read and every float is written once."""

from __future__ import annotations

from gradnoise.noise.gaussian import compiled


@compiled()
def examples(x, rows, over, out, lo, hi):
    """Write elements lo .. hi - 1 of x[rows] / over, counted example by example.

    Args:
        x: uint8 [n, D].
        rows: int64 [B], each in 0 .. n - 1.
        over: in the precision of out.
        out: [B * D].
        lo, hi: which elements.
    """
    size = x.shape[1]
    for b in range(lo // size, (hi - 1) // size + 1):
        start, stop = max(lo - b * size, 0), min(hi - b * size, size)
        source, target = x[rows[b], start:stop], out[b * size + start : b * size + stop]
        for j in range(source.size):
            target[j] = out.dtype.type(source[j]) / over
