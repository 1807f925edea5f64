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

from gradnoise.noise.steps.clock import Clock
from gradnoise.noise.steps.closures import Closures, Place
from gradnoise.noise.steps.innermost import __file__ as INNER_FILE
from gradnoise.noise.steps.innermost import defers, hook_steps
from gradnoise.noise.warning import say

AddNoise = Callable[[int, "Tensor | None"], bool]
"""Adds the noise of update t, times a loss scale if that is given, to the gradients; says whether there were any."""


class BeforeUpdate:
    """Calls `add(t, scale)` once per `optimizer.step()`, however the step comes about.

    - A closure runs backward within `step`: noise is added after each call of it, with one t.
    - A subclass whose `step` calls `super().step()` runs hooks twice: noise is added in the inner call, after what the
      subclass does to the gradients.
    - A fused optimizer under GradScaler gets gradients that still carry the loss scale, which is passed on; an
      update that it skips for an overflow is not counted.
    - Steps within one backward pass, one for each parameter as its gradient is made, are one update.
    - An update is counted when it is made: not one that raised, nor one that found no gradient.
    - Distributed checkpointing and DeepSpeed make a step that moves nothing, so that the optimizer allocates its
      state: that is no update.

    Args:
        optimizer: whose steps.
        add: called with t and loss scale.
        made: called when a step has ended without an exception: whether it found gradients, t, and, where the device
            decides whether the update was skipped for an overflow, a 0-dim tensor that is not 0 then.
    """

    def __init__(self, optimizer: Optimizer, add: AddNoise, made: Callable[[bool, int, Tensor | None], None]) -> None:
        hook_steps(optimizer)
        self.clock, self._made = Clock(optimizer), made
        self._running: FrameType | None = None  # the call of `step` that is under way
        self._waits = False  # whether it leaves the update, and so the noise, to a step that it inherits
        self._found: bool | None = None  # whether it found gradients; None before it looked, or for no update
        self._closures = Closures()
        self._awaited: list[Place] = []  # where it has functions without which there is no noise
        self._told: set[str] = set()
        self._pass = -1, 0  # the backward pass within which a step was last made, and its t
        # In a compiled step these run as plain Python, between compiled pieces; a closure is compiled as ever.
        self._add, self._add_after_closure = add, cast(Any, torch.compiler.disable(add))
        before, after = (cast(Any, torch.compiler.disable(f)) for f in (self._before, self._after))
        before.of_noise = after.of_noise = True
        self._hooks = optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)

    @property
    def running(self) -> bool:
        """Tell whether a step is under way."""
        return self._running is not None and _is_under_way(self._running)

    def remove(self) -> None:
        """Take the hooks off the optimizer."""
        for hook in self._hooks:
            hook.remove()
        self.clock.remove()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        frame = _step_frame()
        # A frame tells a step within a step, and unlike a flag it is not left standing by a step that raised.
        if self._running is not None and _is_on_stack(self._running):
            if not self._waits:
                return None
        else:
            self._running, self._found, self._waits, self._awaited = frame, None, False, []
            _refuse_what_cannot_be_told(optimizer, kwargs)
            if _has_no_numbers(optimizer) or _is_rehearsal(optimizer):
                return None
        step = None if frame is None else frame.f_locals.get("func")
        self._waits = defers(optimizer, step)
        return None if self._waits else self._noisy(optimizer, args, kwargs, step)

    def _noisy(self, optimizer: Optimizer, args: Any, kwargs: Any, step: Any) -> tuple[Any, Any] | None:
        """Add noise now, or have it added whenever the step's closure has run."""
        t = self._t()
        functions = self._closures.among(step, args, kwargs)
        self._awaited = [place for place in functions if self._closures.makes(place)]
        if not self._awaited:
            scale = getattr(optimizer, "grad_scale", None)
            self._found = self._add(t, scale if isinstance(scale, Tensor) else None)
        if not functions:
            return None
        new: dict[Place, Any] = {place: self._followed(place, f, optimizer, t) for place, f in functions.items()}
        return (
            tuple(new.get(i, x) for i, x in enumerate(args)),
            {name: new.get(name, x) for name, x in kwargs.items()},
        )

    def _followed(self, place: Place, function: Callable[..., Any], optimizer: Optimizer, t: int) -> Any:
        """Return a function after whose calls noise is added: after each, or after those that made gradients."""

        def noisy(*args: Any, **kwargs: Any) -> Any:
            loss = function(*args, **kwargs)
            self._found = self._add_after_closure(t, None) or bool(self._found)
            return loss

        def tried(*args: Any, **kwargs: Any) -> Any:
            before = _gradients(optimizer)
            versions = _versions(before)
            result = function(*args, **kwargs)
            after = _gradients(optimizer)
            if list(map(id, after)) != list(map(id, before)) or _versions(after) != versions:
                self._closures.made(place)
                self._found = self._add(t, None) or bool(self._found)
            return result

        return noisy if self._closures.makes(place) else torch.compiler.disable(tried)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if _step_frame() is not self._running:
            return
        self._running = None
        overflow = getattr(optimizer, "found_inf", None)
        t = self._t()
        self._made(bool(self._found), t, overflow)
        if self._found:
            self._pass = _backward_pass(), t
            if t == self.clock.t:
                self.clock.advance(overflow)
        elif self._waits:
            self._tell(
                f"{type(optimizer).__name__}.step ended without the step that it inherits, before which the noise is"
                " added; this update has no noise and is not counted"
            )
        elif self._awaited and self._found is None:
            for place in self._awaited:
                self._closures.passed_over(place)
            self._tell(
                f"{type(optimizer).__name__}.step did not call the function that it was given; this update has no noise"
                " and is not counted, and from the next one on the noise is added before the step as well"
            )
        elif self._found is False:
            self._tell(
                f"{type(optimizer).__name__}.step found no gradient on any parameter that gets noise; such a step has"
                " no noise and is not counted (an optimizer that updates within the backward pass leaves none)"
            )

    def _t(self) -> int:
        """Return t of the update that a step belongs to."""
        task, t = self._pass
        return t if task >= 0 and task == _backward_pass() else self.clock.t

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            say(what)


def _refuse_what_cannot_be_told(optimizer: Optimizer, kwargs: Any) -> None:
    if kwargs.get("grad_scaler") is not None:
        raise NotImplementedError(
            f"{type(optimizer).__name__}.step takes a GradScaler as an argument, a protocol that torch gave up and"
            " that does not tell the loss scale; call scaler.unscale_(optimizer), then optimizer.step()"
        )
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "optimizer.step() with noise cannot be recorded as a CUDA graph: every replay would add the noise of one"
            " update again; leave the step out of the graph"
        )


def _backward_pass() -> int:
    """Return the number of the backward pass within which this is called, -1 outside of one."""
    return getattr(torch._C, "_current_graph_task_id", lambda: -1)()


def _step_frame() -> FrameType | None:
    """Return the frame in which the hooks of `step` are called, by torch or by us."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename not in (OPTIMIZER_FILE, INNER_FILE):
        frame = frame.f_back
    return frame


def _is_on_stack(frame: FrameType, top: FrameType | None = None) -> bool:
    caller = sys._getframe(1) if top is None else top
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is not None


def _is_under_way(frame: FrameType) -> bool:
    """Tell whether a call has not ended; a backward pass on a GPU runs in another thread than what waits for it."""
    if _is_on_stack(frame):
        return True
    return _backward_pass() >= 0 and any(_is_on_stack(frame, top) for top in sys._current_frames().values())


def _gradients(optimizer: Optimizer) -> list[Any]:
    return [p.grad for group in optimizer.param_groups for p in group["params"]]


def _versions(gradients: list[Any]) -> list[int]:
    return [-1 if g is None else g._version for g in gradients]


def _is_rehearsal(optimizer: Optimizer) -> bool:
    """Recognize a step that moves nothing: every learning rate and every gradient is 0, or DeepSpeed makes it."""
    groups = optimizer.param_groups
    if any(_moves(group.get("lr", 1)) for group in groups):
        return not optimizer.state and _is_called_by("initialize_optimizer_states")
    gradients = [g for g in _gradients(optimizer) if g is not None]
    return bool(gradients) and not any(_any(g) for g in gradients)


def _has_no_numbers(optimizer: Optimizer) -> bool:
    """Tell whether parameters have shapes alone, as estimators of memory and models that are yet to be filled have."""
    p = next((p for group in optimizer.param_groups for p in group["params"]), None)
    return p is not None and (p.is_meta or type(getattr(p, "data", p)).__name__ == "FakeTensor")


def _is_called_by(function: str) -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and function not in frame.f_code.co_name:
        frame = frame.f_back
    return frame is not None


def _moves(rate: float | Tensor) -> bool:
    """Tell whether a learning rate is not 0; one on a device is not read, for that would wait for the device."""
    return (isinstance(rate, Tensor) and not rate.is_cpu) or bool(rate != 0)


def _any(gradient: Tensor) -> bool:
    """Tell whether an element is not 0, on whichever rank it lies."""
    found = (gradient._values() if gradient.layout == torch.sparse_coo else gradient).any()
    return bool(getattr(found, "full_tensor", lambda: found)())
