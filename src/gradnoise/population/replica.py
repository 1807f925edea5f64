"""One training run inside a population: what is its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gradnoise.errors import PopulationError
from gradnoise.noise.schedule import Schedule, sigma
from gradnoise.population.randomness import derive_seed

LearningRate: TypeAlias = float | Callable[[int], float]
"""A number, or a callable t -> learning rate of update t = 0, 1, 2, ..."""


@dataclass(frozen=True)
class Replica:
    """One training run inside a population.

    Args:
        seed: trial seed; decides initial weights, minibatches, dropout masks and noise.
        lr: learning rate, a finite number > 0, or a callable t -> learning rate of update t = 0, 1, ...
        noise: schedule of sigma_t^2, or None for no gradient noise.
        clip: threshold c > 0 of gradient clipping, or None for no clipping.
        dropout: rate in [0, 1) for every nn.Dropout of the model, or None to keep the model's own.
        early_stop: whether the run may end before its last update, see `Experiment.finished`.
        noise_first: add the noise before clipping instead of after; an ablation, as the clip then cuts the noise.
        weight_noise: schedule of noise that is added to the weights after every update and stays there; or None.
        study_seed: seed of the study.
        config: what else the experiment's `model` and `batch` want to know.
    """

    seed: int
    lr: LearningRate
    noise: Schedule | None = None
    clip: float | None = None
    dropout: float | None = None
    early_stop: bool = True
    noise_first: bool = False
    weight_noise: Schedule | None = None
    study_seed: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check ranges."""
        self.rate(0)
        if self.clip is not None and not self.clip > 0:
            raise PopulationError(f"clip = {self.clip}: a threshold is > 0, or None for no clipping")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise PopulationError(f"dropout = {self.dropout} is outside [0, 1)")
        for name, schedule in (("noise", self.noise), ("weight_noise", self.weight_noise)):
            if schedule is not None and not callable(schedule):
                raise PopulationError(
                    f"{name} = {schedule!r}: a schedule is a callable such as Annealed(0.01), or None"
                )

    def rate(self, t: int) -> float:
        """The learning rate of update `t`.

        Raises:
            PopulationError: it is not a finite number > 0.
        """
        rate = self.lr(t) if callable(self.lr) else self.lr
        if not (rate > 0 and math.isfinite(rate)):
            at = f" at t = {t}" if callable(self.lr) else ""
            raise PopulationError(f"lr = {rate}{at}: a learning rate is a finite number > 0")
        return rate

    def seed_for(self, purpose: str) -> int:
        """The seed of one purpose, such as "init" or "noise"."""
        return derive_seed(self.study_seed, self.seed, purpose)

    @property
    def identity(self) -> str:
        """What a checkpoint must agree on; a schedule is any callable, so its first value stands for it."""
        start = None if self.noise is None else sigma(self.noise, 0)
        named = {"seed": self.seed, "lr": self.rate(0), "first sigma": start, "clip": self.clip,
                 "dropout": self.dropout, "study_seed": self.study_seed}  # fmt: skip
        if self.noise_first or self.weight_noise is not None:
            weights = None if self.weight_noise is None else sigma(self.weight_noise, 0)
            named |= {"noise first": self.noise_first, "first sigma of weights": weights}
        return ", ".join(f"{name} {value}" for name, value in named.items())
