"""Updates in turns: networks of one model that are trained one after the other, such as the two of a GAN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradnoise.errors import PopulationError, nearest
from gradnoise.given import shown
from gradnoise.population.patterns import idle, named

#: Settings of the engine that may be given by turn, {"d": ..., "g": ...}; a turn that is left out has none of it, but
#: lr and optimizer name all turns.
BY_TURN = ("noise", "clip", "weight_noise", "lr", "optimizer")
_NEEDED = ("lr", "optimizer")


@dataclass(frozen=True)
class Turn:
    """Parameters that are updated together, by an optimizer and with a noise clock of their own.

    Args:
        name: how the loss and settings call it; a Python name.
        parameters: patterns of parameters' names, `*` stands for any text; left out, those of the model's attribute
            `name`.
        updates: how many there are before the next turn.

    Raises:
        PopulationError: the name is none, there are no patterns, or no update.

    Example, a critic with five updates for one of the generator:
        >>> turns = (Turn("critic", updates=5), Turn("generator"))
    """

    name: str
    parameters: tuple[str, ...] = ()
    updates: int = 1

    def __post_init__(self) -> None:
        """Check the settings; one pattern alone and a list become a tuple."""
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            raise PopulationError(f"a turn is called {shown(self.name)}; give it a name such as 'd'")
        given = (self.parameters,) if isinstance(self.parameters, str) else tuple(self.parameters)
        object.__setattr__(self, "parameters", given or (f"{self.name}.*",))
        if isinstance(self.updates, bool) or not isinstance(self.updates, int) or self.updates < 1:
            raise PopulationError(f"turn {self.name!r} has updates = {shown(self.updates)}; it is a whole number >= 1")

    def has(self, parameter: str) -> bool:
        """Say whether a parameter is updated here."""
        return named(parameter, self.parameters)


@dataclass(frozen=True)
class Round:
    """The turns of an experiment in order; one of all parameters where it names none.

    Args:
        turns: the turns.
        named: whether the experiment named them.
    """

    turns: tuple[Turn, ...]
    named: bool = True

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> Round:
        """Return the round of an experiment's `turns`.

        Raises:
            PopulationError: they are no turns, or two have one name.
        """
        if not isinstance(turns, tuple | list) or not all(isinstance(turn, Turn) for turn in turns):
            raise PopulationError(f'turns = {shown(turns)}: give a tuple of turns, such as (Turn("d"), Turn("g"))')
        names = [turn.name for turn in turns]
        if twice := [name for name in names if names.count(name) > 1]:
            raise PopulationError(f"two turns are called {twice[0]!r}; for several updates say Turn(..., updates=2)")
        return cls(tuple(turns)) if turns else cls((Turn("all", ("*",)),), named=False)

    @property
    def updates(self) -> int:
        """Updates until the first turn comes again."""
        return sum(turn.updates for turn in self.turns)

    def at(self, t: int) -> int:
        """Return the number of the turn that update t = 0, 1, ... belongs to."""
        left = t % self.updates
        for k, turn in enumerate(self.turns):
            if left < turn.updates:
                return k
            left -= turn.updates
        raise AssertionError("the turns fill a round")

    def done(self, k: int, t: int) -> int:
        """Return how many of the first t updates belong to turn k: its clock."""
        whole, left = divmod(t, self.updates)
        before = sum(turn.updates for turn in self.turns[:k])
        return whole * self.turns[k].updates + min(max(left - before, 0), self.turns[k].updates)

    def turn_of(self, parameter: str) -> int:
        """Return the number of the turn that updates a parameter.

        Raises:
            PopulationError: none does, or several do.
        """
        found = [k for k, turn in enumerate(self.turns) if turn.has(parameter)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise PopulationError(
                f"parameter {parameter!r} is updated in no turn: {self._patterns()}; name it in one, or freeze it with"
                " requires_grad_(False)"
            )
        names = " and ".join(self.turns[k].name for k in found)
        raise PopulationError(
            f"parameter {parameter!r} is updated in the turns {names}; a population updates it in one"
        )

    def check_parameters(self, names: Sequence[str]) -> None:
        """Refuse a pattern that names no parameter.

        Raises:
            PopulationError: one does.
        """
        for turn in self.turns:
            if (pattern := idle(turn.parameters, names)) is not None:
                raise PopulationError(
                    f"turn {turn.name!r} updates {pattern!r}, and the model has no trainable parameter of that"
                    f" name: there are {', '.join(names)}{nearest(pattern, names)}"
                )

    def _patterns(self) -> str:
        return ", ".join(f"{turn.name!r} has {', '.join(turn.parameters)}" for turn in self.turns)

    # --- settings -------------------------------------------------------------------------------------

    def by_turn(self, setting: str, value: Any) -> bool:
        """Say whether the value of a setting is one of each turn.

        Raises:
            PopulationError: it names another turn, or leaves one out that needs a value.
        """
        if not (self.named and isinstance(value, Mapping) and setting in BY_TURN):
            return False
        names = [turn.name for turn in self.turns]
        for name in value:
            if name not in names:
                raise PopulationError(
                    f"{setting} = {shown(value)}: there is no turn {name!r}{nearest(str(name), names)}; there are"
                    f" {', '.join(names)}"
                )
        if setting in _NEEDED and (missing := [name for name in names if name not in value]):
            raise PopulationError(f"{setting} = {shown(value)} says nothing of turn {missing[0]!r}; give one for each")
        return True

    def during(self, turn: Turn, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of one turn."""
        return {name: value.get(turn.name) if self.by_turn(name, value) else value for name, value in settings.items()}
