"""What lies between the convolutions of a layer, one pass over memory each, compiled by Numba.

Arrays are [cells, maps]; where a convolution gave more than m maps, the others are not looked at. Every inner loop
writes one array only: with more of them LLVM would have to tell too many apart to make vectors of the loop. Numbers
that are not finite stay so.
"""

from __future__ import annotations

from gradnoise.noise.gaussian import compiled


@compiled()
def _cut(x, scale, shift, zero, one):
    """Return 1.2 x - 0.1, but at least 0 and at most 1."""
    y = scale * x - shift
    y = zero if y < zero else y
    return one if y > one else y


@compiled()
def _slope(gate, scale, shift, zero, one):
    """Return the slope of the gate 1.2 sigmoid - 0.1 by its argument, 0 where it is cut off."""
    sigmoid = (gate + shift) / scale
    slope = scale * (sigmoid - sigmoid * sigmoid)
    return zero if gate <= zero or gate >= one else slope


@compiled()
def open_gates(gates, s, kept):
    """Turn sigmoids [cells, 2m] into gates, and write what the reset gates keep of the state s to `kept`."""
    number, m = s.dtype.type, s.shape[1]
    scale, shift, zero, one = number(1.2), number(0.1), number(0), number(1)
    for i in range(s.shape[0]):
        for j in range(m):
            gates[i, m + j] = _cut(gates[i, m + j], scale, shift, zero, one)
        for j in range(m):
            gates[i, j] = _cut(gates[i, j], scale, shift, zero, one)
        for j in range(m):
            kept[i, j] = gates[i, j] * s[i, j]


@compiled()
def mix(gates, half, s, out):
    """Write the next state u s + (1 - u) c to `out`; c = tanh x is given as half = sigmoid 2x, (c + 1) / 2."""
    number, m = s.dtype.type, s.shape[1]
    two, one = number(2), number(1)
    for i in range(s.shape[0]):
        for j in range(m):
            c = two * half[i, j] - one
            out[i, j] = c + gates[i, m + j] * (s[i, j] - c)


@compiled()
def mix_backward(g, gates, half, s, by_gates, by_candidate, kept):
    """Go back through `mix` and tanh: the gradient g by the next state becomes that by the state.

    Args:
        g: gradient by the next state; afterwards by the state, as far as the update gate lets it through.
        gates, half, s: of the way forward.
        by_gates: its second half becomes the gradient by what the update gates are functions of.
        by_candidate: becomes the gradient by x.
        kept: becomes what the reset gates keep of the state, once more.
    """
    number, m = s.dtype.type, s.shape[1]
    scale, shift, zero, one, two = number(1.2), number(0.1), number(0), number(1), number(2)
    for i in range(s.shape[0]):
        for j in range(m):
            c = two * half[i, j] - one
            by_gates[i, m + j] = g[i, j] * (s[i, j] - c) * _slope(gates[i, m + j], scale, shift, zero, one)
        for j in range(m):
            c = two * half[i, j] - one
            by_candidate[i, j] = (g[i, j] - g[i, j] * gates[i, m + j]) * (one - c * c)
        for j in range(m):
            kept[i, j] = gates[i, j] * s[i, j]
        for j in range(m):
            g[i, j] *= gates[i, m + j]


@compiled()
def gates_backward(g, by_kept, gates, s, by_gates):
    """Go back through the reset gates: add to g, and write the first half of `by_gates`."""
    number, m = s.dtype.type, s.shape[1]
    scale, shift, zero, one = number(1.2), number(0.1), number(0), number(1)
    for i in range(s.shape[0]):
        for j in range(m):
            by_gates[i, j] = by_kept[i, j] * s[i, j] * _slope(gates[i, j], scale, shift, zero, one)
        for j in range(m):
            g[i, j] += by_kept[i, j] * gates[i, j]


@compiled()
def add(g, x):
    """Add the first m maps of x to g."""
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            g[i, j] += x[i, j]
