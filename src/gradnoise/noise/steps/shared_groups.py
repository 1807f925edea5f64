"""Notices an optimizer whose parameter groups hold the clock of another one.

torch's optimizers keep the very dictionaries that they are given as groups. Who makes a second optimizer of the same
list, or of `other.param_groups`, shares them and the clock in them: it counts for both, or goes on where a run ended.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from gradnoise.noise.warning import say

CLOCK = "gradnoise_t"
"""Key of the clock in `optimizer.param_groups`.

There it is part of the optimizer's state dict, of distributed checkpoints too, and stays an integer where
per-parameter state would be cast to a model's bfloat16.
"""

LEFT = "gradnoise_left"
"""Key in a group that has outlived its optimizer."""

_counting: weakref.WeakKeyDictionary[Optimizer, weakref.finalize[Any, Any]] = weakref.WeakKeyDictionary()


def move_in(optimizer: Optimizer) -> None:
    """Take note that an optimizer's groups hold a clock of its own; again after a load, which makes new ones."""
    for group in optimizer.param_groups:
        group.pop(LEFT, None)
    if (before := _counting.get(optimizer)) is not None:
        before.detach()
    _counting[optimizer] = farewell = weakref.finalize(optimizer, _leave, optimizer.param_groups)
    farewell.atexit = False


def _leave(groups: list[dict[str, Any]]) -> None:
    for group in groups:
        if CLOCK in group:
            group[LEFT] = True


def about_groups(optimizer: Optimizer, attached: Callable[[Optimizer], bool]) -> None:
    """Warn of groups that are, or were, those of another optimizer with noise.

    Args:
        optimizer: that is about to get noise.
        attached: tells whether an optimizer has noise now.
    """
    here = {id(group) for group in optimizer.param_groups}
    others = [o for o in list(_counting) if o is not optimizer and here & set(map(id, o.param_groups))]
    t = max((group.get(CLOCK, 0) for group in optimizer.param_groups), default=0)
    both = any(map(attached, others))
    if both or (t and (others or any(LEFT in group for group in optimizer.param_groups))):
        say(
            f"this optimizer was made of the parameter groups of another one with noise, and takes over its clock:"
            f" t = {t}{', which now counts the updates of both' if both else ''}; make the groups anew for each"
            " optimizer, as in SGD([{'params': model.parameters()}], lr=0.1), since torch keeps the dictionaries it is"
            " given"
        )
