"""What a population reports of its training: means over the updates since the last report."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradnoise.noise.schedule import sigma
from gradnoise.population.course import State
from gradnoise.population.replica import Replica
from gradnoise.population.strength import NORM
from gradnoise.population.watching import WATCHED

#: What the engine records of every replica beside the experiment's own metrics, which need other names.
RESERVED = ("train_loss", "gradient_norm", "clipped", "noise_norm", "skipped", *WATCHED)


def means(sums: Tensor, watched: State, updates: int) -> dict[str, Tensor]:
    """Return train_loss, gradient_norm (before the clip), clipped (share of updates) and what is watched, [P] each.

    Args:
        sums: [3, P], see `Live.sums`.
        watched: see `Live.watched`.
        updates: how many were summed.
    """
    named = dict(zip(RESERVED[:3], sums, strict=True)) | watched
    return {name: x / max(updates, 1) for name, x in named.items()}


def noise_norm(replicas: Sequence[Replica], t: int, parameters: int, noise: State, *, gated: bool = False) -> Tensor:
    """Return sigma_t * sqrt(N), the expected norm of the gradient noise of update t: float64 [P].

    Args:
        replicas: the runs.
        t: the last update.
        parameters: N.
        noise: what is remembered of noise that hangs on gradients or on the course, see `Live.noise`.
        gated: whether all noise hangs on the course.
    """
    known = noise[NORM].tolist() if noise else [0.0] * len(replicas)
    for row, training in enumerate(r.training for r in replicas):
        if training.noise is not None and not (training.noise_follows or gated):
            size = sigma(training.noise, t)
            if training.anti_pgd and t:
                size = math.hypot(size, sigma(training.noise, t - 1))
            known[row] = size * parameters**0.5
    return torch.tensor(known, dtype=torch.float64)
