"""A population that is timed for a plan, and can then be taken back to where it began, so that it is made only once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradnoise.population import Population


@dataclass(frozen=True)
class Begun:
    """A population after its first update.

    Args:
        population: it.
        before: its state before that update, a copy; None where it cannot go back.
        seconds: from its making to the end of that update.
    """

    population: Population
    before: Mapping[str, Any] | None
    seconds: float

    @classmethod
    def of(cls, build: Callable[[], Population], *, keep: bool) -> Begun:
        """Make a population and do its first update.

        Args:
            build: makes it.
            keep: its first state, which takes memory.
        """
        started = time.monotonic()
        population = build()
        before = copy.deepcopy(population.state_dict()) if keep else None
        population.step()
        return cls(population, before, time.monotonic() - started)

    def rewound(self) -> bool:
        """Take the population back to where it began, and say whether it is as if it had just been made.

        It is not where Python code runs in every update and may have kept something, nor where a replica has ended.
        """
        if self.before is None or not self.population.recorded or self.population.alive != self.before["alive"]:
            return False
        self.population.load_state_dict(self.before)
        return True
