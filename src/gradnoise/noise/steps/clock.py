"""The step clock: how many updates an optimizer has made with noise attached."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradnoise.noise.steps.shared_groups import CLOCK, move_in


class Clock:
    """Reads and advances the clock of one optimizer.

    A fused optimizer under GradScaler learns only on its device whether gradients overflowed and the update is
    skipped. From a GPU the answer is copied without waiting, ahead of the update's kernels, and the host waits for it
    when the clock is next read: by then the device is busy with the next forward and backward pass, or done with it.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._overflow: tuple[Tensor, torch.cuda.Event] | None = None
        self._hooks = (
            optimizer.register_state_dict_pre_hook(lambda _: self._settle()),
            # Otherwise a pending overflow would be subtracted from the clock that was just loaded.
            optimizer.register_load_state_dict_pre_hook(lambda *_: self._settle()),
            optimizer.register_load_state_dict_post_hook(move_in),
        )
        move_in(optimizer)
        self.t = self.t  # distributed checkpoints fill only keys that are there

    @property
    def t(self) -> int:
        """Return the updates made so far, hence the t of the next one.

        Raises:
            ValueError: a state was loaded whose clock is none.
        """
        self._settle()
        clocks = [group.get(CLOCK, 0) for group in self._optimizer.param_groups]
        for t in clocks:
            if (type(t) is not int or t < 0) and not _counts(t):
                raise ValueError(
                    f"the optimizer's state has {CLOCK} = {t!r}, and this clock of the noise is an integer >= 0, how"
                    " many updates were made; mend the checkpoint, or take the entry out of its param_groups to begin"
                    " at 0"
                )
        return max(clocks)

    @t.setter
    def t(self, value: int) -> None:
        for group in self._optimizer.param_groups:
            group[CLOCK] = value

    def advance(self, overflow: Tensor | None = None) -> None:
        """Count an update, unless `overflow` (a 0-dim tensor) is not 0."""
        t = self.t
        if overflow is not None and overflow.is_cuda:
            answer = torch.empty_like(overflow, device="cpu", pin_memory=True).copy_(overflow, non_blocking=True)
            self._overflow = answer, torch.cuda.Event()
            self._overflow[1].record(torch.cuda.current_stream(overflow.device))
        elif overflow is not None and overflow.item():
            return
        self.t = t + 1

    def _settle(self) -> None:
        if self._overflow is not None:
            answer, event = self._overflow
            self._overflow = None
            event.synchronize()
            if answer.item():
                self.t = self.t - 1

    def remove(self) -> None:
        """Settle, and take the hooks off the optimizer."""
        self._settle()
        for hook in self._hooks:
            hook.remove()


def _counts(t: Any) -> bool:
    """Tell whether a clock of another type than int, as frameworks make of it, is an integer >= 0."""
    try:
        return operator.index(t) >= 0
    except TypeError:
        return False
