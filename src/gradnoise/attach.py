"""Gaussian gradient noise on a torch optimizer: in place, after clipping, right before the update."""

from __future__ import annotations

import contextlib
import difflib
import functools
import operator
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradnoise import gaussian
from gradnoise.schedule import Schedule, sigma

CLOCK = "gradnoise_t"
"""Key of the step clock in `optimizer.param_groups`: how many updates have been made with noise attached."""

_attached: weakref.WeakSet[Optimizer] = weakref.WeakSet()


def attach(
    optimizer: Optimizer,
    schedule: Schedule,
    *,
    seed: int,
    named_parameters: Iterable[tuple[str, Tensor]] | None = None,
) -> Noise:
    """Make every `optimizer.step()` add noise to the gradients first: g <- g + sigma_t z, once per update.

    z = z(seed, parameter's name, t, index) are standard normals, sigma_t^2 = schedule(t), and t counts the
    updates from 0. The noise is added to `p.grad` itself when `step` begins, hence after accumulation and
    clipping. Where `step` gets a closure it is added after each call of it, the same z within one step.

    The clock t is stored in `optimizer.param_groups`, so `optimizer.state_dict()` carries it, and attaching
    before or after `load_state_dict` resumes the same noise. Copying or pickling an optimizer drops its
    hooks: attach to the copy again.

    Args:
        optimizer: a torch optimizer, or a wrapper that has one as its attribute `optimizer` (Accelerate) or
            `original_optimizer` (Opacus).
        schedule: t -> sigma_t^2, a variance; `Annealed`, `Fixed`, or any callable.
        seed: any integer. The same seed gives the same noise on any device.
        named_parameters: (name, parameter) pairs, as `model.named_parameters()` gives them. A parameter's
            noise then depends on its name alone, not on its place in the optimizer. Without it parameters are
            named "group.index", such as "0.3": their places in `optimizer.param_groups`.

    Returns:
        A handle to read sigma, pause, replay and detach the noise.

    Raises:
        ValueError: an argument is unusable, or noise is attached already.

    Example:
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> noise = attach(optimizer, Annealed(eta=0.01), seed=0, named_parameters=model.named_parameters())

    Source: Neelakantan et al. 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks", eq. 1.
    """
    inner = _unwrap(optimizer)
    if inner in _attached:
        raise ValueError("this optimizer has noise attached already; call detach() on its handle first")
    if not any(group["params"] for group in inner.param_groups):
        raise ValueError("this optimizer has no parameters to add noise to")
    if not callable(schedule):
        raise ValueError(f"schedule must be a callable t -> variance such as Annealed(eta=0.01), got {schedule!r}")
    noise = Noise(inner, schedule, seed, _names(named_parameters))
    _attached.add(inner)
    return noise


class Noise:
    """Handle of the noise on one optimizer, made by `attach`."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule, seed: int, names: dict[Tensor, str] | None) -> None:
        self.optimizer = optimizer
        self.schedule = schedule
        self._names = names
        self._key = functools.cache(functools.partial(gaussian.stream_key, seed))
        self._paused = False
        self._running: FrameType | None = None  # the call of `step` that is under way
        for name, _ in self._streams():  # seed, names and schedule are checked here, not in the first step
            self._key(name)
        sigma(schedule, self.step)
        self._hooks = (
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        )

    @property
    def step(self) -> int:
        """The next update's t: how many updates were made so far."""
        return max(group.get(CLOCK, 0) for group in self.optimizer.param_groups)

    @property
    def sigma(self) -> float:
        """Standard deviation of the next update's noise."""
        return sigma(self.schedule, self.step)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within this context updates get no noise. They count: the clock goes on, and noise with it."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def detach(self) -> None:
        """Remove the noise from the optimizer. The clock stays there, so attaching again goes on counting."""
        for hook in self._hooks:
            hook.remove()
        _attached.discard(self.optimizer)

    def replay(self, name: str, t: int) -> Tensor:
        """The noise that update t adds to one parameter: sigma_t z, whether or not it was paused then.

        Args:
            name: the parameter's name, as given by `named_parameters`, else "group.index".
            t: update, counted from 0.

        Returns:
            Tensor of the parameter's shape on the CPU: float64 for a float64 parameter, else float32.

        Raises:
            ValueError: no parameter has this name, or t is negative.
        """
        parameters = dict(self._streams())
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1) or list(parameters)[:1]
            raise ValueError(f"no parameter is named {name!r}; the nearest is {near[0]!r}")
        p = parameters[name]
        z = gaussian.normal(self._key(name), t, p.numel()).view(p.shape)
        dtype = torch.float64 if p.dtype == torch.float64 else torch.float32
        return torch.tensor(sigma(self.schedule, t), dtype=dtype) * z.to(dtype)

    def _streams(self) -> list[tuple[str, Tensor]]:
        """Name and parameter, in the optimizer's order."""
        places = [(f"{g}.{i}", p) for g, group in enumerate(self.optimizer.param_groups)
                  for i, p in enumerate(group["params"])]  # fmt: skip
        if self._names is None:
            return places
        for place, p in places:
            if p not in self._names:
                raise ValueError(
                    f"parameter {place} (group.index) of shape {list(p.shape)} is in the optimizer but not in"
                    " named_parameters; pass the names of all its parameters"
                )
        return [(self._names[p], p) for _, p in places]

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        # A subclass whose step calls super().step() comes here twice. A frame tells, and unlike a flag it is
        # not left standing by a step that raised.
        if self._running is not None and _is_on_stack(self._running):
            return None
        self._running = sys._getframe(1)
        _refuse_loss_scale(optimizer, kwargs)
        if self._is_rehearsal():
            return None
        t = self.step
        deviation = 0.0 if self._paused else sigma(self.schedule, t)
        add = functools.partial(self._add, t, deviation)
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            add()
        for group in optimizer.param_groups:
            group[CLOCK] = t + 1
        if not callable(closure):
            return None
        noisy = _followed_by(closure, add)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": noisy}
        return (args[0], noisy, *args[2:]), kwargs

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if sys._getframe(1) is self._running:
            self._running = None

    def _add(self, t: int, deviation: float) -> None:
        gradients, keys = [], []
        for name, p in self._streams():
            if p.grad is not None:
                _refuse_unusual(p.grad, name)
                gradients.append(p.grad)
                keys.append(self._key(name))
        gaussian.add_(gradients, keys=keys, t=t, sigma=deviation)

    def _is_rehearsal(self) -> bool:
        """True for a step that moves nothing: every learning rate and gradient is 0.

        Distributed checkpointing makes one so that the optimizer allocates its state. It is not an update.
        """
        groups = self.optimizer.param_groups
        if any(group.get("lr", 1) != 0 for group in groups):
            return False
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        return bool(gradients) and not any(g.any() for g in gradients)


def _names(named_parameters: Iterable[tuple[str, Tensor]] | None) -> dict[Tensor, str] | None:
    if named_parameters is None:
        return None
    names: dict[Tensor, str] = {}
    for name, p in named_parameters:
        names.setdefault(p, name)  # a tied parameter goes by its first name
    if len(set(names.values())) < len(names):
        repeated = next(n for n in names.values() if operator.countOf(names.values(), n) > 1)
        raise ValueError(f"named_parameters gives the name {repeated!r} to two parameters; their noise would be equal")
    return names


def _unwrap(optimizer: Any) -> Optimizer:
    """The torch optimizer inside wrappers; one whose __init__ never ran has no hooks to register."""
    inner = optimizer
    while not (isinstance(inner, Optimizer) and "_optimizer_step_pre_hooks" in vars(inner)):
        inner = getattr(inner, "optimizer", None) or getattr(inner, "original_optimizer", None)
        if inner is None:
            raise ValueError(
                "noise attaches to a torch.optim.Optimizer, or to a wrapper with one as its attribute"
                f" `optimizer`, got {type(optimizer).__name__}; pass the torch optimizer itself"
            )
    return inner


def _is_on_stack(frame: FrameType) -> bool:
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is not None


def _followed_by(closure: Callable[[], Any], add: Callable[[], None]) -> Callable[[], Any]:
    """A closure that adds noise to the gradients that `closure` leaves."""

    def noisy() -> Any:
        loss = closure()
        add()
        return loss

    return noisy


def _refuse_loss_scale(optimizer: Optimizer, kwargs: dict[str, Any]) -> None:
    scaled = any(getattr(optimizer, name, None) is not None for name in ("grad_scale", "found_inf"))
    if scaled or kwargs.get("grad_scaler") is not None:
        raise NotImplementedError(
            "a fused optimizer under GradScaler gets gradients that are still scaled, so noise would"
            " have the wrong size; build the optimizer with fused=False"
        )


def _refuse_unusual(gradient: Tensor, name: str) -> None:
    plain = type(gradient) in (Tensor, torch.nn.Parameter) and gradient.layout == torch.strided
    if not (plain and gradient.is_floating_point()):
        kind = f"{type(gradient).__name__} ({gradient.dtype}, {gradient.layout})"
        raise NotImplementedError(
            f"noise goes onto dense real gradients that are plain tensors, but that of {name!r} is a {kind};"
            " leave this parameter to an optimizer without noise"
        )
