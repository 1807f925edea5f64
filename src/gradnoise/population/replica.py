"""One training run inside a population: what is its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from gradnoise.population.randomness import derive_seed
from gradnoise.population.training import Training
from gradnoise.population.turns import Round, Turn


class Configurable(Protocol):
    """What makes settings of a flat configuration: an `Experiment`."""

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Parts of the model that are updated in turns."""
        ...

    def check_keys(self, names: Iterable[str]) -> None:
        """Refuse a name that is no setting."""
        ...

    def configured(self, config: Mapping[str, Any]) -> Any:
        """Return the experiment's own settings."""
        ...


@dataclass(frozen=True)
class Replica:
    """One training run inside a population.

    Args:
        seed: trial seed; decides initial weights, minibatches, dropout masks, and noise on gradients and on weights.
        training: the engine's settings.
        config: the experiment's settings: an instance of its `Config`; None for the defaults.
        study_seed: seed of the study.
        turns: the engine's settings by the name of the turn, for those that have others than `training`.

    Example:
        >>> Replica(0, Training(lr=0.1, noise=Annealed(0.01)))
    """

    seed: int
    training: Training = field(default_factory=Training)
    config: Any = None
    study_seed: int = 0
    turns: Mapping[str, Training] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Configurable, seed: int, config: Mapping[str, Any], study_seed: int = 0) -> Replica:
        """Make a replica from a flat configuration, whose keys are settings of the engine and of the experiment.

        A key that both have goes to both. Where the experiment names turns, noise, clip, lr and optimizer may be
        mappings of a turn's name to its value.

        Raises:
            PopulationError: there is no such setting, or a value is out of range.
        """
        experiment.check_keys(config)
        names = {f.name for f in fields(Training)}
        engine = {k: v for k, v in config.items() if k in names}
        whole = Round.of(experiment.turns)
        first, *others = (Training(**whole.during(turn, engine)) for turn in whole.turns)
        turns = {turn.name: own for turn, own in zip(whole.turns[1:], others, strict=True) if own != first}
        return cls(seed, first, experiment.configured(config), study_seed, turns)

    def during(self, turn: Turn) -> Replica:
        """Return the replica as the updates of one turn see it."""
        return replace(self, training=self.turns.get(turn.name, self.training), turns={})

    def seed_for(self, purpose: str) -> int:
        """Return the seed of one purpose, such as "init" or "noise"."""
        return derive_seed(self.study_seed, self.seed, purpose)

    @property
    def identity(self) -> str:
        """What a checkpoint must agree on."""
        named = {"seed": self.seed, "study_seed": self.study_seed, **self.training.identity}
        for turn, training in self.turns.items():
            named |= {f"{turn} {name}": value for name, value in training.identity.items()}
        return ", ".join(f"{name} {value}" for name, value in named.items())
