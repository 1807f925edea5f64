"""The modules of the machine on distributions over 0..M-1, a vector [..., M] each (Kurach et al. 2016, section 3).

If A and B are independent with distributions a and b, each function returns the distribution of m(A, B); all
are exact on one-hot vectors, that is on integers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def constant(value: int, like: Tensor) -> Tensor:
    """Return the integer `value` as a one-hot vector, shaped like `like` [..., M]."""
    return one_hot(torch.tensor(value, device=like.device), like.shape[-1]).to(like.dtype).expand(like.shape)


def increment(a: Tensor) -> Tensor:
    """Return A + 1 mod M."""
    return a.roll(1, -1)


def decrement(a: Tensor) -> Tensor:
    """Return A - 1 mod M."""
    return a.roll(-1, -1)


def add(a: Tensor, b: Tensor) -> Tensor:
    """Return A + B mod M: sum_k a_k b_{(c - k) mod M}."""
    return (circulant(b) @ a[..., None])[..., 0]


def subtract(a: Tensor, b: Tensor) -> Tensor:
    """Return A - B mod M: A plus the negated B."""
    return add(a, b.flip(-1).roll(1, -1))


def circulant(b: Tensor) -> Tensor:
    """Return the matrix [..., M, M] with entry b_{(c - k) mod M} in row c and column k.

    Its rows are windows of the reversed vector laid down twice: no table of indices, whose gradient is slow.
    """
    backwards = b.flip(-1)
    return torch.cat([backwards, backwards[..., :-1]], -1).unfold(-1, b.shape[-1], 1).flip(-2)


def less_than(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 if A < B, else 0."""
    return truth((b * before(a)).sum(-1), a)


def less_or_equal(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 if A <= B, else 0."""
    return truth((b * a.cumsum(-1)).sum(-1), a)


def equal(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 if A = B, else 0."""
    return truth((a * b).sum(-1), a)


def maximum(a: Tensor, b: Tensor) -> Tensor:
    """Return the larger: a_c P(B <= c) + b_c P(A < c); a sum of positive terms, not a difference of products."""
    return a * b.cumsum(-1) + b * before(a)


def minimum(a: Tensor, b: Tensor) -> Tensor:
    """Return the smaller: a_c P(B >= c) + b_c P(A > c)."""
    return maximum(a.flip(-1), b.flip(-1)).flip(-1)


def read(memory: Tensor, pointer: Tensor) -> Tensor:
    """Return what lies in memory [..., M, M] (one row per cell) where the pointer [..., M] points."""
    return (pointer[..., None, :] @ memory)[..., 0, :]


def write(memory: Tensor, pointer: Tensor, value: Tensor) -> Tensor:
    """Return the memory in which cell i is overwritten by `value` with probability pointer_i."""
    p = pointer[..., None]
    return (1 - p) * memory + p * value[..., None, :]


def before(a: Tensor) -> Tensor:
    """Return P(A < c) for every c; it is never negative, as rounding keeps the order of sums."""
    return a.cumsum(-1) - a


def truth(q: Tensor, like: Tensor) -> Tensor:
    """Return 1 with probability q, else 0, as a vector shaped like `like`; q may pass 1 by rounding."""
    q = straight_through(q, q.clamp(0, 1))[..., None]
    return (1 - q) * constant(0, like) + q * constant(1, like)


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """Return `value` on the way forward, and give x the gradient on the way back."""
    return x + (value - x).detach()


#: What each module computes that has arguments and leaves the memory alone, by its name in the table.
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "inc": increment,
    "dec": decrement,
    "add": add,
    "sub": subtract,
    "less-than": less_than,
    "less-or-equal": less_or_equal,
    "equality-test": equal,
    "min": minimum,
    "max": maximum,
}
