"""Which torch optimizer makes the updates: the one inside wrappers, and inside optimizers that drive another one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

#: Attributes under which wrappers keep what they wrap, which may be a wrapper again.
USUAL = ("optimizer", "original_optimizer", "base_optimizer")


def chain(optimizer: Any) -> list[Any]:
    """Return the optimizer, what it wraps, what that wraps, and so on; the last one's `step` makes the updates.

    It is found inside wrappers (Accelerate, Opacus), and inside optimizers that hand all their parameters to another
    one: SAM's `first_step` and `second_step`, Lookahead and schedule-free wrappers never call the outer `step`, or call
    the inner one after work of their own on the gradients.

    Raises:
        ValueError: there is none, or it is not clear which one.
    """
    if isinstance(optimizer, LRScheduler):
        raise ValueError(
            f"noise attaches to an optimizer, got the learning-rate scheduler {type(optimizer).__name__}; pass the"
            " optimizer that it was made for"
        )
    found: list[Any] = []
    current = optimizer
    while not any(current is x for x in found):
        found.append(current)
        inside = list(_inside(current))
        if len(inside) > 1:
            names = ", ".join(sorted(name for name, _ in inside))
            raise ValueError(
                f"{type(current).__name__} keeps several optimizers ({names}); attach noise to each of them, with"
                " named_parameters or seeds of their own"
            )
        if not inside:
            break
        current = inside[0][1]
    if not is_ready(found[-1]):
        raise ValueError(
            "noise attaches to a torch.optim.Optimizer, or to a wrapper with one as its attribute `optimizer`, got"
            f" {type(optimizer).__name__}; pass the torch optimizer itself"
        )
    return found


def innermost(optimizer: Any) -> Optimizer:
    """Return the optimizer whose `step` makes the updates: the end of the `chain`.

    Raises:
        ValueError: there is none, or it is not clear which one.
    """
    return chain(optimizer)[-1]


def is_ready(x: Any) -> bool:
    """Tell whether x is a torch optimizer whose __init__ has run: without it there are no hooks, or only some."""
    return (
        isinstance(x, Optimizer) and {"_optimizer_step_pre_hooks", "_optimizer_state_dict_pre_hooks"} <= vars(x).keys()
    )


def _inside(x: Any) -> Iterator[tuple[str, Any]]:
    """Yield what x wraps: optimizers among its attributes, of an optimizer those that update all its parameters."""
    ready = is_ready(x)
    attributes = {name: getattr(x, name) for kind in type(x).__mro__ for name in _slots(kind) if hasattr(x, name)}
    attributes |= vars(x) if hasattr(x, "__dict__") else {}
    if not ready:
        for name in USUAL:
            if (inner := getattr(x, name, None)) is not None:
                attributes.setdefault(name, inner)
        usual = [(n, attributes[n]) for n in USUAL if attributes.get(n) is not None]
        if usual:
            yield usual[0]
            return
    different: dict[int, tuple[str, Any]] = {}
    for name, value in _flattened(attributes):
        if value is not x and (_updates_all(value, x) if ready else _steps(value)):
            different.setdefault(id(_last(value)), (name, value))
    yield from different.values()


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _flattened(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield attributes, and what stands in those that are lists or dictionaries."""
    for name, value in attributes.items():
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}[{i}]", item) for i, item in enumerate(value))
        elif isinstance(value, Mapping):
            yield from ((f"{name}[{key!r}]" if isinstance(key, str) else name, item) for key, item in value.items())
        else:
            yield name, value


def _steps(x: Any) -> bool:
    """Tell whether x is an optimizer, or a wrapper that behaves like one; schedulers of learning rates do not."""
    return is_ready(x) or all(callable(getattr(x, name, None)) for name in ("step", "zero_grad"))


def _updates_all(x: Any, outer: Optimizer) -> bool:
    """Tell whether x is an optimizer of all parameters of another one."""
    return is_ready(x) and _parameters(outer) <= _parameters(x)


def _last(x: Any) -> Any:
    """Return the end of the chain, or x itself where that is not clear."""
    try:
        return chain(x)[-1]
    except ValueError:
        return x


def _parameters(optimizer: Optimizer) -> set[Tensor]:
    return {p for group in optimizer.param_groups for p in group["params"]}


# --- the step that is hooked ----------------------------------------------------------------------


def hook_steps(optimizer: Optimizer) -> None:
    """Have the hooks of noise called in every `step` that an optimizer's classes define, and in one of its own.

    torch calls hooks in the `step` of a class of which an instance was made. In one that is inherited from, or set
    later, only those of noise are called: hooks of others run as often as without noise.
    """
    for kind in type(optimizer).__mro__:
        step = vars(kind).get("step")
        if isinstance(step, FunctionType) and kind is not Optimizer and not _is_hooked(step):
            kind.step = _noticed(step)  # pyright: ignore[reportAttributeAccessIssue]
    own = vars(optimizer).get("step")
    if own is not None and not _is_hooked(own):

        @functools.wraps(own)
        def replaced(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
            return own(*args, **kwargs)

        optimizer.step = MethodType(_noticed(replaced), optimizer)  # pyright: ignore[reportAttributeAccessIssue]


def _noticed(func: Any) -> Any:
    """Return a `step` around which the hooks of noise are called, and no others."""

    @functools.wraps(func)
    def step(*args: Any, **kwargs: Any) -> Any:
        optimizer = args[0]
        for hook in list(getattr(optimizer, "_optimizer_step_pre_hooks", {}).values()):
            if getattr(hook, "of_noise", False) and (new := hook(optimizer, args, kwargs)) is not None:
                args, kwargs = new
        result = func(*args, **kwargs)
        for hook in list(getattr(optimizer, "_optimizer_step_post_hooks", {}).values()):
            if getattr(hook, "of_noise", False):
                hook(optimizer, args, kwargs)
        return result

    step.noticed = True  # pyright: ignore[reportAttributeAccessIssue]
    return step


def _is_hooked(step: Any) -> bool:
    """Tell whether a step is hooked, also under wrappers such as those of learning-rate schedulers."""
    while step is not None:
        if getattr(step, "hooked", False) or getattr(step, "noticed", False):  # torch's mark, and ours
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
    while hooked is not None and hooked is not step:
        hooked = getattr(hooked, "__wrapped__", None)
    return hooked is not None
