"""Whether the clock of the noise survives the optimizer's own checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from gradnoise.noise.steps.shared_groups import CLOCK
from gradnoise.noise.warning import say

_OTHER = 7_777_777
"""A clock that no training has."""


def about_saving(optimizers: Sequence[Any]) -> None:
    """Warn of an optimizer whose checkpoints do not bring the clock back: they would start the noise anew.

    It is tried: a twin of the optimizer is given a clock, saved and loaded. The optimizer itself is left alone.

    Args:
        optimizers: as they wrap each other, the one that makes the updates last; the first is what gets saved.
    """
    outer, inner = optimizers[0], optimizers[-1]
    kind = type(outer)
    if outer is inner and kind.state_dict is Optimizer.state_dict and kind.load_state_dict is Optimizer.load_state_dict:
        return
    if not (hasattr(outer, "state_dict") and hasattr(outer, "load_state_dict")):
        return  # what it wraps is what gets saved
    try:
        state = outer.state_dict()
    except Exception:  # some have no state before the first update; then nothing can be told
        return
    if not _mentions(state):
        _warn(outer, "state_dict() of {} does not keep the clock of the noise")
    elif not _comes_back(optimizers):
        _warn(outer, "load_state_dict() of {} does not bring back the clock of the noise")


def _warn(outer: Any, what: str) -> None:
    say(
        f"{what.format(type(outer).__name__)}, which would start anew when a checkpoint is loaded; save the"
        " state_dict() of the handle that attach returns, too, and load it after the optimizer's"
    )


def _mentions(state: Any) -> bool:
    if isinstance(state, Mapping):
        return any(str(key).endswith(CLOCK) or _mentions(value) for key, value in state.items())
    return isinstance(state, (list, tuple)) and any(map(_mentions, state))


def _comes_back(optimizers: Sequence[Any]) -> bool:
    """Tell whether a twin that is saved with another clock has that clock again when it has been loaded."""
    try:
        outer, inner = _twins(optimizers)
        _set_clock(inner, _OTHER)
        state = outer.state_dict()
        _set_clock(inner, 0)
        outer.load_state_dict(state)
        return any(group.get(CLOCK) == _OTHER for group in inner.param_groups)
    except Exception:  # a twin lacks what only the real one has
        return True


def _set_clock(optimizer: Optimizer, t: int) -> None:
    for group in optimizer.param_groups:
        group[CLOCK] = t


def _twins(optimizers: Sequence[Any]) -> tuple[Any, Any]:
    """Return copies of the first and the last of a chain, with the parameters and tensors of the originals.

    Groups and states are copied as they are shared: what is one object in the originals is one in the copies.
    """
    copies: dict[int, Any] = {id(x): object.__new__(type(x)) for x in optimizers}

    def copied(value: Any) -> Any:
        if id(value) in copies:
            return copies[id(value)]
        if isinstance(value, list) and all(isinstance(item, dict) or id(item) in copies for item in value):
            copies[id(value)] = new = [copied(item) for item in value]
        elif isinstance(value, dict):
            copies[id(value)] = new = value.copy()
            new.update((key, copied(item)) for key, item in value.items() if isinstance(item, dict))
        else:
            return value
        return new

    for x in optimizers:
        for name, value in vars(x).items():
            # Hooks belong to the originals, and so do those of noise, which settle their clock.
            plain = type(value)() if name.endswith("_hooks") and isinstance(value, dict) else copied(value)
            object.__setattr__(copies[id(x)], name, plain)
    return copies[id(optimizers[0])], copies[id(optimizers[-1])]
