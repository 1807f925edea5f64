"""States that a course or a goal keeps for each replica, as one for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradnoise.errors import PopulationError
from gradnoise.population.course import State


def stacked(
    states: Sequence[dict[str, Any]], whose: str, device: torch.device, dtype: torch.dtype | None = None
) -> State:
    """Return the states of P replicas as [P, ...] each.

    Args:
        states: what `start` returned for each.
        whose: "course" or "goal", for messages.
        device: where they are wanted.
        dtype: of real numbers there; None for their own.

    Raises:
        PopulationError: an entry is no tensor, or replicas differ in names or shapes.
    """
    first = states[0]
    for i, state in enumerate(states):
        for name, x in state.items():
            if not isinstance(x, Tensor):
                raise PopulationError(
                    f"the {whose}'s `start` returned {name!r} as a {type(x).__name__}; a state holds tensors, such as"
                    " torch.tensor(1.0)"
                )
        if differing := sorted(first.keys() ^ state.keys()):
            raise PopulationError(
                f"the {whose}'s `start` returned {differing[0]!r} for one of the replicas 0 and {i} and not for the"
                " other; replicas of one population keep the same entries"
            )
        if other := [name for name, x in state.items() if x.shape != first[name].shape]:
            name = other[0]
            raise PopulationError(
                f"the {whose}'s `start` returned {name!r} of shape {list(state[name].shape)} for replica {i} and"
                f" {list(first[name].shape)} for replica 0; replicas of one population share all shapes"
            )
    found = {name: torch.stack([state[name] for state in states]) for name in first}
    return {n: x.to(device, dtype if dtype and x.is_floating_point() else x.dtype) for n, x in found.items()}
