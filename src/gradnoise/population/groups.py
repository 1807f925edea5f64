"""Parameter groups: another update rule, weight decay or learning rate for some parameters, chosen by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradnoise.errors import PopulationError, nearest
from gradnoise.population.optimizers import BeforeNoise, Optimizer, State, before_noise_of
from gradnoise.population.patterns import idle, named
from gradnoise.population.translate import as_optimizer


@dataclass(frozen=True)
class Group:
    """Some parameters and their update rule.

    Args:
        names: patterns of parameters' names, such as `"*.bias"`; `*` stands for any text.
        optimizer: update rule.
        lr: what the replica's learning rate is multiplied by here, > 0.
    """

    tag: ClassVar[str] = "gradnoise.population.groups:Group"  # in the ids of trials: never to be changed
    names: tuple[str, ...]
    optimizer: Optimizer
    lr: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings; one pattern alone and a list become a tuple, and "adam" becomes Adam()."""
        object.__setattr__(self, "optimizer", as_optimizer(self.optimizer))
        object.__setattr__(self, "names", (self.names,) if isinstance(self.names, str) else tuple(self.names))
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr = {self.lr} of a group is not a finite number > 0")

    def has(self, name: str) -> bool:
        """Say whether a parameter belongs here."""
        return named(name, self.names)


@dataclass(frozen=True)
class Groups:
    """Update rules of groups of parameters; a parameter belongs to the first group that names it, or to the rest.

    Clipping and noise see all parameters together, as in a loop with parameter groups.

    Args:
        groups: in order.
        rest: update rule of all other parameters.

    Example, no weight decay for biases and norms:
        >>> Groups((Group(("*bias", "*norm*"), AdamW(weight_decay=0.0)),), rest=AdamW(weight_decay=0.1))
    """

    tag: ClassVar[str] = "gradnoise.population.groups:Groups"
    groups: tuple[Group, ...]
    rest: Optimizer

    def __post_init__(self) -> None:
        """A list of groups, as JSON gives back, becomes a tuple, and "adam" becomes Adam()."""
        object.__setattr__(self, "rest", as_optimizer(self.rest))
        object.__setattr__(self, "groups", tuple(self.groups))

    def bound(self, names: Sequence[str], offsets: Sequence[int]) -> BoundGroups:
        """Return the rule for a model's parameters.

        Args:
            names: of the parameters.
            offsets: where they lie in a row, one more than names.

        Raises:
            PopulationError: a pattern names no parameter.
        """
        for group in self.groups:
            if (pattern := idle(group.names, names)) is not None:
                raise PopulationError(
                    f"a group of parameters names {pattern!r}, and the model has none of that name: there are"
                    f" {', '.join(names)}{nearest(pattern, names)}"
                )
        runs: list[Run] = []
        for k, name in enumerate(names):
            group = next((g for g in self.groups if g.has(name)), None)
            rule, factor = (self.rest, 1.0) if group is None else (group.optimizer, group.lr)
            start = offsets[k]
            if runs and (runs[-1].optimizer, runs[-1].lr) == (rule, factor):
                start = runs.pop().start  # neighbours are updated together
            runs.append(Run(start, offsets[k + 1], rule, factor))
        return BoundGroups(tuple(runs))

    def init(self, theta: Tensor) -> State:
        """Groups need the names of the parameters: see `bound`."""
        raise NotImplementedError("a population binds groups to the names of its parameters first")

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Groups need the names of the parameters: see `bound`."""
        raise NotImplementedError("a population binds groups to the names of its parameters first")


@dataclass(frozen=True)
class Run:
    """Neighbouring columns of theta that are updated by one rule, at `lr` times the replica's learning rate."""

    start: int
    end: int
    optimizer: Optimizer
    lr: float


@dataclass(frozen=True)
class BoundGroups:
    """`Groups` for the parameters of a model: rules work on single columns, so that each may have its own."""

    runs: tuple[Run, ...]

    def init(self, theta: Tensor) -> State:
        """Return the states of all runs, by number and name."""
        return {f"{k} {name}": x for k, part, run in self._parts(theta) for name, x in run.optimizer.init(part).items()}

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Do one update, see `Optimizer.update`."""
        for k, part, run in self._parts(theta):
            run.optimizer.update(part, g[:, run.start : run.end], _own(state, k), lr * run.lr, t)

    @property
    def before_noise(self) -> BeforeNoise | None:
        """What clips each run's columns by its own rule, see `Optimizer`; None where no rule does."""
        return self._before_noise if any(before_noise_of(run.optimizer) is not None for run in self.runs) else None

    def _before_noise(self, g: Tensor, state: State, t: Tensor) -> None:
        for k, part, run in self._parts(g):
            if (own := before_noise_of(run.optimizer)) is not None:
                own(part, _own(state, k), t)

    def _parts(self, theta: Tensor) -> Iterator[tuple[int, Tensor, Run]]:
        for k, run in enumerate(self.runs):
            yield k, theta[:, run.start : run.end], run


def _own(state: State, k: int) -> State:
    """Return the state of run k, by the names of its rule."""
    return {n.removeprefix(f"{k} "): x for n, x in state.items() if n.startswith(f"{k} ")}
