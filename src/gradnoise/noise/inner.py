"""Which torch optimizer makes the updates: the one inside wrappers, and inside optimizers that drive another one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

#: Attributes under which wrappers keep what they wrap, which may be a wrapper again.
USUAL = ("optimizer", "original_optimizer", "base_optimizer")


def innermost(optimizer: Any) -> Optimizer:
    """Return the optimizer whose `step` makes the updates.

    It is found inside wrappers (Accelerate, Opacus), and inside optimizers that hand all their parameters to another
    one: SAM's `first_step` and `second_step`, Lookahead and schedule-free wrappers never call the outer `step`, or call
    the inner one after work of their own on the gradients.

    Raises:
        ValueError: there is none, or it is not clear which one.
    """
    seen: list[Any] = []
    current = optimizer
    while not any(current is x for x in seen):
        seen.append(current)
        found = list(_inside(current))
        if len(found) > 1:
            names = ", ".join(sorted(name for name, _ in found))
            raise ValueError(
                f"{type(current).__name__} keeps several optimizers ({names}); attach noise to each of them, with"
                " named_parameters or seeds of their own"
            )
        if not found:
            break
        current = found[0][1]
    if not _is_ready(current):
        raise ValueError(
            "noise attaches to a torch.optim.Optimizer, or to a wrapper with one as its attribute `optimizer`, got"
            f" {type(optimizer).__name__}; pass the torch optimizer itself"
        )
    return current


def _is_ready(x: Any) -> bool:
    """Tell whether x is a torch optimizer whose __init__ has run: without it there are no hooks."""
    return isinstance(x, Optimizer) and "_optimizer_step_pre_hooks" in vars(x)


def _inside(x: Any) -> Iterator[tuple[str, Any]]:
    """Yield what x wraps: attributes that are optimizers, of an optimizer those that update all its parameters."""
    attributes = dict(vars(x)) if hasattr(x, "__dict__") else {}
    if not _is_ready(x):
        for name in USUAL:
            inner = getattr(x, name, None)
            if inner is not None:
                attributes.setdefault(name, inner)
        usual = [(n, attributes[n]) for n in USUAL if attributes.get(n) is not None]
        if usual:
            yield usual[0]
            return
    different: dict[int, tuple[str, Any]] = {}
    for name, value in attributes.items():
        if value is not x and _is_ready(value) and (not _is_ready(x) or _parameters(x) <= _parameters(value)):
            different.setdefault(id(value), (name, value))
    yield from different.values()


def _parameters(optimizer: Optimizer) -> set[Tensor]:
    return {p for group in optimizer.param_groups for p in group["params"]}


# --- the step that is hooked ----------------------------------------------------------------------


def hook_steps(optimizer: Optimizer) -> None:
    """Make torch call the hooks of this optimizer in every `step` that its classes define, and in one of its own.

    torch hooks the `step` of a class when the first instance of that very class is made. One that is inherited from, or
    set later, may be without.
    """
    for kind in type(optimizer).__mro__:
        step = vars(kind).get("step")
        if isinstance(step, FunctionType) and kind is not Optimizer and not _is_hooked(step):
            kind.step = _hooked(step)  # pyright: ignore[reportAttributeAccessIssue]
    own = vars(optimizer).get("step")
    if own is not None and not _is_hooked(own):

        def replaced(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
            return own(*args, **kwargs)

        optimizer.step = MethodType(_hooked(replaced), optimizer)  # pyright: ignore[reportAttributeAccessIssue]


def _hooked(step: Any) -> Any:
    wrapper = Optimizer.profile_hook_step(step)
    wrapper.hooked = True  # pyright: ignore[reportFunctionMemberAccess]  torch's own mark
    return wrapper


def _is_hooked(step: Any) -> bool:
    """Tell whether a step is hooked, also under wrappers such as those of learning-rate schedulers."""
    while step is not None:
        if getattr(step, "hooked", False):
            return True
        step = getattr(step, "__func__", None) or getattr(step, "__wrapped__", None)
    return False


def defers(optimizer: Optimizer, step: Any) -> bool:
    """Tell whether this `step` of one of the optimizer's classes leaves the update to one further up, as its code says.

    What such a step does first (clip, average, skip) comes before the update, and so before the noise.
    """
    kinds = [kind for kind in type(optimizer).__mro__ if kind is not Optimizer]
    owner = next((i for i, kind in enumerate(kinds) if _is_of(vars(kind).get("step"), step)), None)
    code = getattr(inspect.unwrap(step), "__code__", None) if callable(step) else None
    if owner is None or code is None or "step" not in code.co_names:
        return False
    above = [kind for kind in kinds[owner + 1 :] if "step" in vars(kind)]
    return bool(above) and not {"super", *(kind.__name__ for kind in above)}.isdisjoint(
        (*code.co_names, *code.co_freevars)
    )


def _is_of(hooked: Any, step: Any) -> bool:
    return hooked is step or getattr(hooked, "__wrapped__", None) is step
