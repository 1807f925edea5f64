"""Runs code once per update of a torch optimizer: after clipping and accumulation, right before the update."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import __file__ as OPTIMIZER_FILE

from gradnoise.noise.clock import Clock

AddNoise = Callable[[int, "Tensor | None"], None]
"""Adds the noise of update t, times a loss scale if that is given, to the gradients."""


class BeforeUpdate:
    """Calls `add(t, scale)` once per `optimizer.step()`, however the step comes about.

    - A closure runs backward within `step`: noise is added after each call of it, with one t.
    - A subclass whose `step` calls `super().step()` runs hooks twice: the inner one is ignored.
    - A fused optimizer under GradScaler gets gradients that still carry the loss scale, which is passed on; an
      update that it skips for an overflow is not counted.
    - Distributed checkpointing makes a step that moves nothing, so that the optimizer allocates its state: that
      is no update.

    Args:
        optimizer: whose steps.
        add: called with t and loss scale.
    """

    def __init__(self, optimizer: Optimizer, add: AddNoise) -> None:
        self.clock = Clock(optimizer)
        self._running: FrameType | None = None  # the call of `step` that is under way
        # In a compiled step these run as plain Python, between compiled pieces; a closure is compiled as ever.
        self._add, before, after = (cast(Any, torch.compiler.disable(f)) for f in (add, self._before, self._after))
        self._hooks = optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)

    def remove(self) -> None:
        """Take the hooks off the optimizer."""
        for hook in self._hooks:
            hook.remove()
        self.clock.remove()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        # A frame tells a step within a step, and unlike a flag it is not left standing by a step that raised.
        if self._running is not None and _is_on_stack(self._running):
            return None
        self._running = _step_frame()
        if kwargs.get("grad_scaler") is not None:
            raise NotImplementedError(
                f"{type(optimizer).__name__}.step takes a GradScaler as an argument, a protocol that torch gave up and"
                " that does not tell the loss scale; call scaler.unscale_(optimizer), then optimizer.step()"
            )
        if _is_rehearsal(optimizer):
            return None
        t = self.clock.t
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            scale = getattr(optimizer, "grad_scale", None)
            self._add(t, scale if isinstance(scale, Tensor) else None)
        self.clock.advance(getattr(optimizer, "found_inf", None))
        if not callable(closure):
            return None

        def noisy() -> Any:
            loss = closure()
            self._add(t, None)
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": noisy}
        return (args[0], noisy, *args[2:]), kwargs

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if _step_frame() is self._running:
            self._running = None


def _step_frame() -> FrameType | None:
    """Return the frame in which torch calls the hooks of `step`."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename != OPTIMIZER_FILE:
        frame = frame.f_back
    return frame


def _is_on_stack(frame: FrameType) -> bool:
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is not None


def _is_rehearsal(optimizer: Optimizer) -> bool:
    """Recognize a step that moves nothing: every learning rate and every gradient is 0."""
    groups = optimizer.param_groups
    if any(_moves(group.get("lr", 1)) for group in groups):
        return False
    gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    return bool(gradients) and not any(_any(g) for g in gradients)


def _moves(rate: float | Tensor) -> bool:
    """Tell whether a learning rate is not 0; one on a device is not read, for that would wait for the device."""
    return (isinstance(rate, Tensor) and not rate.is_cpu) or bool(rate != 0)


def _any(gradient: Tensor) -> bool:
    """Tell whether an element is not 0, on whichever rank it lies."""
    found = (gradient._values() if gradient.layout == torch.sparse_coo else gradient).any()
    return bool(getattr(found, "full_tensor", lambda: found)())
