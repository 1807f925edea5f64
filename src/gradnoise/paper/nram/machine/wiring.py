"""Which modules a machine has, in which order, and what each of their arguments can be taken from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gradnoise.errors import PopulationError, nearest
from gradnoise.paper.nram.machine.modules_table import MODULES, TABLE, Module


@dataclass(frozen=True)
class Wiring:
    """The choices that a controller makes in one time step.

    Module i of Q can take its arguments from the R registers and the outputs of modules 0..i-1; every register
    is overwritten with a choice among all R + Q sources. A choice is a distribution over its sources.

    Args:
        registers: R >= 1.
        passes: K >= 1, how often the modules run in a time step.
        modules: names of one pass, in order; needs "read" and "write".

    Raises:
        PopulationError: an argument is out of range or a module is unknown.
    """

    registers: int
    passes: int = 1
    modules: tuple[str, ...] = MODULES

    def __post_init__(self) -> None:
        """Check ranges and names."""
        for name, value in (("registers R", self.registers), ("passes K", self.passes)):
            if value < 1:
                raise PopulationError(f"{name} = {value}: a machine needs at least 1")
        for name in self.modules:
            if name not in TABLE:
                raise PopulationError(f"unknown module {name!r}: there are {', '.join(TABLE)}{nearest(name, TABLE)}")
        for needed in ("read", "write"):
            if needed not in self.modules:
                raise PopulationError(f"no module {needed!r}: without it a machine cannot use its memory")

    @cached_property
    def sequence(self) -> tuple[Module, ...]:
        """The Q modules of a time step, in order."""
        return tuple(TABLE[name] for name in self.modules * self.passes)

    @cached_property
    def sizes(self) -> list[int]:
        """Number of sources of each choice: the arguments in module order, then the new registers."""
        arguments = [self.registers + i for i, module in enumerate(self.sequence) for _ in range(module.arity)]
        return arguments + [self.registers + len(self.sequence)] * self.registers

    @cached_property
    def logits(self) -> int:
        """Length of what the controller emits: one logit for each source of each choice."""
        return sum(self.sizes)
