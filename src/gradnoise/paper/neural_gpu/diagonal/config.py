"""The settings of a diagonal Neural GPU and its training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gradnoise.paper.neural_gpu.tasks import task_of
from gradnoise.population import PopulationError, Training


@dataclass(frozen=True)
class DiagonalConfig:
    """Settings of a diagonal Neural GPU and its training; the defaults are the published ones for multiplication.

    Args:
        task: what is learned, a key of `TASKS`.
        lengths: n of the bins, all of which are trained in every update; problems have the largest n that fits.
        shorter: share of problems that are shorter than their bin, by a length drawn uniformly.
        tests: lengths that are tested, the longest training length first and the one that counts last.
        samples: problems in each test.
        maps: m.
        batch_size: problems of each length in an update.
        keep: probability with which dropout keeps an element, of the written input and of every candidate.
        init_weight: factor of the initial weights.
        saturation: weight of the saturation cost at first, and the largest it may have.
        window: updates after which that weight and the learning rate are looked at.
        lr: learning rate, that of `Training`, to which the weight of the saturation cost is in proportion.
    """

    task: str = "bmul"
    lengths: tuple[int, ...] = (8, 12, 16, 20, 25, 28, 31, 36, 41)
    shorter: float = 0.05
    tests: tuple[int, ...] = (41, 401)
    samples: int = 256
    maps: int = 96
    batch_size: int = 32
    keep: float = 0.9
    init_weight: float = 1.0
    saturation: float = 1e-3
    window: int = 200
    lr: float = Training.lr  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Check ranges."""
        task = task_of(self.task)
        if not self.lengths or min(self.lengths) < task.least or len(set(self.lengths)) < len(self.lengths):
            raise PopulationError(
                f"lengths = {self.lengths}: give different lengths, of {self.task} {task.least} or more"
            )
        tests = torch.tensor(self.tests)
        if not self.tests or min(self.tests) < task.least or not torch.equal(task.fit(tests), tests):
            raise PopulationError(
                f"tests = {self.tests}: give one length or more that problems of {self.task} can have"
            )
        for name, least in (("samples", 1), ("maps", 3), ("batch_size", 1), ("window", 1)):
            if getattr(self, name) < least:
                raise PopulationError(f"{name} = {getattr(self, name)}: at least {least} is needed")
        if not 0 <= self.shorter <= 1:
            raise PopulationError(f"shorter = {self.shorter} is outside [0, 1]")
        if not 0 < self.keep <= 1:
            raise PopulationError(f"keep = {self.keep} is outside (0, 1]")
        for name in ("init_weight", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise PopulationError(f"{name} = {getattr(self, name)}: it is finite and > 0")
        if not 0 <= self.saturation < math.inf:
            raise PopulationError(f"saturation = {self.saturation}: a weight is finite and >= 0")
