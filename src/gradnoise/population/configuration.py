"""What the replicas of a population agree on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from gradnoise.errors import PopulationError


class Agreed:
    """A configuration without the settings that differ between replicas: to read one of those is an error.

    Args:
        config: an instance of the experiment's `Config`.
        differing: names of the fields that may differ.
    """

    def __init__(self, config: Any, differing: frozenset[str]) -> None:
        self._config, self._differing = config, differing

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a copy that is being made has none of its own yet
            raise AttributeError(name)
        if name in self._differing:
            raise PopulationError(
                f"config.{name} may differ between the replicas of a population (it is in replica_keys); read it in"
                " `model`, or keep it in the state of the course"
            )
        return getattr(self._config, name)


def agreed(configs: Sequence[Any], differing: frozenset[str]) -> Any:
    """Return what some configurations agree on.

    Args:
        configs: instances of one dataclass.
        differing: names of the fields in which they may differ.

    Raises:
        PopulationError: they differ in another field.
    """
    first = configs[0]
    for field in dataclasses.fields(first):
        if field.name in differing:
            continue
        for i, config in enumerate(configs):
            if getattr(config, field.name) != getattr(first, field.name):
                raise PopulationError(
                    f"replica {i} has {field.name} = {getattr(config, field.name)!r}, replica 0 has"
                    f" {getattr(first, field.name)!r}; replicas of one population agree on it (name it in"
                    " replica_keys if it changes neither shapes nor minibatches)"
                )
    return Agreed(first, differing) if differing else first
