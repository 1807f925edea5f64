"""The circuit of one time step and its gradient as Numba code, sixteen machines at a time: see `circuit`.

A block of sixteen machines needs some 100 kB, which stay in the second-level cache from the first module to the
last; going backward the block runs forward once more instead of having stored what it did. All arrays are
flat, indices count vectors. Layout of a block: logits and weights [L], sources [(R + Q) M], arguments
[19 K M], memory [(writes + 1) M M], one version after the other.
"""

from __future__ import annotations

from gradnoise.paper.nram.kernel.lanes import cut, exp, fma, jit, larger, load, log, splat, store

READ, ZERO, ONE, TWO, INC, ADD, SUB, DEC, LT, LE, EQ, MIN, MAX, WRITE = range(14)


# --- forward ------------------------------------------------------------------------------------------


@jit
def softmax(z, first, n, w):
    """Weights w of n logits; the logits are replaced by log w. Returns the entropy."""
    top = load(z, first)
    for s in range(first + 1, first + n):
        top = larger(top, load(z, s))
    total, weighted = splat(0.0), splat(0.0)
    for s in range(first, first + n):
        x = load(z, s) - top
        e = exp(x)
        store(z, s, x)
        store(w, s, e)
        total = total + e
        weighted = fma(e, x, weighted)
    scale, shift = splat(1.0) / total, log(total)
    for s in range(first, first + n):
        store(w, s, load(w, s) * scale)
        store(z, s, load(z, s) - shift)
    return shift - weighted * scale


@jit
def mix(w, first, n, x, m, out, o):
    """out_c = sum_s w_s x_sc: a choice among n sources; four c at a time, so that a weight is loaded once for them."""
    whole = m // 4 * 4
    for c in range(0, whole, 4):
        weight = load(w, first)
        y0, y1, y2, y3 = weight * load(x, c), weight * load(x, c + 1), weight * load(x, c + 2), weight * load(x, c + 3)
        for s in range(1, n):
            weight, i = load(w, first + s), s * m + c
            y0, y1 = fma(weight, load(x, i), y0), fma(weight, load(x, i + 1), y1)
            y2, y3 = fma(weight, load(x, i + 2), y2), fma(weight, load(x, i + 3), y3)
        store(out, o + c, y0)
        store(out, o + c + 1, y1)
        store(out, o + c + 2, y2)
        store(out, o + c + 3, y3)
    for c in range(whole, m):
        y = load(w, first) * load(x, c)
        for s in range(1, n):
            y = fma(load(w, first + s), load(x, s * m + c), y)
        store(out, o + c, y)


@jit
def normalise(x, o, m):
    """Divide a distribution by its sum."""
    total = splat(0.0)
    for c in range(m):
        total = total + load(x, o + c)
    scale = splat(1.0) / larger(total, splat(1e-12))
    for c in range(m):
        store(x, o + c, load(x, o + c) * scale)


@jit
def truth(q, m, x, o):
    """(1 - q) e_0 + q e_1."""
    q = splat(0.0) - larger(splat(0.0) - q, splat(-1.0))  # at most 1
    store(x, o, splat(1.0) - q)
    store(x, o + 1, q)
    for c in range(2, m):
        store(x, o + c, splat(0.0))


@jit
def convolve(a, i, b, j, m, x, o):
    """x_c = sum_k a_k b_((c - k) mod m): addition."""
    for c in range(m):
        y = splat(0.0)
        for k in range(m):
            y = fma(load(a, i + k), load(b, j + (c - k if k <= c else c - k + m)), y)
        store(x, o + c, y)


@jit
def correlate(g, o, b, j, sign, m, x, i):
    """x_k = sum_d b_d g_((k + sign d) mod m): g - B for sign 1; with -1 what a subtraction hands back."""
    for k in range(m):
        y = splat(0.0)
        for d in range(m):
            c = k + sign * d
            y = fma(load(b, j + d), load(g, o + (c - m if c >= m else c + m if c < 0 else c)), y)
        store(x, i + k, y)


@jit
def compare(code, a, i, b, j, m):
    """P(A < B), P(A <= B) or P(A = B)."""
    q, below = splat(0.0), splat(0.0)
    for c in range(m):
        pa, pb = load(a, i + c), load(b, j + c)
        if code == EQ:
            q = fma(pa, pb, q)
        elif code == LT:
            q = fma(pb, below, q)
            below = below + pa
        else:
            below = below + pa
            q = fma(pb, below, q)
    return q


@jit
def extreme(code, a, i, b, j, m, x, o):
    """The larger or the smaller of two."""
    fa, fb = splat(0.0), splat(0.0)
    for k in range(m):
        c = k if code == MAX else m - 1 - k
        pa, pb = load(a, i + c), load(b, j + c)
        fb = fb + pb
        store(x, o + c, fma(pa, fb, pb * fa))
        fa = fa + pa


@jit
def forward(codes, r, m, fix, z, w, x, a, v, y):
    """Run a block; returns the entropy. z holds logits, x the registers and v the memory; y takes the new registers."""
    entropy = splat(0.0)
    first, arg, cells = 0, 0, 0
    for q in range(len(codes)):
        code, n, o = codes[q], r + q, (r + q) * m
        arguments = 0 if ZERO <= code <= TWO else 1 if code in (READ, INC, DEC) else 2
        for _ in range(arguments):
            entropy = entropy + softmax(z, first, n, w)
            mix(w, first, n, x, m, a, arg)
            first += n
            arg += m
        i, j = (arg - m, 0) if arguments == 1 else (arg - 2 * m, arg - m)
        if code == READ:
            for c in range(m):
                value = splat(0.0)
                for p in range(m):
                    value = fma(load(a, i + p), load(v, cells + p * m + c), value)
                store(x, o + c, value)
        elif code <= TWO:
            for c in range(m):
                store(x, o + c, splat(1.0 if c == code - ZERO else 0.0))
        elif code in (INC, DEC):
            shift = m - 1 if code == INC else 1
            for c in range(m):
                store(x, o + c, load(a, i + (c + shift) % m))
        elif code == ADD:
            convolve(a, i, a, j, m, x, o)
        elif code == SUB:  # sum_b b_b a_(c + b)
            correlate(a, i, a, j, 1, m, x, o)
        elif code <= EQ:
            truth(compare(code, a, i, a, j, m), m, x, o)
        elif code <= MAX:
            extreme(code, a, i, a, j, m, x, o)
        else:
            for p in range(m):
                keep = splat(1.0) - load(a, i + p)
                for c in range(m):
                    k = cells + p * m + c
                    store(v, k + m * m, fma(load(a, i + p), load(a, j + c), keep * load(v, k)))
            cells += m * m
            for c in range(m):
                store(x, o + c, load(a, j + c))
        if fix and code in (READ, ADD, SUB, MIN, MAX):
            normalise(x, o, m)
    n = r + len(codes)
    for k in range(r):
        entropy = entropy + softmax(z, first, n, w)
        mix(w, first, n, x, m, y, k * m)
        first += n
        if fix:
            normalise(y, k * m, m)
    return entropy


# --- backward -----------------------------------------------------------------------------------------


@jit
def unmix(w, z, first, n, x, m, d, o, bonus):
    """From the gradient d of a choice to that of its logits, in place of the log weights z.

    `bonus` is the gradient of the entropy h, whose own is -w (log w + h).
    """
    whole = n // 4 * 4
    for s in range(0, whole, 4):
        g0, g1, g2, g3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for c in range(m):
            dc, i = load(d, o + c), s * m + c
            g0, g1 = fma(dc, load(x, i), g0), fma(dc, load(x, i + m), g1)
            g2, g3 = fma(dc, load(x, i + 2 * m), g2), fma(dc, load(x, i + 3 * m), g3)
        k = first + s
        store(z, k, g0 - bonus * load(z, k))
        store(z, k + 1, g1 - bonus * load(z, k + 1))
        store(z, k + 2, g2 - bonus * load(z, k + 2))
        store(z, k + 3, g3 - bonus * load(z, k + 3))
    for s in range(whole, n):
        g = splat(0.0)
        for c in range(m):
            g = fma(load(d, o + c), load(x, s * m + c), g)
        store(z, first + s, g - bonus * load(z, first + s))
    dot = splat(0.0)
    for s in range(first, first + n):
        dot = fma(load(w, s), load(z, s), dot)
    for s in range(first, first + n):
        store(z, s, load(w, s) * (load(z, s) - dot))


@jit
def collect(s, begin, offsets, w, d, m, g, o):
    """Gradient of source s: g_c = sum_k w_ks d_kc over the choices k >= begin, which could take it."""
    whole = m // 4 * 4
    for c in range(0, whole, 4):
        y0, y1, y2, y3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for k in range(begin, len(offsets)):
            weight, i = load(w, offsets[k] + s), k * m + c
            y0, y1 = fma(weight, load(d, i), y0), fma(weight, load(d, i + 1), y1)
            y2, y3 = fma(weight, load(d, i + 2), y2), fma(weight, load(d, i + 3), y3)
        store(g, o + c, y0)
        store(g, o + c + 1, y1)
        store(g, o + c + 2, y2)
        store(g, o + c + 3, y3)
    for c in range(whole, m):
        y = splat(0.0)
        for k in range(begin, len(offsets)):
            y = fma(load(w, offsets[k] + s), load(d, k * m + c), y)
        store(g, o + c, y)


@jit
def uncompare(code, a, i, b, j, m, dq, d, k, n):
    """Gradients of a comparison's arguments, d from k and from n on, from that of its probability."""
    below, above = splat(0.0), splat(0.0)
    for c in range(m):
        e = m - 1 - c
        if code == EQ:
            store(d, k + c, dq * load(b, j + c))
            store(d, n + c, dq * load(a, i + c))
        elif code == LT:
            store(d, n + c, dq * below)
            store(d, k + e, dq * above)
            below, above = below + load(a, i + c), above + load(b, j + e)
        else:
            below, above = below + load(a, i + c), above + load(b, j + e)
            store(d, n + c, dq * below)
            store(d, k + e, dq * above)


@jit
def unextreme(code, a, i, b, j, m, g, d, k, n):
    """Gradients of the arguments of max or min, d from k and from n on."""
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


@jit
def limited(x, o, count, limit):
    """Cut `count` gradients to [-limit, limit]."""
    for c in range(o, o + count):
        store(x, c, cut(load(x, c), limit))


@jit
def backward(codes, offsets, r, m, z, w, x, a, v, d, g, gx, gv, bonus, limit):
    """Gradients of a block after `forward`; z, gx (of the registers) and gv (of memory) go out.

    d has the gradients of all choices, the last r of them (of the new registers) come in, as does gv.
    """
    choice, cells = len(offsets) - r, 0
    for q in range(len(codes)):
        cells += m * m if codes[q] == WRITE else 0
    limited(d, choice * m, r * m, limit)
    for k in range(choice, len(offsets)):
        unmix(w, z, offsets[k], r + len(codes), x, m, d, k * m, bonus)
    for step in range(len(codes)):
        q = len(codes) - 1 - step
        code = codes[q]
        if ZERO <= code <= TWO:
            continue
        collect(r + q, choice, offsets, w, d, m, g, 0)
        limited(g, 0, m, limit)
        arguments = 1 if code in (READ, INC, DEC) else 2
        choice -= arguments
        i, j = choice * m, choice * m + m
        if code == READ:
            for p in range(m):
                y, pointer = splat(0.0), load(a, i + p)
                for c in range(m):
                    k, gc = p * m + c, load(g, c)
                    y = fma(gc, load(v, cells + k), y)
                    store(gv, k, fma(pointer, gc, load(gv, k)))
                store(d, i + p, y)
        elif code in (INC, DEC):
            shift = 1 if code == INC else m - 1
            for c in range(m):
                store(d, i + c, load(g, (c + shift) % m))
        elif code == ADD:
            correlate(g, 0, a, j, 1, m, d, i)
            correlate(g, 0, a, i, 1, m, d, j)
        elif code == SUB:
            correlate(g, 0, a, j, -1, m, d, i)
            correlate(a, i, g, 0, 1, m, d, j)
        elif code <= EQ:
            uncompare(code, a, i, a, j, m, load(g, 1) - load(g, 0), d, i, j)
        elif code <= MAX:
            unextreme(code, a, i, a, j, m, g, d, i, j)
        else:
            cells -= m * m
            limited(gv, 0, m * m, limit)
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
        limited(d, i, arguments * m, limit)
        for k in range(choice, choice + arguments):
            unmix(w, z, offsets[k], r + q, x, m, d, k * m, bonus)
    for s in range(r):
        collect(s, 0, offsets, w, d, m, gx, s * m)
