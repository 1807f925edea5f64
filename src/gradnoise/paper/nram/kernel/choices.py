"""Choices among sources and their gradients as Numba code, a block of machines at a time.

Sums run over four places at once, written out, so that what they share is loaded once and four sums stay in
registers.
"""

from __future__ import annotations

from gradnoise.paper.nram.kernel.lanes import exp, fma, jit, larger, load, log, splat, store


@jit
def softmax(z, first, n, w):
    """Compute the weights w of n logits z, which are replaced by log w; return the entropy."""
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
    """Compute out_c = sum_s w_s x_sc, a choice among n sources."""
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
def unmix(w, z, first, n, x, m, d, o, bonus):
    """Turn the gradient d of a choice into that of its n logits, in place of the log weights z.

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
def collect(s, begin, places, w, d, m, g, o):
    """Sum the gradient of source s: g_c = sum_k w_ks d_kc over the choices k >= begin, which could take it.

    `places` tells where the weights of each choice begin.
    """
    whole = m // 4 * 4
    for c in range(0, whole, 4):
        y0, y1, y2, y3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for k in range(begin, len(places)):
            weight, i = load(w, places[k] + s), k * m + c
            y0, y1 = fma(weight, load(d, i), y0), fma(weight, load(d, i + 1), y1)
            y2, y3 = fma(weight, load(d, i + 2), y2), fma(weight, load(d, i + 3), y3)
        store(g, o + c, y0)
        store(g, o + c + 1, y1)
        store(g, o + c + 2, y2)
        store(g, o + c + 3, y3)
    for c in range(whole, m):
        y = splat(0.0)
        for k in range(begin, len(places)):
            y = fma(load(w, places[k] + s), load(d, k * m + c), y)
        store(g, o + c, y)
