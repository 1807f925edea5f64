"""Which modules a machine has, in which order, and what each of their arguments can be taken from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

#: Number of arguments of each module; those of the paper that a module ignores are left out.
ARITY = {
    "read": 1,
    "zero": 0,
    "one": 0,
    "two": 0,
    "inc": 1,
    "add": 2,
    "sub": 2,
    "dec": 1,
    "less-than": 2,
    "less-or-equal": 2,
    "equality-test": 2,
    "min": 2,
    "max": 2,
    "write": 2,
}
MODULES = tuple(ARITY)
"""One pass over the modules in the paper's order."""


@dataclass(frozen=True)
class Wiring:
    """The choices that a controller makes in one time step.

    Module i of Q can take its arguments from the R registers and the outputs of modules 0..i-1; every register
    is overwritten with a choice among all R + Q sources. A choice is a distribution over its sources.

    Args:
        registers: R >= 1.
        passes: K >= 1, how often the modules run in a time step.
        modules: one pass, in order; needs "read" and "write".

    Raises:
        ValueError: an argument is out of range or a module is unknown.
    """

    registers: int
    passes: int = 1
    modules: tuple[str, ...] = MODULES

    def __post_init__(self) -> None:
        """Check ranges and names."""
        for name, value in (("registers R", self.registers), ("passes K", self.passes)):
            if value < 1:
                raise ValueError(f"{name} = {value}: a machine needs at least 1")
        if unknown := [m for m in self.modules if m not in ARITY]:
            raise ValueError(f"unknown module {unknown[0]!r}: there are {', '.join(ARITY)}")
        for needed in ("read", "write"):
            if needed not in self.modules:
                raise ValueError(f"no module {needed!r}: without it a machine cannot use its memory")

    @cached_property
    def sequence(self) -> tuple[str, ...]:
        """The Q modules of a time step, in order."""
        return self.modules * self.passes

    @cached_property
    def codes(self) -> list[int]:
        """The modules as places in `MODULES`, for compiled code."""
        return [MODULES.index(m) for m in self.sequence]

    @cached_property
    def sizes(self) -> list[int]:
        """Number of sources of each choice: the arguments in module order, then the new registers."""
        arguments = [self.registers + i for i, m in enumerate(self.sequence) for _ in range(ARITY[m])]
        return arguments + [self.registers + len(self.sequence)] * self.registers

    @cached_property
    def logits(self) -> int:
        """Length of what the controller emits: one logit for each source of each choice."""
        return sum(self.sizes)
