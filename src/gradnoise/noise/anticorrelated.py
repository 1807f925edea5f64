"""Anticorrelated noise: what each update really added, which the next one takes away again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradnoise.noise.dosing import Dose, Group
from gradnoise.noise.gradients import Rows, Stream
from gradnoise.noise.steps.clock import CLOCK

ADDED = "gradnoise_added"
"""Key in `optimizer.param_groups`, the same in each: lists of t, standard deviation and keys of streams, of noise that
was added and not taken away yet. In state dicts they are JSON: distributed checkpoints would take lists apart."""


class Left(NamedTuple):
    """Noise that was added to a parameter: t and standard deviation, a number or a 0-dim tensor, without loss scale."""

    t: int
    sigma: float | Tensor


AllLeft: TypeAlias = Mapping[int, Left]
"""Key of a stream -> its noise that was not taken away yet."""


class Added:
    """Remembers for each stream the noise of its last update, until another update takes it away.

    A parameter may have no gradient in an update, noise may be paused, end, begin late or follow the gradient: numbers
    that are computed again from the schedule would then be others than those that were added.

    Args:
        optimizer: whose parameter groups keep what was added.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        # Of the update that is under way: t, what it adds, and the streams whose noise it takes away.
        self._now: tuple[int, list[list[Any]], frozenset[int]] | None = None
        self._unsure: tuple[int, list[list[Any]]] | None = None  # until the clock tells whether the update was made
        self._taken: tuple[int, AllLeft] = -1, {}
        self._hooks = (
            optimizer.register_state_dict_post_hook(lambda _, state: self._put_into(state)),
            optimizer.register_load_state_dict_pre_hook(lambda *_: self._forget()),
        )
        self._write(self._read())  # distributed checkpoints fill only keys that are there

    def left(self, t: int) -> AllLeft:
        """Return what update t is to take away; noise of later updates, made before the clock was set back, is not."""
        self._resolve()
        return {key: Left(at, sigma) for at, sigma, keys in self._read() if at < t for key in keys}

    def at(self, t: int, step: int, key: int) -> tuple[bool, Left | None]:
        """Return whether it is known what update t takes away from a stream's gradient, and what that is.

        Args:
            t: update; of the last one that added noise and of the coming one it is known.
            step: the coming one.
            key: of the stream.
        """
        if t not in (self._taken[0], step):
            return False, None
        return True, (self._taken[1] if t == self._taken[0] else self.left(t)).get(key)

    def doses(
        self, groups: Sequence[Group], t: int, rows: Rows, scale: Tensor | None, found: Sequence[Dose]
    ) -> list[Dose]:
        """Return what an update takes away, and take note of it.

        Args:
            groups: see `taking`.
            t: update.
            rows: see `taking`.
            scale: see `taking`.
            found: what the update adds.
        """
        left = self.left(t)
        keys = frozenset(stream.key for group in groups for stream in group.streams)
        new = [[t, _size(dose, scale), [stream.key for stream in dose.streams]] for dose in found if dose.sigma]
        self._now = t, new, keys
        before = self._taken[1] if self._taken[0] == t else {}  # of an earlier step within one backward pass
        self._taken = t, {**left, **before}
        return taking(groups, left, scale, rows)

    def skipped(self) -> None:
        """Take note that it was none, or one without noise."""
        self._now = None

    def made(self, overflow: Tensor | None) -> None:
        """Take note that the update was made, unless `overflow`, a 0-dim tensor on any device, is not 0."""
        if self._now is None:
            return
        (t, new, gone), self._now = self._now, None
        rest = [[at, sigma, [key for key in keys if key not in gone]] for at, sigma, keys in self._read()]
        entries = new + [entry for entry in rest if entry[2]]
        if overflow is not None and overflow.is_cuda:
            self._unsure = t, entries
        elif overflow is None or not overflow.item():
            self._write(entries)

    def state(self) -> str:
        """Return what was added and not taken away yet, as JSON."""
        self._resolve()
        return json.dumps([[t, float(sigma), keys] for t, sigma, keys in self._read()])

    @staticmethod
    def read(state: str) -> list[list[Any]]:
        """Return what a `state` holds.

        Raises:
            ValueError: it is no such text.
        """
        entries = json.loads(state)
        if not (isinstance(entries, list) and all(isinstance(entry, list) and len(entry) == 3 for entry in entries)):
            raise ValueError(f"no state of anticorrelated noise: {state!r}")
        return entries

    def load(self, entries: list[list[Any]]) -> None:
        """Set what was added and not taken away yet."""
        self._forget()
        self._write(entries)

    def leave(self, keys: frozenset[int]) -> None:
        """Forget streams whose parameters are no longer there."""
        self._resolve()
        rest = [[t, sigma, [key for key in some if key not in keys]] for t, sigma, some in self._read()]
        self._write([entry for entry in rest if entry[2]])

    def remove(self) -> None:
        """Take the hooks off the optimizer."""
        self._resolve()
        for hook in self._hooks:
            hook.remove()

    def _resolve(self) -> None:
        if self._unsure is not None:
            (t, entries), self._unsure = self._unsure, None
            if max(group.get(CLOCK, 0) for group in self._optimizer.param_groups) > t:
                self._write(entries)

    def _forget(self) -> None:
        self._now = self._unsure = None
        self._taken = -1, {}

    def _read(self) -> list[list[Any]]:
        found = next((group[ADDED] for group in self._optimizer.param_groups if ADDED in group), [])
        return json.loads(found) if isinstance(found, str) else found  # text: a state was loaded

    def _put_into(self, state: dict[str, Any]) -> None:
        text = self.state()
        for group in state["param_groups"]:
            group[ADDED] = text

    def _write(self, entries: list[list[Any]]) -> None:
        for group in self._optimizer.param_groups:
            group[ADDED] = entries  # a new list, never a changed one: state dicts hold the one before


def taking(groups: Sequence[Group], left: AllLeft, scale: Tensor | None, rows: Rows) -> list[Dose]:
    """Return the doses that take away what is left on those parameters that have a gradient.

    Args:
        groups: their streams.
        left: see `Added.left`.
        scale: loss scale that gradients carry.
        rows: of sparse gradients.

    Raises:
        NotImplementedError: a gradient is sparse, and only its rows get noise: those that are not in the next one
            would keep it.
    """
    alike: dict[tuple[int, float | int], tuple[Left, list[Stream], list[Any]]] = {}
    for group in groups:
        for stream, gradient in zip(group.streams, group.gradients, strict=True):
            if rows == "present" and gradient.layout is torch.sparse_coo:
                raise NotImplementedError(
                    f"anti_pgd takes the noise of an update away in the next one, whose sparse gradient of"
                    f" {stream.name!r} has other rows; attach with rows='all', or leave this parameter out with `where`"
                )
            if (one := left.get(stream.key)) is not None:
                place = one.t, id(one.sigma) if isinstance(one.sigma, Tensor) else one.sigma
                _, streams, gradients = alike.setdefault(place, (one, [], []))
                streams.append(stream)
                gradients.append(gradient)
    return [Dose(streams, gradients, one.t, *_negative(one.sigma, scale)) for one, streams, gradients in alike.values()]


def _negative(sigma: float | Tensor, scale: Tensor | None) -> tuple[float, Tensor]:
    """Return a number and a 0-dim tensor whose product is -sigma times the loss scale."""
    if isinstance(sigma, Tensor):
        return 1.0, -sigma if scale is None else -sigma * scale.to(sigma)
    return sigma, torch.tensor(-1.0, dtype=torch.float64, device="cpu") if scale is None else -scale


def _size(dose: Dose, scale: Tensor | None) -> float | Tensor:
    """Return the standard deviation of noise without the loss scale."""
    if not dose.relative or dose.scale is None:
        return dose.sigma
    return dose.scale if scale is None else dose.scale / scale.to(dose.scale)
