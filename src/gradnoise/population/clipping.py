"""Gradient clipping per replica, before the noise (paper, section 4: noise is added after clipping)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def norms(g: Tensor) -> Tensor:
    """Return the global gradient norm of each replica: g [P, N] -> [P]."""
    return torch.linalg.vector_norm(g, dim=1)


def clip_scale(norm: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return what each row is to be multiplied by, min(1, c_p / |g_p|) [P], and which rows are clipped, bool [P].

    Args:
        norm: gradient norms [P].
        c: thresholds [P]; inf leaves a row alone.
    """
    clipped = norm > c
    return torch.where(clipped, c / norm, 1.0), clipped


def clip_each_(segments: Sequence[Tensor], c: Tensor) -> Tensor:
    """Clip every parameter tensor by its own norm (Sukhbaatar et al. 2015), in place.

    Args:
        segments: gradients of one parameter each, [P, ...].
        c: thresholds [P].

    Returns:
        Which rows had at least one tensor rescaled, bool [P].
    """
    any_clipped = torch.zeros(len(c), dtype=torch.bool, device=c.device)
    for segment in segments:
        g = segment.view(len(segment), -1)  # a scalar parameter is [P]
        scale, clipped = clip_scale(norms(g), c)
        g.mul_(scale[:, None])
        any_clipped = any_clipped | clipped
    return any_clipped
