"""Bytes of chosen examples as floats, compiled by Numba: every byte is read and every float is written once.

Examples lie anywhere in memory, and a processor guesses what is read next only within one of them. So it is told a few
examples ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import extending, types

from gradnoise.noise.gaussian import compiled

#: How many examples ahead, and how many bytes of each; of longer ones the rest is guessed.
AHEAD, MOST = 4, 4096
#: Bytes that come from memory together.
LINE = 64

intrinsic = cast(Callable[[Callable[..., Any]], Any], extending.intrinsic)


@intrinsic
def prefetch(typing: Any, x: Any, i: Any) -> Any:
    """Have element i of an array, counted from its first one, brought into the cache; nothing waits for it."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        read, keep, of_data = (ir.Constant(number, n) for n in (0, 3, 1))
        builder.call(builder.module.declare_intrinsic("llvm.prefetch", [byte], kind), [place, read, keep, of_data])
        return context.get_dummy_value()

    return types.void(x, types.int64), build


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
    last = (hi - 1) // size
    for b in range(lo // size, last + 1):
        if b + AHEAD <= last:
            for j in range(0, min(size, MOST), LINE):
                prefetch(x, rows[b + AHEAD] * size + j)
        start, stop = max(lo - b * size, 0), min(hi - b * size, size)
        source, target = x[rows[b], start:stop], out[b * size + start : b * size + stop]
        for j in range(source.size):
            target[j] = out.dtype.type(source[j]) / over
