"""The controllers and the output layer as Numba code, a block of machines at a time: see `machine.controller`.

All machines of a block have the same weights, which lie flat, one matrix [out, in] and its bias after the other.
What a controller works on lies in one array q, counted in vectors: inputs z [R], then for the LSTM y, h [H each],
gates i, f, o, u [4 H], c, new c, tanh of it, new h [H each]; for the MLP the two hidden layers [H each]. Gradients
lie in a second array of the same layout.
"""

from __future__ import annotations

from gradnoise.paper.nram.kernel.lanes import cut, exp, fma, jit, larger, load, passed, splat, spread, store
from gradnoise.paper.nram.kernel.layout import LSTM, MLP, Layer

# --- places -------------------------------------------------------------------------------------------


@jit
def layers(shape, at):
    """Return the two layers of the controller and the output layer of a machine whose weights begin at `at`."""
    r, n = shape.registers, shape.units
    second = at + n * (r + 1)
    if shape.kind == LSTM:
        last = second + 4 * n * (2 * n + 1)
        return (
            Layer(at, r, n, 0, r),
            Layer(second, 2 * n, 4 * n, r, r + 2 * n),
            Layer(last, n, shape.logits + 1, r + 9 * n, 0),
        )
    last = second + n * (n + 1)
    return Layer(at, r, n, 0, r), Layer(second, n, n, r, r + n), Layer(last, n, shape.logits + 1, r + n, 0)


@jit
def states(shape):
    """Return where the LSTM's h, c, new c and new h are."""
    r, n = shape.registers, shape.units
    return r + n, r + 6 * n, r + 7 * n, r + 9 * n


# --- layers -------------------------------------------------------------------------------------------


@jit
def linear(w, layer, x, y):
    """Compute y = W x + b; four outputs at a time, so that an input is loaded once for them."""
    at, inputs, outputs, i, o = layer
    bias, whole = at + inputs * outputs, outputs // 4 * 4
    for f in range(0, whole, 4):
        k0, k1, k2, k3 = at + f * inputs, at + (f + 1) * inputs, at + (f + 2) * inputs, at + (f + 3) * inputs
        y0, y1, y2, y3 = spread(w, bias + f), spread(w, bias + f + 1), spread(w, bias + f + 2), spread(w, bias + f + 3)
        for k in range(inputs):
            v = load(x, i + k)
            y0, y1 = fma(spread(w, k0 + k), v, y0), fma(spread(w, k1 + k), v, y1)
            y2, y3 = fma(spread(w, k2 + k), v, y2), fma(spread(w, k3 + k), v, y3)
        store(y, o + f, y0)
        store(y, o + f + 1, y1)
        store(y, o + f + 2, y2)
        store(y, o + f + 3, y3)
    for f in range(whole, outputs):
        y0 = spread(w, bias + f)
        for k in range(inputs):
            y0 = fma(spread(w, at + f * inputs + k), load(x, i + k), y0)
        store(y, o + f, y0)


@jit
def linear_backward(w, layer, d, g):
    """Compute g = W^T d; `d` has the gradients of the layer's outputs, `g` gets those of its inputs."""
    at, inputs, outputs, i, o = layer
    whole = inputs // 4 * 4
    for k in range(0, whole, 4):
        y0, y1, y2, y3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for f in range(outputs):
            v, row = load(d, o + f), at + f * inputs + k
            y0, y1 = fma(spread(w, row), v, y0), fma(spread(w, row + 1), v, y1)
            y2, y3 = fma(spread(w, row + 2), v, y2), fma(spread(w, row + 3), v, y3)
        store(g, i + k, y0)
        store(g, i + k + 1, y1)
        store(g, i + k + 2, y2)
        store(g, i + k + 3, y3)
    for k in range(whole, inputs):
        y0 = splat(0.0)
        for f in range(outputs):
            y0 = fma(spread(w, at + f * inputs + k), load(d, o + f), y0)
        store(g, i + k, y0)


@jit
def relu(q, layer):
    """Replace the outputs of a layer by max(x, 0)."""
    for k in range(layer.y, layer.y + layer.outputs):
        store(q, k, larger(load(q, k), splat(0.0)))


@jit
def relu_backward(q, d, layer):
    """Replace the gradients d of the outputs q of a layer and its ReLU by 0 where the output is 0."""
    for k in range(layer.y, layer.y + layer.outputs):
        store(d, k, passed(load(q, k), load(d, k)))


@jit
def sigmoid(x):
    """Return 1 / (1 + e^-x)."""
    return splat(1.0) / (splat(1.0) + exp(cut(splat(0.0) - x, splat(80.0))))


@jit
def tanh(x):
    """Return 2 sigmoid(2 x) - 1."""
    return fma(splat(2.0), sigmoid(x + x), splat(-1.0))


# --- controllers --------------------------------------------------------------------------------------


@jit
def forward(shape, w, at, q):
    """Compute everything in q from the inputs z (and for the LSTM h and c)."""
    first, second, _ = layers(shape, at)
    linear(w, first, q, q)
    relu(q, first)
    linear(w, second, q, q)
    if shape.kind == MLP:
        relu(q, second)
        return
    n, gates, (_, c, _, _) = shape.units, second.y, states(shape)
    for k in range(gates, gates + n):
        i, f, o = sigmoid(load(q, k)), sigmoid(load(q, k + n)), sigmoid(load(q, k + 2 * n))
        u = tanh(load(q, k + 3 * n))
        store(q, k, i)
        store(q, k + n, f)
        store(q, k + 2 * n, o)
        store(q, k + 3 * n, u)
        new = fma(f, load(q, k + 4 * n), i * u)
        squashed = tanh(new)
        store(q, c + n + k - gates, new)
        store(q, c + 2 * n + k - gates, squashed)
        store(q, c + 3 * n + k - gates, o * squashed)


@jit
def backward(shape, w, at, q, d):
    """Compute all gradients in d from that of the new h (and for the LSTM of the new c); that of c replaces it."""
    first, second, _ = layers(shape, at)
    if shape.kind == MLP:
        relu_backward(q, d, second)
    else:
        gates_backward(shape, second.y, q, d)
    linear_backward(w, second, d, d)
    relu_backward(q, d, first)
    linear_backward(w, first, d, d)


@jit
def gates_backward(shape, gates, q, d):
    """Compute the gradients of the LSTM's gates, before their sigmoids and tanh, and of c."""
    n, (_, c, _, _) = shape.units, states(shape)
    for j in range(n):
        k = gates + j
        i, f, o, u = load(q, k), load(q, k + n), load(q, k + 2 * n), load(q, k + 3 * n)
        squashed, dh = load(q, c + 2 * n + j), load(d, c + 3 * n + j)
        dc = fma(dh * o, splat(1.0) - squashed * squashed, load(d, c + n + j))
        store(d, k, dc * u * i * (splat(1.0) - i))
        store(d, k + n, dc * load(q, c + j) * f * (splat(1.0) - f))
        store(d, k + 2 * n, dh * squashed * o * (splat(1.0) - o))
        store(d, k + 3 * n, dc * i * (splat(1.0) - u * u))
        store(d, c + j, dc * f)
