"""What a population reports of its training: means over the updates since the last report."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradnoise.noise.schedule import sigma
from gradnoise.population.replica import Replica

#: What the engine records of every replica beside the experiment's own metrics, which need other names.
RESERVED = ("train_loss", "gradient_norm", "clipped", "noise_norm", "skipped")


def means(sums: Tensor, updates: int) -> dict[str, Tensor]:
    """Return train_loss, gradient_norm (before the clip) and clipped (share of updates), [P] each.

    Args:
        sums: [3, P], see `Live.sums`.
        updates: how many were summed.
    """
    return dict(zip(RESERVED[:3], sums / max(updates, 1), strict=True))


def noise_norm(replicas: Sequence[Replica], t: int, parameters: int) -> Tensor:
    """Return sigma_t * sqrt(N), the expected norm of the gradient noise of update t: float64 [P].

    Args:
        replicas: the runs.
        t: update.
        parameters: N.
    """
    schedules = [r.training.noise for r in replicas]
    return torch.tensor([0.0 if s is None else sigma(s, t) * parameters**0.5 for s in schedules], dtype=torch.float64)
