"""What becomes of a gradient in an update, for experiments that ask: its norm after the clip, noise, direction."""

from __future__ import annotations

import torch
from torch import Tensor

from gradnoise.population.clipping import norms
from gradnoise.population.course import State
from gradnoise.population.optimizers import L2, Optimizer

#: What is recorded: the norm of the gradient after the clip; of the noise over that norm; the cosine between the update
#: and minus that gradient; and the root mean square of its elements over the optimizer's eps.
WATCHED = ("clipped_norm", "noise_to_gradient", "update_cosine", "gradient_over_eps")


def start_watching(rows: int, optimizer: Optimizer, device: torch.device) -> State:
    """Return sums of 0 [P] in float64 of what is recorded; of the last only where the optimizer has an eps > 0."""
    names = WATCHED if _eps(optimizer) else WATCHED[:-1]
    return {name: torch.zeros(rows, dtype=torch.float64, device=device) for name in names}


class Watch:
    """Looks on while one update is made, by tensors alone.

    Args:
        sums: what is recorded, [P] each; updated in place.
        theta: parameters before the update [P, N].
        optimizer: update rule.
    """

    def __init__(self, sums: State, theta: Tensor, optimizer: Optimizer) -> None:
        self._sums, self._theta, self._eps = sums, theta.clone(), _eps(optimizer)
        self._clean = self._noise = theta

    def before_noise(self, g: Tensor, scale: Tensor | None) -> None:
        """See gradients after the clip; it has not been done yet where there is a scale [P]."""
        self._clean = g.clone() if scale is None else g * scale[:, None]

    def after_noise(self, g: Tensor) -> None:
        """See gradients with their noise."""
        self._noise = norms(g - self._clean)

    def after_update(self, theta: Tensor, ok: Tensor) -> None:
        """See the new parameters, and add up what is recorded of rows whose update counts, bool [P]."""
        size = norms(self._clean)
        moved = theta - self._theta
        length = norms(moved)
        along = -moved.mul_(self._clean).sum(1)
        found = {
            "clipped_norm": size,
            "noise_to_gradient": torch.where(size > 0, self._noise / size, 0),
            "update_cosine": torch.where((size > 0) & (length > 0), along / (size * length), 0),
        }
        if self._eps:
            found["gradient_over_eps"] = size / theta.shape[1] ** 0.5 / self._eps
        for name, x in found.items():
            self._sums[name] += torch.where(ok, x, 0)


def _eps(optimizer: Optimizer) -> float:
    """Return the eps of an optimizer, of that inside an L2 penalty; 0 where it has none."""
    return _eps(optimizer.optimizer) if isinstance(optimizer, L2) else float(getattr(optimizer, "eps", 0.0))
