"""Adam's rule, compiled by Numba: every number is read and written once."""

from __future__ import annotations

import math

from gradnoise.noise.gaussian import compiled


@compiled()
def _row(theta, g, m, v, rate, numbers):
    new, keep, add, root, eps = numbers
    old = numbers.dtype.type(1) - new
    near = old > new  # from the nearer end, as torch's lerp: with beta1 = 0 the mean is the gradient itself
    for i in range(theta.size):
        more = g[i] - m[i]
        mean = m[i] + new * more if near else g[i] - old * more
        square = keep * v[i] + add * g[i] * g[i]
        m[i], v[i] = mean, square
        theta[i] -= mean / (math.sqrt(square) / root + eps) * rate


@compiled()
def rows(theta, g, m, v, strides, rate, numbers, n, lo, hi):
    """Update elements lo .. hi - 1 of theta, m and v [P, n], counted row by row; g is read.

    Args:
        theta, g, m, v: parameters, gradients, moments, their memory from the first to the last element.
        strides: how far apart their rows begin, [4].
        rate: learning rates over 1 - beta1^(t + 1), [P].
        numbers: 1 - beta1, beta2, 1 - beta2, sqrt(1 - beta2^(t + 1)) and eps, in the precision of the rest.
        n: elements of a row.
        lo, hi: which elements.
    """
    for p in range(lo // n, (hi - 1) // n + 1):
        start, size = max(lo - p * n, 0), min(hi - p * n, n) - max(lo - p * n, 0)
        a, b, c, d = p * strides + start
        _row(theta[a : a + size], g[b : b + size], m[c : c + size], v[d : d + size], rate[p], numbers)
