"""Notices ranks of a process group whose noise is alike where it must differ, or differs where it must be alike."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from gradnoise.noise.gradients import Stream
from gradnoise.noise.saying import say

FEW = 8
"""Elements of a parameter that tell it from another one."""

_attached = itertools.count()


class Ranks:
    """Compares the parameters and noise streams of this rank with those of two others, at its first update.

    Ranks that train one model (DDP) have equal parameters then, and have to add equal noise. A partition of flat
    parameters (DeepSpeed's ZeRO), a stage of a pipeline or a plain part of a tensor is another parameter on every rank,
    and its noise must be another one. Nothing is waited for: what a rank has is left in the store of the process group,
    and looked for when the next updates are made. DTensors are addressed by their place in the whole, and left out.
    """

    def __init__(self) -> None:
        self._ordinal = next(_attached)  # optimizers are made in the same order on all ranks
        self._mine: dict[str, Any] | None = None
        self._wait: list[int] = []

    def tell(self, streams: Sequence[Stream]) -> None:
        """Leave what this rank has for the others."""
        store = _store()
        if store is None:
            return
        plain = [s for s in streams if type(s.parameter) in (Tensor, torch.nn.Parameter) and s.parameter.numel()]
        if not plain:
            return
        rank, size = distributed.get_rank(), distributed.get_world_size()
        self._mine = {str(s.key): [s.parameter.numel(), mark] for s, mark in zip(plain, _marks(plain), strict=True)}
        self._names = {str(s.key): s.name for s in plain}
        self._wait = sorted({(rank + 1) % size, (rank + size // 2) % size} - {rank})
        store.set(self._key(rank), json.dumps(self._mine))

    def look(self) -> None:
        """Warn where another rank that has told by now has what it should not have."""
        store = _store()
        if store is None or self._mine is None:
            return
        for rank in [r for r in self._wait if store.check([self._key(r)])]:
            self._wait.remove(rank)
            if said := self._doubt(json.loads(store.get(self._key(rank))), rank):
                self._wait.clear()
                say(said)
                return

    def _key(self, rank: int) -> str:
        return f"gradnoise/{self._ordinal}/{rank}"

    def _doubt(self, theirs: dict[str, Any], rank: int) -> str | None:
        mine = self._mine or {}
        unlike = [key for key in mine if key in theirs and mine[key] != theirs[key]]
        if unlike:
            return (
                f"rank {rank} adds the same noise to {self._names[unlike[0]]!r} as this rank, but there this is another"
                " parameter, as a partition, a stage of a pipeline or a part of a tensor is; pass named_parameters"
                " whose names differ from rank to rank, or a seed for each rank"
            )
        if not mine.keys() & theirs.keys() and list(mine.values()) == list(theirs.values()):
            return (
                f"rank {rank} trains the same parameters with other noise, so that the ranks drift apart; pass the same"
                " seed and the same names on every rank"
            )
        return None


def _store() -> Any:
    """Return the store of the process group, None without one or with one rank."""
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return None
    return getattr(distributed.distributed_c10d, "_get_default_store", lambda: None)()


@torch.no_grad()
def _marks(streams: Sequence[Stream]) -> list[float]:
    """Return a number for each parameter that other parameters are unlikely to have; one copy off a device."""
    device = streams[0].parameter.device
    firsts = [s.parameter.detach().flatten()[:FEW] for s in streams]
    weights = torch.arange(1, FEW + 1, dtype=torch.float64, device="cpu")
    padded = torch.zeros(len(firsts), FEW, dtype=torch.float64, device="cpu")
    for row, first in zip(padded, _on_cpu(firsts, device), strict=True):
        row[: len(first)] = first
    return (padded @ weights).tolist()


def _on_cpu(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    if device.type == "cpu":
        return [_real(x).double().cpu() for x in tensors]
    sizes = [len(_real(x)) for x in tensors]
    return list(torch.cat([_real(x).float().to(device) for x in tensors]).cpu().double().split(sizes))


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()).flatten()[:FEW] if x.is_complex() else x
