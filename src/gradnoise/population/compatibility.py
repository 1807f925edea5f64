"""Check that a checkpoint belongs to a population: same replicas, same tensors."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from gradnoise.errors import PopulationError

#: What only some populations keep.
SELDOM = frozenset({"noise", "watched", "goal"})


def check_same(state: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Compare a saved state with that of the population that is to take it.

    Raises:
        PopulationError: the state is of other replicas, another model, optimizer or dtype.
    """
    if missing := sorted(mine.keys() - state.keys() - SELDOM):
        raise PopulationError(f"this is no state of a population: it has no {', '.join(missing)}")
    for what, theirs, ours in (("replicas", state["replicas"], mine["replicas"]),
                               ("tensors", _layout(state), _layout(mine))):  # fmt: skip
        if theirs != ours:
            other, own = _first_difference(theirs, ours)
            raise PopulationError(
                f"the checkpoint belongs to another population: among its {what} is {other}, here {own}"
            )
    if gone := sorted(set(state["alive"]) - set(mine["alive"])):
        raise PopulationError(f"replicas {gone} of the checkpoint have left this population; build it anew")
    for name in ("t", "since"):
        if isinstance(state[name], bool) or not isinstance(state[name], int) or not 0 <= state[name] < 2**63:
            raise PopulationError(f"the checkpoint stands at {name} = {state[name]!r}; updates are counted from 0")


def _layout(state: Mapping[str, Any]) -> list[str]:
    """Return name, dtype and shape (without the replica axis) of every tensor of a state."""
    tensors = {"theta": state["theta"]}
    for part in ("fixed", "optimizer", "course", *sorted(SELDOM)):
        tensors |= {f"{part} {name}": x for name, x in state.get(part, {}).items()}
    return list(state["parameters"]) + [f"{n} {x.dtype} {tuple(x.shape[1:])}" for n, x in tensors.items()]


def _first_difference(a: Sequence[str], b: Sequence[str]) -> tuple[str, str]:
    pairs = itertools.zip_longest(a, b, fillvalue="none")
    return next(pair for pair in pairs if pair[0] != pair[1])
