"""The controllers and the output layer as Numba code, sixteen machines at a time: see `controller` and `lanes`.

All machines of a block have the same weights, which lie flat, one matrix [out, in] and its bias after the other.
What a controller works on lies in one array, counted in vectors: inputs z [R], then for the LSTM y, h [H each],
gates i, f, o, u [4 H], c, new c, tanh of it, new h [H each]; for the MLP the two hidden layers [H each]. Gradients
lie in a second array of the same layout.
"""

from __future__ import annotations

from gradnoise.paper.nram.kernel.lanes import cut, exp, fma, jit, larger, load, passed, splat, spread, store

LSTM, MLP = 0, 1


@jit
def linear(w, at, inputs, outputs, x, i, y, o):
    """y = W x + b; four outputs at a time, so that an input is loaded once for them."""
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
def linear_backward(w, at, inputs, outputs, d, o, g, i):
    """g = W^T d."""
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
def relu(q, at, n):
    """In place."""
    for k in range(at, at + n):
        store(q, k, larger(load(q, k), splat(0.0)))


@jit
def relu_backward(q, d, at, n):
    """In place, gradient d of the outputs q."""
    for k in range(at, at + n):
        store(d, k, passed(load(q, k), load(d, k)))


@jit
def sigmoid(x):
    """1 / (1 + e^-x)."""
    return splat(1.0) / (splat(1.0) + exp(cut(splat(0.0) - x, splat(80.0))))


@jit
def tanh(x):
    """2 sigmoid(2 x) - 1."""
    return fma(splat(2.0), sigmoid(x + x), splat(-1.0))


@jit
def output_at(kind, r, n):
    """Where the new h is, which the output layer reads."""
    return r + 9 * n if kind == LSTM else r + n


@jit
def weights_of(kind, r, n):
    """Number of weights before those of the output layer."""
    return n * (r + 1) + (4 * n * (2 * n + 1) if kind == LSTM else n * (n + 1))


@jit
def forward(kind, w, at, r, n, q):
    """From inputs z (and for the LSTM h and c) to all the rest."""
    linear(w, at, r, n, q, 0, q, r)
    relu(q, r, n)
    at += n * (r + 1)
    if kind == MLP:
        linear(w, at, n, n, q, r, q, r + n)
        relu(q, r + n, n)
        return
    gates, c = r + 2 * n, r + 6 * n
    linear(w, at, 2 * n, 4 * n, q, r, q, gates)
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
def backward(kind, w, at, r, n, q, d):
    """From the gradient d of the new h (and for the LSTM of the new c) to all the rest; that of c replaces it."""
    second = at + n * (r + 1)
    if kind == MLP:
        relu_backward(q, d, r + n, n)
        linear_backward(w, second, n, n, d, r + n, d, r)
    else:
        gates, c = r + 2 * n, r + 6 * n
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
        linear_backward(w, second, 2 * n, 4 * n, d, gates, d, r)
    relu_backward(q, d, r, n)
    linear_backward(w, at, r, n, d, r, d, 0)
