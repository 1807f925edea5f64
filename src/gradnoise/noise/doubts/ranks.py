"""Notices ranks of a process group whose noise is alike where it must differ, or differs where it must be alike."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from torch import distributed
from torch.optim import Optimizer

from gradnoise.noise.doubts.equal_ranks import Round, Told, differing, other_streams, same_noise_elsewhere, shared, told
from gradnoise.noise.streams import Streams
from gradnoise.noise.warning import say

PATIENCE = 3
"""Updates for which something is waited that another rank is to tell."""

_attached, _updated = itertools.count(), itertools.count()


class Ranks:
    """Compares the parameters and the noise of this rank with those of two others.

    Ranks that train one model (DDP, FSDP2) have equal parameters and have to add equal noise: of the same streams, at
    the same t and of the same strength. A partition of flat parameters (DeepSpeed's ZeRO), a stage of a pipeline or a
    plain part of a tensor is another parameter on every rank, and its noise must be another one.

    Nothing stops for it: what a rank has is left in the store of the process group, and looked for in the next updates.
    Parameters are told in the first update, and what may change in the first one and whenever their number has doubled.

    Args:
        optimizer: that has noise.
        streams: of its parameters.
        strength: returns how strong the noise of a group is in update t.
        settings: further settings that have to be alike.
        warn: whether to look; a rank that does not tells all the same.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        streams: Streams,
        strength: Callable[[int, int], float],
        settings: dict[str, Any],
        warn: bool,
    ) -> None:
        self._optimizer, self._streams, self._strength = optimizer, streams, strength
        self._settings, self._warn = settings, warn
        self._ordinal = next(_attached)
        self._made = self._paused = 0  # updates, and how many of them were paused
        self._mine: dict[str, Told] = {}
        self._names: dict[str, str] = {}
        self._groups: dict[int, set[tuple[int, int]]] = {}  # of another rank, groups that share parameters: here, there
        self._round, self._last = Round({}, []), 0  # what was told last, and in which update
        self._wait: set[int] = set()
        self._leave("attached", True)

    def before_update(self, t: int, paused: bool) -> None:
        """Tell of the update that is about to be made, and look at what other ranks have told."""
        made = self._made
        self._made += 1
        if made == 0:  # optimizers make their first updates in the same order on all ranks; some never make one
            self._ordinal = next(_updated)
        self._paused += paused
        if self._wait:
            self._look(made)
        if made & (made - 1) == 0 and _store() is not None:
            self._tell(made, t)

    def _tell(self, made: int, t: int) -> None:
        if made == 0 or not self._mine:
            streams = list(self._streams.every())
            noisy = {s.key for found in self._streams.by_group() for s in found}
            self._mine, self._names = told(streams, frozenset(noisy)), {str(s.key): s.name for _, s in streams}
            self._leave("parameters", self._mine)
        strengths = [self._strength(i, t) for i in range(len(self._optimizer.param_groups))]
        self._round = Round({"t": int(t), "paused updates": self._paused, **self._settings}, strengths)
        self._last = made
        self._leave(made, self._round)
        if self._warn:
            rank, size = distributed.get_rank(), distributed.get_world_size()
            self._wait = {(rank + 1) % size, (rank + size // 2) % size} - {rank}

    def _look(self, made: int) -> None:
        """Warn, once, of a rank that has told what it should not have, or has told nothing at all."""
        said = None
        for rank in sorted(self._wait):
            theirs = self._read(rank, self._last)
            if theirs is not None:
                self._wait.discard(rank)
                said = said or self._doubt(Round(*theirs), rank)
            elif made == PATIENCE and self._read(rank, "attached") is None:
                said = said or (
                    f"rank {rank} has not attached noise to an optimizer by the fourth update of this one; if it trains"
                    " the same parameters as this rank the two drift apart: attach on every rank, with the same"
                    " arguments. attach(..., warn=False) silences this"
                )
        if said or made == self._last + PATIENCE:
            self._wait.clear()
        if said:
            self._warn = False
            say(said)

    def _doubt(self, theirs: Round, rank: int) -> str | None:
        what = None
        if rank not in self._groups:
            there = {key: Told(*parts) for key, parts in (self._read(rank, "parameters") or {}).items()}
            if key := same_noise_elsewhere(self._mine, there):
                return (
                    f"rank {rank} adds the same noise to {self._names[key]!r} as this rank, but there this is another"
                    " parameter, as a partition, a stage of a pipeline or a part of a tensor is; pass named_parameters"
                    " whose names differ from rank to rank, or a seed for each rank"
                )
            both = shared(self._mine, there)
            self._groups[rank] = {(self._mine[k].group, there[k].group) for k in both if self._mine[k].noisy}
            alone = [k for k in both if self._mine[k].noisy != there[k].noisy]
            if alone:
                only = "here" if self._mine[alone[0]].noisy else "there"
                what = f"{self._names[alone[0]]!r} gets noise {only} alone"
            elif other_streams(self._mine, there):
                what = differing(self._round, theirs, ()) or "the seed or the names are not the same"
        if self._groups[rank]:
            what = what or differing(self._round, theirs, self._groups[rank])
        return what and (
            f"rank {rank} trains the same parameters with other noise, so that the ranks drift apart: {what}; attach"
            " with the same arguments, load the same checkpoint and pause on every rank"
        )

    def _key(self, rank: int, what: str | int) -> str:
        return f"gradnoise/{self._ordinal}/{rank}/{what}"

    def _leave(self, what: str | int, content: Any) -> None:
        """Leave something for other ranks, unless the store is gone, which is no reason to end a training."""
        if (store := _store()) is not None:
            try:
                store.set(self._key(distributed.get_rank(), what), json.dumps(content))
            except RuntimeError:
                self._warn = False

    def _read(self, rank: int, what: str | int) -> Any:
        """Return what another rank has left, None where that is nothing yet."""
        store, key = _store(), self._key(rank, what)
        try:
            return json.loads(store.get(key)) if store is not None and store.check([key]) else None
        except RuntimeError:
            return None


def _store() -> Any:
    """Return the store of the process group, None without one or with one rank."""
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return None
    return getattr(distributed.distributed_c10d, "_get_default_store", lambda: None)()
