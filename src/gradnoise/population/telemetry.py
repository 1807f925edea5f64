"""What a population reports of its training: means over the updates since the last report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnoise.noise.schedule import sigma
from gradnoise.population.course import State
from gradnoise.population.replica import Replica
from gradnoise.population.strength import NORM, remembers
from gradnoise.population.turns import Round
from gradnoise.population.update import SUMS
from gradnoise.population.watching import WATCHED

NOISE = "noise_norm"

#: What the engine records of every replica beside the experiment's own metrics, which need other names.
RESERVED = (*SUMS, NOISE, "skipped", *WATCHED)


@dataclass(frozen=True)
class Seen:
    """What was seen of one turn since the last report.

    Args:
        turn: its name.
        updates: how many there were.
        sums: [3, P], see `Live.sums`.
        watched: see `Live.watched`.
        noise: expected norm of the last update's noise, [P].
    """

    turn: str
    updates: int
    sums: Tensor
    watched: State
    noise: Tensor


def reserved(whole: Round) -> frozenset[str]:
    """Return the names of what the engine records of every experiment with these turns."""
    own = {_own(name, turn.name) for name in (*SUMS, NOISE) for turn in whole.turns} if whole.named else set()
    return frozenset(RESERVED) | own


def means(seen: Sequence[Seen]) -> dict[str, Tensor]:
    """Return means over updates of what was seen of all turns, [P] each, and then of each turn, as train_loss_d.

    They are train_loss, gradient_norm (before the clip), clipped (share of updates), noise_norm, and what is watched in
    every turn.
    """
    if len(seen) == 1:
        return _means(seen[0].sums, seen[0].watched, seen[0].updates) | {NOISE: seen[0].noise}
    every = max(sum(one.updates for one in seen), 1)
    sums = torch.stack([one.sums for one in seen]).sum(0)
    common = [name for name in seen[0].watched if all(name in one.watched for one in seen)]
    watched = {name: torch.stack([one.watched[name] for one in seen]).sum(0) for name in common}
    noise = torch.stack([one.noise * one.updates for one in seen]).sum(0) / every
    found = _means(sums, watched, every) | {NOISE: noise}
    for one in seen:
        own = _means(one.sums, {}, one.updates) | {NOISE: one.noise}
        found |= {_own(name, one.turn): x for name, x in own.items()}
    return found


def _means(sums: Tensor, watched: State, updates: int) -> dict[str, Tensor]:
    named = dict(zip(SUMS, sums, strict=True)) | watched
    return {name: x / max(updates, 1) for name, x in named.items()}


def _own(name: str, turn: str) -> str:
    return f"{name}_{turn}"


def noise_norm(
    replicas: Sequence[Replica], t: int, sizes: Sequence[float], noise: State, *, gated: bool = False
) -> Tensor:
    """Return sigma_t * sqrt(N), the expected norm of the gradient noise of update t: float64 [P].

    Args:
        replicas: the runs.
        t: the last update.
        sizes: N of each, elements that get noise.
        noise: what is remembered of noise that hangs on gradients or on the course, see `Live.noise`.
        gated: whether all noise hangs on the course.
    """
    known = noise[NORM].tolist() if noise else [0.0] * len(replicas)
    for row, training in enumerate(r.training for r in replicas):
        if training.noise is not None and not (remembers(training) or gated):
            size = sigma(training.noise, t)
            if training.anti_pgd and t:
                size = math.hypot(size, sigma(training.noise, t - 1))
            known[row] = size * sizes[row] ** 0.5
    return torch.tensor(known, dtype=torch.float64)
