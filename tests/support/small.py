"""A study so small that a trial takes milliseconds, and helpers that the tests of the running side share."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gradnoise import Annealed
from gradnoise.population import Data, Experiment, Replica, derive_seed
from gradnoise.study import Arm, Metric, Setting, Study, StudyResults, Trial, TrialResult
from gradnoise.study.engine import Job, JobTrial

SEEDS, STEPS, EVERY = 2, 12, 3
PATIENCE = 300  # seconds until a test gives up on another process, which imports torch first


MADE_UP, OTHER_DATA = Data("made-up numbers", "f00d"), Data("made-up numbers", "beef")


@dataclass(eq=False)
class Toy(Experiment):
    """Fit a line of four weights; a trial whose seed is a key of `poison` diverges at that update."""

    @dataclass(frozen=True)
    class Config:
        width: int = 3
        gain: float = 1.0
        odd: Any = None  # declared, and read by nobody

    poison: Mapping[int, int] = dataclasses.field(default_factory=dict)
    name: str = "toy"
    data: Data = MADE_UP
    replica_keys: ClassVar[frozenset[str]] = frozenset({"gain"})

    def model(self, config: Config) -> nn.Module:
        first = nn.Linear(4, config.width)
        with torch.no_grad():
            first.weight.mul_(config.gain)
        return nn.Sequential(first, nn.Tanh(), nn.Linear(config.width, 1))

    def batch(self, seed: int, t: int, config: Config) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(derive_seed(seed, t, "toy"))
        x = torch.randn(5, 4, generator=generator)
        for trial, step in self.poison.items():
            if t == step and seed == Replica(trial).seed_for("batches"):
                x = x * torch.nan
        return x, x.sum(1)

    def loss(self, model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor], config: Config) -> Tensor:
        x, y = batch
        return (model(x).squeeze(-1) - y).square().mean()

    def held_out(self, config: Config) -> Tensor:
        return torch.linspace(-1, 1, 20).view(5, 4)

    def evaluate(self, model: Callable[[Tensor], Tensor], held_out: Tensor, config: Config) -> dict[str, Tensor]:
        y = model(held_out)
        return {"error": (y.squeeze(-1) - held_out.sum(1)).square().mean(), "mean": y.mean()}

    def diverged_metrics(self) -> dict[str, float]:
        return {"error": 99.0}


def small(experiment: Experiment | None = None, **changes: Any) -> Study:
    """Two arms, two settings that train together, SEEDS seeds: eight trials of STEPS updates."""
    values: dict[str, Any] = {
        "name": "small",
        "title": "A small study",
        "experiment": experiment or Toy(),
        "arms": (Arm("none"), Arm("noise", {"noise": Annealed(0.01)})),
        "metric": Metric("error", "test error", higher_is_better=False, success=1.0),
        "settings": (Setting("a", "Row a", {"lr": 0.05}), Setting("b", "Row b", {"lr": 0.02, "gain": 2.0})),
        "base": {"clip": 1.0},
        "seeds": tuple(range(SEEDS)),
        "steps": STEPS,
        "eval_every": EVERY,
    }
    return Study(**(values | changes))


#: Id of a chunk that no store knows.
CHUNK = "0123456789ab"


def job_of(trials: Sequence[Trial]) -> Job:
    """The job of some trials, all in one chunk."""
    return Job(CHUNK, tuple(JobTrial(t.id, t.seed, t.config) for t in trials))


def facts(trial: TrialResult) -> dict[str, Any]:
    """Everything that is known of a trial, with nan equal to nan."""
    curves = {n: (c.steps.tolist(), c.values.astype(np.float64).tobytes()) for n, c in trial.curves.items()}
    return {f.name: getattr(trial, f.name) for f in dataclasses.fields(trial)} | {"curves": curves}


def assert_same(results: StudyResults, reference: StudyResults) -> None:
    """The same trials in the same order with the same numbers, to the last bit."""
    assert [facts(t) for t in results.trials] == [facts(t) for t in reference.trials]


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true of other processes."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")
