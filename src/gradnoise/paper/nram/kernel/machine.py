"""Machines from the first time step to the last, and back, as Numba code.

Machines go sixteen at a time through all T steps, those of a replica with its weights; what a block works on stays
in the second-level cache. Of each step only the state before it is stored: registers, memory, and what the
controller keeps. On the way back a step runs forward once more from there.
"""

from __future__ import annotations

from gradnoise.paper.nram.kernel import circuit, controllers
from gradnoise.paper.nram.kernel.controllers import LSTM, output_at, weights_of
from gradnoise.paper.nram.kernel.lanes import (
    SQUARE,
    WIDTH,
    fma,
    jit,
    load,
    peek,
    poke,
    splat,
    spread,
    store,
    transpose,
)


@jit
def state_size(kind, r, m, n):
    """Vectors that are stored of a block and step."""
    return r * m + m * m + (2 * n if kind == LSTM else 0)


@jit
def copy(x, i, y, o, count):
    """Vectors o.. of y become vectors i.. of x."""
    for k in range(count):
        store(y, o + k, load(x, i + k))


@jit
def fill(x, i, count, number):
    """Vectors i.. of x become `number`."""
    for k in range(count):
        store(x, i + k, splat(number))


@jit
def rows_of(x, i, features, count, rows):
    """Features, vectors i.. of x, as a matrix [machines, features rounded up to eights]; returns its columns."""
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
def accumulate(x, i, inputs, d, o, outputs, count, weights, at, left, right):
    """Add the gradients of a layer's weights [out, in] and bias, from `at` on, over the machines of a block.

    `left` and `right` are room for d and x with a machine to a row.
    """
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


@jit
def step(kind, codes, r, m, n, size, fix, w, at, z, weights, x, a, v, y, q):
    """One time step of a block; returns the entropy. z gets the log weights of all choices, then the logit to stop."""
    for k in range(r):
        store(q, k, load(x, k * m))
    controllers.forward(kind, w, at, r, n, q)
    controllers.linear(w, at + weights_of(kind, r, n), n, size + 1, q, output_at(kind, r, n), z, 0)
    return circuit.forward(codes, r, m, fix, z, weights, x, a, v, y)


@jit
def run(
    kind, codes, r, m, n, size, fix, steps, replicas, batch, cell, cells, keep, w, memory,
    stop, answers, entropy, saved, z, weights, x, a, v, y, q, e,
):  # fmt: skip
    """Run all machines; arrays are flat.

    Args:
        kind: of controller.
        codes: of modules in order.
        r, m, n, size: R, M, H, number of logits without that to stop.
        fix: whether to renormalise.
        steps: T.
        replicas, batch: P, B.
        cell, cells: the first output cell, and how many there are, O.
        keep: whether to store what `run_backward` needs.
        w: weights [P, N].
        memory: at the start [P, B, M, M].
        stop: f_t, the probabilities to stop [P, B, T], goes out.
        answers: output cells after each step [P, B, T, O, M], goes out.
        entropy: of all choices [P, B, T], goes out.
        saved: goes out where `keep`: `state_size` vectors for each replica, block and step.
        z, weights, x, a, v, y, q, e: scratch.
    """
    blocks, per, last = -(-batch // WIDTH), len(w) // replicas, 0
    for code in codes:
        last += m * m if code == circuit.WRITE else 0
    h, c = r + n, r + 6 * n
    for block in range(replicas * blocks):
        p, first = block // blocks, block % blocks * WIDTH
        count, first = min(WIDTH, batch - first), block // blocks * batch + first
        for k in range(m * m):
            for lane in range(WIDTH):  # lanes without a machine repeat the last one
                v[k * WIDTH + lane] = memory[(first + min(lane, count - 1)) * m * m + k]
        fill(x, 0, r * m, 0.0)
        for k in range(r):
            store(x, k * m, splat(1.0))
        if kind == LSTM:
            fill(q, h, n, 0.0)
            fill(q, c, n, 0.0)
        for t in range(steps):
            if keep:
                at = (block * steps + t) * state_size(kind, r, m, n)
                copy(x, 0, saved, at, r * m)
                copy(v, 0, saved, at + r * m, m * m)
                if kind == LSTM:
                    copy(q, h, saved, at + r * m + m * m, n)
                    copy(q, c, saved, at + r * m + m * m + n, n)
            store(e, 0, step(kind, codes, r, m, n, size, fix, w, p * per, z, weights, x, a, v, y, q))
            store(z, size, controllers.sigmoid(load(z, size)))
            copy(y, 0, x, 0, r * m)
            copy(v, last, v, 0, m * m)
            if kind == LSTM:
                copy(q, c + 3 * n, q, h, n)
                copy(q, c + n, q, c, n)
            for lane in range(count):
                at = (first + lane) * steps + t
                stop[at], entropy[at] = z[size * WIDTH + lane], e[lane]
                for k in range(cells * m):
                    answers[at * cells * m + k] = v[(cell * m + k) * WIDTH + lane]


@jit
def run_backward(
    kind, codes, offsets, r, m, n, size, fix, steps, replicas, batch, cell, cells, w, saved, limits,
    g_stop, g_answers, g_entropy, gw, z, weights, x, a, v, y, q, e, d, g, gx, gv, dq, left, right,
):  # fmt: skip
    """Go back through `run`; arrays are flat.

    Args:
        kind, codes, r, m, n, size, fix, steps, replicas, batch, cell, cells, w, saved: as there.
        offsets: where the logits of each choice begin.
        limits: C1 [P].
        g_stop, g_answers, g_entropy: gradients of what went out.
        gw: gradients of the weights [P, N], goes out.
        z, weights, x, a, v, y, q, e, d, g, gx, gv, dq, left, right: scratch.
    """
    blocks, per, choice = -(-batch // WIDTH), len(w) // replicas, len(offsets) - r
    h, c, second = r + n, r + 6 * n, r + 2 * n if kind == LSTM else r + n
    out, size_in = output_at(kind, r, n), 2 * n if kind == LSTM else n
    size_second = 4 * n if kind == LSTM else n
    gw[:] = 0
    for block in range(replicas * blocks):
        p, first = block // blocks, block % blocks * WIDTH
        count, first = min(WIDTH, batch - first), block // blocks * batch + first
        fill(e, 0, 1, 0.0)
        fill(gx, 0, r * m, 0.0)
        fill(gv, 0, m * m, 0.0)
        if kind == LSTM:
            fill(dq, h, n, 0.0)
            fill(dq, c, n, 0.0)
        for back in range(steps):
            t = steps - 1 - back
            at = (block * steps + t) * state_size(kind, r, m, n)
            copy(saved, at, x, 0, r * m)
            copy(saved, at + r * m, v, 0, m * m)
            if kind == LSTM:
                copy(saved, at + r * m + m * m, q, h, n)
                copy(saved, at + r * m + m * m + n, q, c, n)
            step(kind, codes, r, m, n, size, fix, w, p * per, z, weights, x, a, v, y, q)
            f = controllers.sigmoid(load(z, size))
            store(z, size, f * (splat(1.0) - f))
            for lane in range(WIDTH):
                z[size * WIDTH + lane] *= g_stop[(first + lane) * steps + t] if lane < count else 0.0
            for lane in range(count):
                at = (first + lane) * steps + t
                e[lane] = g_entropy[at]
                for k in range(cells * m):
                    gv[(cell * m + k) * WIDTH + lane] += g_answers[at * cells * m + k]
            copy(gx, 0, d, choice * m, r * m)
            circuit.backward(codes, offsets, r, m, z, weights, x, a, v, d, g, gx, gv, load(e, 0), splat(limits[p]))
            controllers.linear_backward(w, p * per + weights_of(kind, r, n), n, size + 1, z, 0, dq, out)
            if kind == LSTM:
                for k in range(n):
                    store(dq, out + k, load(dq, out + k) + load(dq, h + k))
                copy(dq, c, dq, c + n, n)
            controllers.backward(kind, w, p * per, r, n, q, dq)
            for k in range(r):
                store(gx, k * m, load(gx, k * m) + load(dq, k))
            accumulate(q, 0, r, dq, r, n, count, gw, p * per, left, right)
            accumulate(q, r, size_in, dq, second, size_second, count, gw, p * per + n * (r + 1), left, right)
            accumulate(q, out, n, z, 0, size + 1, count, gw, p * per + weights_of(kind, r, n), left, right)
