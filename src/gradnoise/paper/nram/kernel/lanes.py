"""Sixteen float32 numbers as one value in Numba code: a kernel written for one machine runs sixteen side by side.

LLVM's own vectoriser does little for loops of length M = 12 over arrays that might overlap. A vector type of
its own keeps sums in registers and needs no luck. Arrays are flat float32; `load(a, i)` and `store(a, i, x)`
count in vectors. Nothing mixes lanes but `transpose`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

import llvmlite.ir as ir
import numba
import numba.extending
from numba import types
from numba.core import cgutils
from numba.extending import models

from gradnoise.noise.gaussian import compiled

WIDTH = 16
SQUARE = 8
"""Side of what is transposed at once: sixteen rows would not fit into the registers of most machines."""

FLOATS, INTS = ir.VectorType(ir.FloatType(), WIDTH), ir.VectorType(ir.IntType(32), WIDTH)
LOG2E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 0.693145751953125, 1.42860682030941723e-6
ROUND = 12582912.0  # 1.5 * 2^23: adding it rounds a small number to an integer and leaves that in the low bits
LEAST = -87.0  # e^x of less is 0
EXPONENTIAL = [1.0, 1.0, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720]
LN2 = 0.6931472
SQRT_HALF_BITS = 0x3F3504F3  # sqrt(1/2) as float32
#: ln(1 + x) = x Q(x) on [sqrt(1/2) - 1, sqrt(2) - 1]: minimax in relative error, 1.7e-7.
LOGARITHM = [0.99999994, -0.50000364, 0.3333506, -0.24969909, 0.19900165, -0.1725083, 0.16222578, -0.10106894]

intrinsic = cast(Callable[[Callable[..., Any]], Any], numba.extending.intrinsic)


def jit(function: Callable[..., Any]) -> Any:
    """Compile a function of this package.

    Nothing in it allocates, so reference counts of arrays are left out: they took 4 % of the time. The cache of a
    file on disk does not see edits of the functions that it takes from other files; remove `__pycache__` then.
    """
    return compiled(_nrt=False)(function)


class Lanes(types.Type):
    """Numba's type of such a value."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = Lanes()


@numba.extending.register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, FLOATS)


def floats(x: float) -> ir.Constant:
    """Return a vector with the same number in every lane."""
    return ir.Constant(FLOATS, [float(x)] * WIDTH)


def ints(x: int) -> ir.Constant:
    """Return a vector with the same integer in every lane."""
    return ir.Constant(INTS, [x] * WIDTH)


def _operation(build: Callable[..., Any], count: int) -> Any:
    """Make an intrinsic of `build(builder, *vectors)` with `count` vectors as arguments."""

    def typed(arguments: tuple[Any, ...]) -> Any:
        if any(a is not lanes and a != lanes for a in arguments):
            return None
        return lanes(*arguments), lambda context, builder, signature, args: build(builder, *args)

    # Numba reads the number of arguments off the function
    if count == 1:
        return intrinsic(lambda typing, a: typed((a,)))
    if count == 2:
        return intrinsic(lambda typing, a, b: typed((a, b)))
    return intrinsic(lambda typing, a, b, c: typed((a, b, c)))


def _fma(b: Any, x: Any, y: Any, z: Any) -> Any:
    kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
    return b.call(cgutils.get_or_insert_function(b.module, kind, f"llvm.fma.v{WIDTH}f32"), [x, y, z])


def _larger(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.fcmp_ordered(">", y, x), y, x)


def _cut(b: Any, x: Any, limit: Any) -> Any:
    low = b.fsub(floats(0.0), limit)
    x = b.select(b.fcmp_ordered("<", x, low), low, x)  # nan stays nan
    return b.select(b.fcmp_ordered(">", x, limit), limit, x)


def _passed(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.fcmp_ordered(">", x, floats(0.0)), y, floats(0.0))


def _exp(b: Any, x: Any) -> Any:
    n = b.fadd(b.fmul(x, floats(LOG2E)), floats(ROUND))
    scale = b.bitcast(b.add(b.shl(b.bitcast(n, INTS), ints(23)), ints(127 << 23)), FLOATS)
    n = b.fsub(n, floats(ROUND))
    r = _fma(b, n, floats(-LN2_LOW), _fma(b, n, floats(-LN2_HIGH), x))
    y = floats(EXPONENTIAL[-1])
    for coefficient in reversed(EXPONENTIAL[:-1]):
        y = _fma(b, y, r, floats(coefficient))
    return b.select(b.fcmp_ordered("<", x, floats(LEAST)), floats(0.0), b.fmul(y, scale))


def _log(b: Any, x: Any) -> Any:
    bits, root = b.bitcast(x, INTS), ints(SQRT_HALF_BITS)
    exponent = b.ashr(b.sub(bits, root), ints(23))
    m = b.fsub(b.bitcast(b.sub(bits, b.shl(exponent, ints(23))), FLOATS), floats(1.0))
    y = floats(LOGARITHM[-1])
    for coefficient in reversed(LOGARITHM[:-1]):
        y = _fma(b, y, m, floats(coefficient))
    return _fma(b, b.sitofp(exponent, FLOATS), floats(LN2), b.fmul(y, m))


fma = _operation(_fma, 3)
larger = _operation(_larger, 2)
cut = _operation(_cut, 2)
passed = _operation(_passed, 2)
exp = _operation(_exp, 1)
log = _operation(_log, 1)

for _operator, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"),
                                (operator.truediv, "fdiv")):  # fmt: skip

    def _register(function: Any, instruction: str) -> None:
        build = _operation(lambda b, x, y: getattr(b, instruction)(x, y), 2)

        @numba.extending.overload(function, inline="always")
        def _(x, y):  # type: ignore[no-untyped-def]
            return (lambda x, y: build(x, y)) if x == lanes and y == lanes else None

    _register(_operator, _instruction)


def _repeated(builder: Any, number: Any) -> Any:
    first = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ints(0))


@intrinsic
def splat(typing: Any, x: Any) -> Any:
    """Return a vector with a number in every lane."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _repeated(builder, context.cast(builder, args[0], signature.args[0], types.float32))

    return lanes(x), build


def _pointer(context: Any, builder: Any, kind: Any, array: Any, element: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [element]), FLOATS.as_pointer())


def _vector(context: Any, builder: Any, kind: Any, array: Any, number: Any) -> Any:
    return _pointer(context, builder, kind, array, builder.mul(number, ir.Constant(number.type, WIDTH)))


def _loading(place: Callable[..., Any]) -> Any:
    def typed(typing: Any, a: Any, i: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(place(context, builder, signature.args[0], *args), align=4)

        return lanes(a, types.int64), build

    return intrinsic(typed)


def _storing(place: Callable[..., Any]) -> Any:
    def typed(typing: Any, a: Any, i: Any, x: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[2], place(context, builder, signature.args[0], *args[:2]), align=4)
            return context.get_dummy_value()

        return types.void(a, types.int64, x), build

    return intrinsic(typed)


load, store = _loading(_vector), _storing(_vector)
"""load(a, i): vector number i of an array; store(a, i, x) sets it."""
peek, poke = _loading(_pointer), _storing(_pointer)
"""The same for the sixteen numbers that begin with number i."""


@intrinsic
def spread(typing: Any, a: Any, i: Any) -> Any:
    """Return a vector with number i of an array in every lane."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return _repeated(builder, builder.load(builder.gep(data, [args[1]]), align=4))

    return lanes(a, types.int64), build


@intrinsic
def transpose(typing: Any, a: Any, i: Any, row: Any, b: Any, j: Any, column: Any) -> Any:
    """Set b[j + k * column + l] = a[i + l * row + k] for k, l = 0..7; places and distances count in numbers."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, i, row, target, j, column = args
        kind, integers = ir.VectorType(ir.FloatType(), SQUARE), ir.VectorType(ir.IntType(32), SQUARE)

        def at(which: Any, array: Any, start: Any, distance: Any, n: int) -> Any:
            place = builder.add(start, builder.mul(distance, ir.Constant(distance.type, n)))
            return builder.bitcast(_pointer(context, builder, which, array, place), kind.as_pointer())

        rows = [builder.load(at(signature.args[0], source, i, row, n), align=4) for n in range(SQUARE)]
        for k in (1, 2, 4):
            low = ir.Constant(integers, [SQUARE + n - k if n & k else n for n in range(SQUARE)])
            high = ir.Constant(integers, [SQUARE + n if n & k else n + k for n in range(SQUARE)])
            for n in range(SQUARE):
                if not n & k:
                    x, y = rows[n], rows[n + k]
                    rows[n], rows[n + k] = builder.shuffle_vector(x, y, low), builder.shuffle_vector(x, y, high)
        for n in range(SQUARE):
            builder.store(rows[n], at(signature.args[3], target, j, column, n), align=4)
        return context.get_dummy_value()

    i8 = types.int64
    return types.void(a, i8, i8, b, i8, i8), build
