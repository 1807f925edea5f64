"""Machines from the first time step to the last, and back, as Numba code.

Machines go a block at a time through all T steps, those of a replica with its weights; what a block works on stays
in the second-level cache. Of each step only the state before it is stored: registers, memory, and what the
controller keeps. On the way back a step runs forward once more from there.
"""

from __future__ import annotations

from gradnoise.paper.nram.kernel import circuit, controllers
from gradnoise.paper.nram.kernel.lanes import WIDTH, jit, load, splat, store
from gradnoise.paper.nram.kernel.layout import LSTM
from gradnoise.paper.nram.kernel.weights import accumulate

# --- forward ------------------------------------------------------------------------------------------


@jit
def run(shape, wires, keep, w, memory, out, saved, block):
    """Run all machines.

    Args:
        shape, wires: see `layout`.
        keep: whether to store what `run_backward` needs.
        w: weights [P, N].
        memory: at the start [P, B, M, M].
        out: a `Run`, goes out.
        saved: goes out where `keep`: `state_size` vectors for each replica, block and step.
        block: room, a `Block`.
    """
    size, per = state_size(shape), len(w) // shape.replicas
    for number in range(shape.replicas * blocks_of(shape)):
        p, first, count = machines_of(shape, number)
        begin(shape, memory, first, count, block)
        for t in range(shape.steps):
            if keep:
                save(shape, block, saved, (number * shape.steps + t) * size)
            store(block.e, 0, step(shape, wires, w, p * per, block))
            store(block.z, shape.logits, controllers.sigmoid(load(block.z, shape.logits)))
            go_on(shape, block)
            give(shape, block, out, first, count, t)


@jit
def step(shape, wires, w, at, block):
    """Run one time step of a block; return the entropy.

    The weights begin at `at`. Log weights of all choices go out in `block.z`, then the logit to stop.
    """
    q, x = block.q, block.x
    for k in range(shape.registers):
        store(q, k, load(x, k * shape.cells))
    controllers.forward(shape, w, at, q)
    controllers.linear(w, controllers.layers(shape, at)[2], q, block.z)
    return circuit.forward(shape, wires, block)


@jit
def begin(shape, memory, first, count, block):
    """Set all registers to 0, and the memory to what it holds at the start; lanes without a machine repeat the last."""
    m, v, x = shape.cells, block.v, block.x
    for k in range(m * m):
        for lane in range(WIDTH):
            v[k * WIDTH + lane] = memory[(first + min(lane, count - 1)) * m * m + k]
    fill(x, 0, shape.registers * m, 0.0)
    for k in range(shape.registers):
        store(x, k * m, splat(1.0))
    clear_state(shape, block.q)


@jit
def go_on(shape, block):
    """Make the new registers, memory and state of the controller those of the next step."""
    m = shape.cells
    copy(block.y, 0, block.x, 0, shape.registers * m)
    copy(block.v, shape.writes * m * m, block.v, 0, m * m)
    if shape.kind == LSTM:
        h, c, new_c, new_h = controllers.states(shape)
        copy(block.q, new_h, block.q, h, shape.units)
        copy(block.q, new_c, block.q, c, shape.units)


@jit
def give(shape, block, out, first, count, t):
    """Put what step t has made into the arrays that go out."""
    values, begins, stops = shape.outputs * shape.cells, shape.output * shape.cells, shape.logits * WIDTH
    (stop, answers, entropy), z, v, e = out, block.z, block.v, block.e
    for lane in range(count):
        at = (first + lane) * shape.steps + t
        stop[at], entropy[at] = z[stops + lane], e[lane]
        for k in range(values):
            answers[at * values + k] = v[(begins + k) * WIDTH + lane]


# --- backward -----------------------------------------------------------------------------------------


@jit
def run_backward(shape, wires, w, saved, limits, given, gw, block, gradients):
    """Go back through `run`.

    Args:
        shape, wires, w, saved: as there.
        limits: C1 [P].
        given: gradients of what went out, a `Run`.
        gw: gradients of the weights [P, N], goes out.
        block, gradients: room, a `Block` and `Gradients`.
    """
    size, per = state_size(shape), len(w) // shape.replicas
    gw[:] = 0
    for number in range(shape.replicas * blocks_of(shape)):
        p, first, count = machines_of(shape, number)
        fill(block.e, 0, 1, 0.0)
        fill(gradients.x, 0, shape.registers * shape.cells, 0.0)
        fill(gradients.v, 0, shape.cells * shape.cells, 0.0)
        clear_state(shape, gradients.q)
        for t in range(shape.steps - 1, -1, -1):
            restore(shape, saved, (number * shape.steps + t) * size, block)
            step(shape, wires, w, p * per, block)
            take(shape, given, first, count, t, block, gradients)
            step_backward(shape, wires, w, p * per, splat(limits[p]), block, gradients)
            add_weights(shape, p * per, count, gw, block, gradients)


@jit
def take(shape, given, first, count, t, block, gradients):
    """Add the gradients of what step t gave to those of its entropy, its memory and its decision to stop."""
    values, begins, stops = shape.outputs * shape.cells, shape.output * shape.cells, shape.logits * WIDTH
    (stop, answers, entropy), z, e, gv = given, block.z, block.e, gradients.v
    f = controllers.sigmoid(load(z, shape.logits))
    store(z, shape.logits, f * (splat(1.0) - f))
    for lane in range(WIDTH):
        at = (first + lane) * shape.steps + t
        z[stops + lane] *= stop[at] if lane < count else 0.0
    for lane in range(count):
        at = (first + lane) * shape.steps + t
        e[lane] = entropy[at]
        for k in range(values):
            gv[(begins + k) * WIDTH + lane] += answers[at * values + k]


@jit
def step_backward(shape, wires, w, at, limit, block, gradients):
    """Go back through `step`: the gradients of registers, memory and state become those before the step."""
    r, m, n = shape.registers, shape.cells, shape.units
    q, d, x = block.q, gradients.q, gradients.x
    copy(x, 0, gradients.d, (len(wires.first) - r) * m, r * m)
    circuit.backward(shape, wires, block, gradients, load(block.e, 0), limit)
    controllers.linear_backward(w, controllers.layers(shape, at)[2], block.z, d)
    if shape.kind == LSTM:
        h, c, new_c, new_h = controllers.states(shape)
        for k in range(n):
            store(d, new_h + k, load(d, new_h + k) + load(d, h + k))
        copy(d, c, d, new_c, n)
    controllers.backward(shape, w, at, q, d)
    for k in range(r):
        store(x, k * m, load(x, k * m) + load(d, k))


@jit
def add_weights(shape, at, count, gw, block, gradients):
    """Add the gradients of the weights, which begin at `at`, over the first `count` machines of a block."""
    first, second, last = controllers.layers(shape, at)
    left, right = gradients.left, gradients.right
    accumulate(first, block.q, gradients.q, count, gw, left, right)
    accumulate(second, block.q, gradients.q, count, gw, left, right)
    accumulate(last, block.q, block.z, count, gw, left, right)


# --- blocks and what is kept of them ------------------------------------------------------------------


@jit
def blocks_of(shape):
    """Return the number of blocks of a replica."""
    return -(-shape.batch // WIDTH)


@jit
def machines_of(shape, number):
    """Return the replica of a block, its first machine among those of all replicas, and how many it has."""
    p, begins = number // blocks_of(shape), number % blocks_of(shape) * WIDTH
    return p, p * shape.batch + begins, min(WIDTH, shape.batch - begins)


@jit
def state_size(shape):
    """Return the number of vectors that are stored of a block and step."""
    m = shape.cells
    return shape.registers * m + m * m + (2 * shape.units if shape.kind == LSTM else 0)


@jit
def save(shape, block, saved, at):
    """Store registers, memory and state of the controller as the vectors from `at` on."""
    r, m, n = shape.registers, shape.cells, shape.units
    copy(block.x, 0, saved, at, r * m)
    copy(block.v, 0, saved, at + r * m, m * m)
    if shape.kind == LSTM:
        h, c, _, _ = controllers.states(shape)
        copy(block.q, h, saved, at + r * m + m * m, n)
        copy(block.q, c, saved, at + r * m + m * m + n, n)


@jit
def restore(shape, saved, at, block):
    """Set what `save` has stored."""
    r, m, n = shape.registers, shape.cells, shape.units
    copy(saved, at, block.x, 0, r * m)
    copy(saved, at + r * m, block.v, 0, m * m)
    if shape.kind == LSTM:
        h, c, _, _ = controllers.states(shape)
        copy(saved, at + r * m + m * m, block.q, h, n)
        copy(saved, at + r * m + m * m + n, block.q, c, n)


@jit
def clear_state(shape, q):
    """Set h and c of the LSTM, or their gradients, to 0."""
    if shape.kind == LSTM:
        h, c, _, _ = controllers.states(shape)
        fill(q, h, shape.units, 0.0)
        fill(q, c, shape.units, 0.0)


@jit
def copy(x, i, y, o, count):
    """Copy `count` vectors i.. of x to o.. of y."""
    for k in range(count):
        store(y, o + k, load(x, i + k))


@jit
def fill(x, i, count, number):
    """Set `count` vectors i.. of x to a number."""
    for k in range(count):
        store(x, i + k, splat(number))
