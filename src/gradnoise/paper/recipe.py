"""Recipes: the few plain values in a store from which its study can be built again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAIN_SCALE = "paper"


@dataclass(frozen=True)
class Recipe:
    """What was asked of a system.

    Args:
        system, study, scale: names.
        seeds: number of seeds; None for the scale's own.
        steps: length of a run in the system's unit; None for the scale's own.
        data: name of the data, or an absolute path of a folder.
        rows, arms: only these; empty for all.
        eval_every: length between evaluations in the system's unit; None for the scale's own.
        options: of the system's own options those that are not at their default.
    """

    system: str
    study: str
    scale: str
    seeds: int | None = None
    steps: int | None = None
    data: str = "auto"
    rows: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    eval_every: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def label(self, main_study: str) -> str:
        """Return what stores and folders call study and scale: "smoke" of the main study, "ablations-smoke" of another.

        At the paper's scale another study is called by its name alone, as in the stores that there are.
        """
        if self.study == main_study:
            return self.scale
        return self.study if self.scale == MAIN_SCALE else f"{self.study}-{self.scale}"

    def plain(self) -> dict[str, Any]:
        """Return the values as a store keeps them."""
        return dataclasses.asdict(self)
