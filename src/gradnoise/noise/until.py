"""Where noise ends: at an update, or when it has become small beside the gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradnoise.noise.warning import say

Until: TypeAlias = int | float | None
"""An integer names the first update without noise; a float is a share of the gradient's norm in (0, 1]."""

ENDED = "gradnoise_ended"
"""Key in `optimizer.param_groups` of the first update without noise, where a share ends it; -1 while it goes on."""

OF = "gradnoise_ended_of"
"""Key in `optimizer.param_groups` of the noise that this end is one of."""


def check_until(until: Until) -> None:
    """Refuse what is neither an update nor a share.

    Raises:
        ValueError: it is not.
    """
    step = isinstance(until, int) and not isinstance(until, bool) and until >= 0
    share = isinstance(until, float) and 0 < until <= 1
    if not (until is None or step or share):
        raise ValueError(
            "until must be an integer >= 0, the update from which there is no noise, or a float in (0, 1], the share of"
            f" the gradient's norm under which the noise ends, got {until!r}"
        )


def last_step(until: Until) -> float:
    """Return the update from which there is no noise, infinity where no step is named."""
    return until if isinstance(until, int) else math.inf


def share_of(until: Until) -> float | None:
    """Return the share of the gradient under which noise ends, None where none is named."""
    return until if isinstance(until, float) else None


class Endings:
    """Remembers for each parameter group whether its noise has fallen under its share of the gradient.

    What an update finds out counts from the next one on. So the host need not wait for the device in the step, and
    wherever the device is the noise ends at the same update.

    Args:
        optimizer: whose parameter groups keep the answer.
        groups: indices of those whose noise ends at a share.
        noise: what tells it from other noise, whose ends do not count.
        warn: whether to warn of those.
    """

    def __init__(self, optimizer: Optimizer, groups: list[int], noise: str, warn: bool) -> None:
        self._optimizer, self.noise, self._warn = optimizer, noise, warn
        self._asked: list[tuple[int, int, Tensor, torch.cuda.Event | None]] = []
        self._hooks = (
            optimizer.register_state_dict_pre_hook(lambda _: self.settle()),
            optimizer.register_load_state_dict_pre_hook(lambda *_: self._asked.clear()),
        )
        for i in groups:  # distributed checkpoints fill only keys that are there
            self.set(i, -1 if (t := self.at(i)) is None else t)

    def ask(self, group: int, t: int, under: Tensor) -> None:
        """Let the noise of a group end after update t if `under`, a 0-dim bool on any device, is true."""
        event = None
        if under.is_cuda:
            device = under.device
            under = torch.empty_like(under, device="cpu", pin_memory=True).copy_(under, non_blocking=True)
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(device))
        self._asked.append((group, t, under, event))

    def settle(self) -> None:
        """Write down what was asked."""
        for group, t, under, event in self._asked:
            if event is not None:
                event.synchronize()
            if self.at(group) is None and bool(under):
                self.set(group, t + 1)
        self._asked.clear()

    def at(self, group: int) -> int | None:
        """Return the first update without noise of a group that is known to have ended, else None."""
        options = self._optimizer.param_groups[group]
        t, noise = options.get(ENDED, -1), options.get(OF, self.noise)
        if t >= 0 and noise != self.noise:  # left by other noise before, or loaded
            self.set(group, -1)
            if self._warn:
                say(
                    f"parameter group {group} holds the end of other noise, {noise}, after update {t - 1}; the noise of"
                    f" {self.noise} goes on"
                )
            return None
        return None if t < 0 else t

    def set(self, group: int, t: int) -> None:
        """Write down the first update without noise of a group; -1 for none."""
        self._optimizer.param_groups[group].update({ENDED: t, OF: self.noise})

    def load(self, ends: Sequence[int], noise: str) -> None:
        """Write down the ends of all groups.

        Args:
            ends: first updates without noise; -1 for none.
            noise: what these are the ends of.

        Raises:
            ValueError: there are more or fewer groups.
        """
        groups = self._optimizer.param_groups
        if len(ends) != len(groups):
            raise ValueError(
                f"the state has the ends of {len(ends)} parameter groups and this optimizer has {len(groups)} groups;"
                " load the state of an optimizer with the same groups"
            )
        for options, t in zip(groups, ends, strict=True):
            options.update({ENDED: int(t), OF: noise})

    def over(self, group: int, t: int) -> bool:
        """Tell whether a group has no noise in update t."""
        end = self.at(group)
        return end is not None and t >= end

    def remove(self) -> None:
        """Settle, and take the hooks off the optimizer."""
        self.settle()
        for hook in self._hooks:
            hook.remove()
