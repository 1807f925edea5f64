"""The circuit of one time step and its gradient as Numba code: see `machine.circuit`.

A block needs some 100 kB, which stay in the second-level cache from the first module to the last; going backward
the block runs forward once more instead of having stored what it did.
"""

from __future__ import annotations

from gradnoise.paper.nram.kernel.choices import collect, mix, softmax, unmix
from gradnoise.paper.nram.kernel.lanes import cut, jit, load, splat, store
from gradnoise.paper.nram.kernel.modules import WRITE, apply, normalise, unapply


@jit
def forward(shape, wires, block):
    """Run the modules of a block once, from its logits, registers and memory; return the entropy of all choices."""
    r, m, fix = shape.registers, shape.cells, shape.renormalise
    z, w, x, a, v, y = block.z, block.w, block.x, block.a, block.v, block.y
    codes, arities, drifting, constants, first = wires
    entropy = splat(0.0)
    choice, cells = 0, 0
    for q in range(len(codes)):
        n, arity, o = r + q, arities[q], (r + q) * m
        for k in range(choice, choice + arity):
            entropy = entropy + softmax(z, first[k], n, w)
            mix(w, first[k], n, x, m, a, k * m)
        apply(codes[q], constants[q], m, a, choice * m, v, cells, x, o)
        if fix and drifting[q]:
            normalise(x, o, m)
        cells += m * m if codes[q] == WRITE else 0
        choice += arity
    n = r + len(codes)
    for k in range(r):
        entropy = entropy + softmax(z, first[choice + k], n, w)
        mix(w, first[choice + k], n, x, m, y, k * m)
        if fix:
            normalise(y, k * m, m)
    return entropy


@jit
def backward(shape, wires, block, gradients, bonus, limit):
    """Go back through `forward`, after it has run.

    The gradients of the new registers come in as the last R of `gradients.d`, that of the memory as `gradients.v`,
    that of the entropy as `bonus`. Out go those of the logits, in `block.z`, of the registers and of the memory.
    """
    codes, arities, _, _, first = wires
    r, m, sources = shape.registers, shape.cells, shape.registers + len(codes)
    z, w, x, a, v = block.z, block.w, block.x, block.a, block.v
    d, g, gv, gx = gradients.d, gradients.g, gradients.v, gradients.x
    choice, cells = len(first) - r, shape.writes * m * m
    limited(d, choice * m, r * m, limit)
    for k in range(choice, len(first)):
        unmix(w, z, first[k], sources, x, m, d, k * m, bonus)
    for q in range(len(codes) - 1, -1, -1):
        code, arity = codes[q], arities[q]
        if arity == 0:
            continue
        collect(r + q, choice, first, w, d, m, g, 0)
        limited(g, 0, m, limit)
        choice -= arity
        if code == WRITE:
            cells -= m * m
            limited(gv, 0, m * m, limit)
        unapply(code, m, a, choice * m, v, cells, g, gv, d)
        limited(d, choice * m, arity * m, limit)
        for k in range(choice, choice + arity):
            unmix(w, z, first[k], r + q, x, m, d, k * m, bonus)
    for s in range(r):
        collect(s, 0, first, w, d, m, gx, s * m)


@jit
def limited(x, o, count, limit):
    """Cut `count` gradients to [-limit, limit]."""
    for c in range(o, o + count):
        store(x, c, cut(load(x, c), limit))
