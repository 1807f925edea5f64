"""The part of a population that one turn updates: columns of its parameters, and what belongs to them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradnoise.population.constants import Tables
from gradnoise.population.course import State
from gradnoise.population.cuda_graph import CudaGraphs
from gradnoise.population.gradients import Gradients
from gradnoise.population.optimizers import Optimizer
from gradnoise.population.replica import Replica
from gradnoise.population.stacked import StackedModules, cut
from gradnoise.population.strength import start
from gradnoise.population.turns import Round
from gradnoise.population.update import SUMS, Live, Rule
from gradnoise.population.watching import start_watching


@dataclass(frozen=True)
class Place:
    """Where the parameters of a turn lie.

    Args:
        number: of the turn.
        prefix: of the names of its states; empty where there are no turns.
        parameters: among the names.
        columns: of theta.
        names: of the parameters.
        shapes: of the parameters.
        offsets: where they lie within these columns, one more than names.
    """

    number: int
    prefix: str
    parameters: slice
    columns: slice
    names: list[str]
    shapes: list[torch.Size]
    offsets: list[int]

    def of(self, live: Live) -> Live:
        """Return what belongs to these parameters, in the same memory."""
        return replace(
            live,
            clock=live.clock[self.number],
            theta=live.theta[:, self.columns],
            optimizer=self._own(live.optimizer),
            sums=live.sums[len(SUMS) * self.number :][: len(SUMS)],
            noise=self._own(live.noise),
            watched=self._own(live.watched),
        )

    def _own(self, state: State) -> State:
        return {n.removeprefix(self.prefix): x for n, x in state.items() if n.startswith(self.prefix)}

    def named(self, state: State) -> State:
        """Return a state of these parameters under the names that the population has for it."""
        return {f"{self.prefix}{name}": x for name, x in state.items()}


def places(whole: Round, modules: StackedModules) -> list[Place]:
    """Return where the parameters of each turn lie."""
    found = []
    turns = [whole.turn_of(name) for name in modules.names]
    for k, turn in enumerate(whole.turns):
        first, end = turns.index(k), len(turns) - turns[::-1].index(k)
        start = modules.offsets[first]
        found.append(
            Place(
                number=k,
                prefix=f"{turn.name} " if whole.named else "",
                parameters=slice(first, end),
                columns=slice(start, modules.offsets[end]),
                names=modules.names[first:end],
                shapes=modules.shapes[first:end],
                offsets=[x - start for x in modules.offsets[first : end + 1]],
            )
        )
    return found


@dataclass
class Part:
    """What updates the parameters of one turn.

    Args:
        place: where they lie.
        rule: how.
        gated: whether the strength of their noise hangs on the course.
        gradients: of the turn's loss.
        graphs: of its updates.
    """

    place: Place
    rule: Rule
    gated: bool
    gradients: Gradients
    graphs: CudaGraphs

    def set_rows(self, live: Live, replicas: Sequence[Replica]) -> None:
        """Take the rows of these replicas: their states, memory for their gradients, tables of their constants."""
        self.live = self.place.of(live)
        self.g = torch.empty_like(self.live.theta, memory_format=torch.contiguous_format)
        self.segments = cut(self.g, self.place.offsets, self.place.shapes)
        self.replicas = replicas
        self.tables = Tables(replicas, self.place.names, self.place.offsets, live.theta)
        self.graphs.forget()


def first_states(
    place: Place,
    optimizer: Optimizer,
    replicas: Sequence[Replica],
    theta: Tensor,
    *,
    gated: bool,
    watched: bool,
    patience: int,
) -> tuple[State, State, State]:
    """Return states of optimizer, noise and what is watched before the first update of a turn, under their names."""
    device = theta.device
    return (
        place.named(optimizer.init(theta[:, place.columns])),
        place.named(start(replicas, gated, patience, device)),
        place.named(start_watching(len(replicas), optimizer, device) if watched else {}),
    )
