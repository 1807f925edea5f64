"""Gradients of a layer's weights, summed over the machines of a block, as Numba code."""

from __future__ import annotations

from gradnoise.paper.nram.kernel.lanes import SQUARE, WIDTH, fma, jit, peek, poke, spread, transpose


@jit
def rows_of(x, i, features, count, rows):
    """Write vectors i.. of x as a matrix [machines, features rounded up to `SQUARE`]; return its number of columns."""
    columns = -(-features // SQUARE) * SQUARE
    for f in range(0, features, SQUARE):
        for half in range(0, count, SQUARE):
            if count - half >= SQUARE:
                transpose(x, (i + f) * WIDTH + half, WIDTH, rows, half * columns + f, columns)
                continue
            for lane in range(half, count):
                for k in range(f, f + SQUARE):
                    rows[lane * columns + k] = x[(i + k) * WIDTH + lane]
    return columns


@jit
def accumulate(layer, x, d, count, weights, left, right):
    """Add the gradients of a layer's matrix and bias over the first `count` machines of a block.

    `x` has the layer's inputs and `d` the gradients of its outputs; `left` and `right` are room for d and x.
    """
    at, inputs, outputs, i, o = layer
    rows, columns = rows_of(d, o, outputs, count, left), rows_of(x, i, inputs, count, right)
    whole = inputs // WIDTH * WIDTH
    for f in range(0, outputs - 1, 2):
        for k in range(0, whole, WIDTH):
            first = at + f * inputs + k
            y0, y1 = peek(weights, first), peek(weights, first + inputs)
            for lane in range(count):
                v = peek(right, lane * columns + k)
                y0, y1 = fma(spread(left, lane * rows + f), v, y0), fma(spread(left, lane * rows + f + 1), v, y1)
            poke(weights, first, y0)
            poke(weights, first + inputs, y1)
    for f in range(outputs):
        odd = f == outputs - 1 and outputs % 2
        for lane in range(count):
            delta = left[lane * rows + f]
            for k in range(0 if odd else whole, inputs):
                weights[at + f * inputs + k] += delta * right[lane * columns + k]
            weights[at + outputs * inputs + f] += delta
