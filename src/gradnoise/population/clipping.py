"""Gradient clipping per replica, before the noise (paper, section 4: noise is added after clipping)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def norms(g: Tensor) -> Tensor:
    """Global gradient norm of each replica: g [P, N] -> [P]."""
    return torch.linalg.vector_norm(g, dim=1)


def clip_(g: Tensor, norm: Tensor, c: Tensor) -> Tensor:
    """Rescale rows whose norm exceeds their threshold: g_p <- g_p * min(1, c_p / |g_p|), in place.

    Rows below their threshold stay bitwise as they are.

    Args:
        g: gradients [P, N].
        norm: their norms [P].
        c: thresholds [P]; inf leaves a row alone.

    Returns:
        Which rows were rescaled, bool [P].
    """
    clipped = norm > c
    if clipped.any():
        g.mul_(torch.where(clipped, c / norm, 1.0)[:, None])
    return clipped


def clip_each_(segments: Sequence[Tensor], c: Tensor) -> Tensor:
    """Clip every parameter tensor by its own norm (Sukhbaatar et al. 2015), in place.

    Args:
        segments: gradients of one parameter each, [P, ...].
        c: thresholds [P].

    Returns:
        Which rows had at least one tensor rescaled, bool [P].
    """
    clipped = torch.zeros(len(c), dtype=torch.bool, device=c.device)
    for segment in segments:
        g = segment.view(len(segment), -1)  # a scalar parameter is [P]
        clipped |= clip_(g, norms(g), c)
    return clipped
