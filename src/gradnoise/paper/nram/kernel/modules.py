"""The modules and their gradients as Numba code, a block of machines at a time; `machine.modules` defines them.

Places i, j, o, k, n count vectors: where the distribution of an argument, an output or a gradient begins.
"""

from __future__ import annotations

from gradnoise.paper.nram.kernel.lanes import fma, jit, larger, load, splat, store
from gradnoise.paper.nram.machine.modules_table import TABLE

READ, WRITE = TABLE["read"].code, TABLE["write"].code
INC, DEC = TABLE["inc"].code, TABLE["dec"].code
ADD, SUB = TABLE["add"].code, TABLE["sub"].code
LESS, LESS_OR_EQUAL, EQUAL = TABLE["less-than"].code, TABLE["less-or-equal"].code, TABLE["equality-test"].code
MIN, MAX = TABLE["min"].code, TABLE["max"].code


# --- one module ---------------------------------------------------------------------------------------


@jit
def apply(code, constant, m, a, i, v, cells, x, o):
    """Compute the output x of a module from its arguments a, the second one behind the first.

    `cells` is where the memory v stands; WRITE puts the next version behind it.
    """
    j = i + m
    if constant >= 0:
        for c in range(m):
            store(x, o + c, splat(1.0 if c == constant else 0.0))
    elif code == READ:
        read(a, i, v, cells, m, x, o)
    elif code == WRITE:
        write(a, i, j, v, cells, m, x, o)
    elif code == INC:
        shift(a, i, m - 1, m, x, o)
    elif code == DEC:
        shift(a, i, 1, m, x, o)
    elif code == ADD:
        convolve(a, i, a, j, m, x, o)
    elif code == SUB:  # sum_b b_b a_(c + b)
        correlate(a, i, a, j, 1, m, x, o)
    elif code in (MIN, MAX):
        extreme(code, a, i, a, j, m, x, o)
    else:
        truth(compare(code, a, i, a, j, m), m, x, o)


@jit
def unapply(code, m, a, i, v, cells, g, gv, d):
    """Turn the gradient g of a module's output into those of its arguments, d, which lie as the arguments do.

    gv, the gradient of the memory after the module, becomes that of the memory before it.
    """
    j = i + m
    if code == READ:
        unread(a, i, v, cells, m, g, gv, d)
    elif code == WRITE:
        unwrite(a, i, j, v, cells, m, g, gv, d)
    elif code == INC:
        shift(g, 0, 1, m, d, i)
    elif code == DEC:
        shift(g, 0, m - 1, m, d, i)
    elif code == ADD:
        correlate(g, 0, a, j, 1, m, d, i)
        correlate(g, 0, a, i, 1, m, d, j)
    elif code == SUB:
        correlate(g, 0, a, j, -1, m, d, i)
        correlate(a, i, g, 0, 1, m, d, j)
    elif code in (MIN, MAX):
        unextreme(code, a, i, a, j, m, g, d, i, j)
    else:
        uncompare(code, a, i, a, j, m, load(g, 1) - load(g, 0), d, i, j)


# --- memory -------------------------------------------------------------------------------------------


@jit
def read(a, i, v, cells, m, x, o):
    """Compute x_c = sum_p a_p v_pc."""
    for c in range(m):
        value = splat(0.0)
        for p in range(m):
            value = fma(load(a, i + p), load(v, cells + p * m + c), value)
        store(x, o + c, value)


@jit
def unread(a, i, v, cells, m, g, gv, d):
    """Compute the gradient d of the pointer, and add to that of the memory."""
    for p in range(m):
        y, pointer = splat(0.0), load(a, i + p)
        for c in range(m):
            k, gc = p * m + c, load(g, c)
            y = fma(gc, load(v, cells + k), y)
            store(gv, k, fma(pointer, gc, load(gv, k)))
        store(d, i + p, y)


@jit
def write(a, i, j, v, cells, m, x, o):
    """Overwrite cell p of the memory, in the version that follows, with probability a_p; the output is the value."""
    for p in range(m):
        keep = splat(1.0) - load(a, i + p)
        for c in range(m):
            k = cells + p * m + c
            store(v, k + m * m, fma(load(a, i + p), load(a, j + c), keep * load(v, k)))
    for c in range(m):
        store(x, o + c, load(a, j + c))


@jit
def unwrite(a, i, j, v, cells, m, g, gv, d):
    """Compute the gradients of the pointer and the value, and that of the memory before from that after."""
    for c in range(m):
        store(d, j + c, load(g, c))
    for p in range(m):
        y, pointer = splat(0.0), load(a, i + p)
        keep = splat(1.0) - pointer
        for c in range(m):
            k = p * m + c
            gk = load(gv, k)
            y = fma(gk, load(a, j + c) - load(v, cells + k), y)
            store(d, j + c, fma(pointer, gk, load(d, j + c)))
            store(gv, k, keep * gk)
        store(d, i + p, y)


# --- arithmetic ---------------------------------------------------------------------------------------


@jit
def shift(a, i, by, m, x, o):
    """Compute x_c = a_((c + by) mod m)."""
    for c in range(m):
        store(x, o + c, load(a, i + (c + by) % m))


@jit
def convolve(a, i, b, j, m, x, o):
    """Compute x_c = sum_k a_k b_((c - k) mod m): addition."""
    for c in range(m):
        y = splat(0.0)
        for k in range(m):
            y = fma(load(a, i + k), load(b, j + (c - k if k <= c else c - k + m)), y)
        store(x, o + c, y)


@jit
def correlate(g, o, b, j, sign, m, x, i):
    """Compute x_k = sum_d b_d g_((k + sign d) mod m).

    For sign 1 that is the distribution of G - B, and what an addition hands back to an argument; for sign -1 what
    a subtraction hands back to its first argument.
    """
    for k in range(m):
        y = splat(0.0)
        for d in range(m):
            c = k + sign * d
            y = fma(load(b, j + d), load(g, o + (c - m if c >= m else c + m if c < 0 else c)), y)
        store(x, i + k, y)


@jit
def extreme(code, a, i, b, j, m, x, o):
    """Compute the distribution of the larger or the smaller of two numbers."""
    fa, fb = splat(0.0), splat(0.0)
    for k in range(m):
        c = k if code == MAX else m - 1 - k
        pa, pb = load(a, i + c), load(b, j + c)
        fb = fb + pb
        store(x, o + c, fma(pa, fb, pb * fa))
        fa = fa + pa


@jit
def unextreme(code, a, i, b, j, m, g, d, k, n):
    """Compute the gradients of the arguments of `extreme`, d from k and from n on."""
    fa, fb = splat(0.0), splat(0.0)
    for step in range(m):
        c = step if code == MAX else m - 1 - step
        fb = fb + load(b, j + c)
        store(d, k + c, load(g, c) * fb)
        store(d, n + c, load(g, c) * fa)
        fa = fa + load(a, i + c)
    sa, sb = splat(0.0), splat(0.0)
    for step in range(m):
        c = m - 1 - step if code == MAX else step
        gc = load(g, c)
        sa = fma(gc, load(a, i + c), sa)
        store(d, k + c, load(d, k + c) + sb)
        store(d, n + c, load(d, n + c) + sa)
        sb = fma(gc, load(b, j + c), sb)


# --- comparisons --------------------------------------------------------------------------------------


@jit
def compare(code, a, i, b, j, m):
    """Return P(A < B), P(A <= B) or P(A = B)."""
    q, below = splat(0.0), splat(0.0)
    for c in range(m):
        pa, pb = load(a, i + c), load(b, j + c)
        if code == EQUAL:
            q = fma(pa, pb, q)
        elif code == LESS:
            q = fma(pb, below, q)
            below = below + pa
        else:
            below = below + pa
            q = fma(pb, below, q)
    return q


@jit
def uncompare(code, a, i, b, j, m, dq, d, k, n):
    """Compute the gradients of the arguments of `compare`, d from k and from n on, from that of the probability."""
    below, above = splat(0.0), splat(0.0)
    for c in range(m):
        e = m - 1 - c
        if code == EQUAL:
            store(d, k + c, dq * load(b, j + c))
            store(d, n + c, dq * load(a, i + c))
        elif code == LESS:
            store(d, n + c, dq * below)
            store(d, k + e, dq * above)
            below, above = below + load(a, i + c), above + load(b, j + e)
        else:
            below, above = below + load(a, i + c), above + load(b, j + e)
            store(d, n + c, dq * below)
            store(d, k + e, dq * above)


@jit
def truth(q, m, x, o):
    """Compute (1 - q) e_0 + q e_1."""
    q = splat(0.0) - larger(splat(0.0) - q, splat(-1.0))  # at most 1
    store(x, o, splat(1.0) - q)
    store(x, o + 1, q)
    for c in range(2, m):
        store(x, o + c, splat(0.0))


# --- sums ---------------------------------------------------------------------------------------------


@jit
def normalise(x, o, m):
    """Divide a distribution by its sum."""
    total = splat(0.0)
    for c in range(m):
        total = total + load(x, o + c)
    scale = splat(1.0) / larger(total, splat(1e-12))
    for c in range(m):
        store(x, o + c, load(x, o + c) * scale)
