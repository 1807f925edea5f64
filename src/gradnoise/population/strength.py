"""How strong each row's noise is in an update: also where that hangs on its gradient, or the noise ends with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradnoise.errors import PopulationError
from gradnoise.population.constants import RowConstants
from gradnoise.population.course import Course, State
from gradnoise.population.experiment import Experiment
from gradnoise.population.replica import Replica
from gradnoise.population.training import Training

NORM, ENDED, ADDED, ADDED_AT = "norm", "ended", "added", "added at"


def start(replicas: Sequence[Replica], gated: bool, patience: int, device: torch.device) -> State:
    """Return what is remembered of the noise of rows before the first update, see `Live.noise`.

    Args:
        replicas: the rows.
        gated: see `check_gate`.
        patience: of the experiment; where updates may be skipped, the last noise is not always that of the last update.
        device: where they are.
    """
    taken = any(r.training.anti_pgd for r in replicas)
    if not (gated or any(remembers(r.training) for r in replicas) or (taken and patience > 1)):
        return {}
    zeros = torch.zeros(len(replicas), dtype=torch.float64, device=device)
    none = torch.full((len(replicas),), -1, dtype=torch.int64, device=device)
    found = {NORM: zeros, ENDED: none}
    return found | {ADDED: zeros.clone(), ADDED_AT: none.clone()} if taken else found


def remembers(training: Training) -> bool:
    """Say whether how strong a row's noise is can be told by its own gradients alone."""
    return training.noise_follows or (training.noise is not None and training.noise_on == "nonzero")


def check_gate(experiment: Experiment, replicas: Sequence[Replica]) -> bool:
    """Say whether the strength of some noise hangs on the course, see `Course.noise`.

    Raises:
        PopulationError: noise is to be taken away again that had another strength when it was added.
    """
    course, noisy = experiment.course, [r for r in replicas if r.training.noise is not None]
    if course is None or type(course).noise is Course.noise or not noisy:
        return False
    if any(r.training.anti_pgd for r in noisy):
        raise PopulationError(
            f"anti_pgd takes away the noise of the update before, and the course of {experiment.name} sets how strong"
            " noise is: leave one of them out"
        )
    return True


class Strength:
    """Standard deviations of one update's noise, by tensors alone.

    Args:
        state: what is remembered, see `Live.noise`; empty where all noise is a function of t.
        t: update, 0-dim.
        rows: constants of the rows.
        g: gradients [P, N].
        quiet: bool [P, N], elements that get no noise; None for none.
        factor: what sigma_t is multiplied by, [P]; None for 1.
    """

    def __init__(
        self,
        state: State,
        t: Tensor,
        rows: RowConstants,
        g: Tensor,
        quiet: Tensor | None,
        factor: Tensor | None = None,
    ) -> None:
        self._state, self._t, self._rows, self._factor = state, t, rows, factor
        self._root: Tensor | float = math.sqrt(g.shape[1])
        if state and (quiet is not None or rows.noisy is not None):
            count = g.new_full((len(g),), g.shape[1], dtype=torch.float64) if quiet is None else (~quiet).sum(1)
            count = count if rows.noisy is None else torch.minimum(count, rows.noisy.size)
            self._root = count.clamp(min=1).to(torch.float64).sqrt()
        self._g = g
        self._size = self._now = self._before = g.new_zeros(len(g), dtype=torch.float64)

    def at(self, table: Tensor | None, norm: Tensor, scale: Tensor | None) -> Tensor | None:
        """Return sigma_t [P] in float64.

        Args:
            table: of it.
            norm: of whole gradients [P], scaled.
            scale: what gradients are yet to be multiplied by, [P]; None for 1.
        """
        if table is None or not self._state:
            return None if table is None else self._rows.at(table, self._t)
        noisy, looked_at = self._rows.noisy, self._rows.relative is not None or self._rows.share is not None
        if noisy is not None and looked_at:
            own = noisy.norms(self._g) if scale is None else noisy.norms(self._g) * scale
            norm = torch.where(noisy.each.all(0), norm, own.to(norm.dtype))
        sigma = self._sigma(table, norm)
        self._size, self._now = norm.to(torch.float64), self._now + sigma
        return sigma

    def undone(self, table: Tensor | None, anti: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Return sigma [P] and t of the noise that is taken away again: the last that a row got.

        Args:
            table: of sigma_{t-1}, which it is where all noise is a function of t and no update is skipped.
            anti: rows whose noise is taken away here, bool [P]; None for none.
        """
        if ADDED not in self._state:
            return None if table is None else (self._rows.at(table, self._t), (self._t - 1).clamp(min=0))
        if anti is None:
            return None
        sigma = torch.where(anti, self._state[ADDED], 0)
        self._before = self._before + sigma
        return sigma, self._state[ADDED_AT].clamp(min=0)

    def _sigma(self, table: Tensor, norm: Tensor) -> Tensor:
        sigma = self._rows.at(table, self._t)
        if (relative := self._rows.relative) is not None:
            size = torch.where(torch.isinf(relative), norm.to(torch.float32).to(torch.float64), relative)
            sigma = torch.where(relative > 0, sigma / self._root * size, sigma)
        if self._factor is not None:
            sigma = sigma * self._factor
        ended = self._state[ENDED]
        over = (ended >= 0) & (self._t >= ended)
        return torch.where(over | ~torch.isfinite(sigma), 0, sigma)

    def note(self, ok: Tensor) -> None:
        """Remember the norm of the noise, and whose noise has fallen under its share of the gradient.

        Args:
            ok: rows whose update counts, bool [P].
        """
        if not self._state:
            return
        noise = self._now * self._root
        if ADDED in self._state:
            self._state[ADDED].copy_(torch.where(ok, self._now, self._state[ADDED]))
            self._state[ADDED_AT].copy_(torch.where(ok, self._t, self._state[ADDED_AT]))
        self._state[NORM].copy_(torch.hypot(self._now, self._before) * self._root)
        if (share := self._rows.share) is not None:
            under = ok & (noise > 0) & (noise < share * self._size) & (self._state[ENDED] < 0)
            self._state[ENDED].copy_(torch.where(under, self._t + 1, self._state[ENDED]))
