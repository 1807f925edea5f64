"""An optimizer that is as it was where noise could not be attached to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch.optim import Optimizer

_NONE = object()


@contextlib.contextmanager
def all_or_nothing(optimizer: Optimizer) -> Iterator[None]:
    """Take hooks, options of parameter groups and a `step` of its own back where what runs in this context raises.

    A warning may raise as well, where filters make errors of them.
    """
    own = vars(optimizer)
    hooks = [(held, set(held)) for name, held in own.items() if name.endswith("_hooks") and isinstance(held, dict)]
    groups = [(group, dict(group)) for group in optimizer.param_groups]
    step: Any = own.get("step", _NONE)
    try:
        yield
    except BaseException:
        for held, before in hooks:
            for key in held.keys() - before:
                del held[key]
        for group, before in groups:
            group.clear()
            group.update(before)
        if step is not _NONE:
            own["step"] = step
        raise
