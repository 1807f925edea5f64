"""The grid of the memory network study: ways of training, arms, and how much of them each scale runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradnoise.noise import Annealed, Fixed
from gradnoise.paper.system import Scale
from gradnoise.study import Arm

NONE = Arm("none", title="no noise")
NOISE = Arm("noise", {"noise": Annealed(0.01)}, title="noise")
#: Dose-response of eta, and the paper's fixed noise "0.001", read as a standard deviation and as a variance.
ABLATIONS = (
    Arm("eta-0.1", {"noise": Annealed(0.1)}, title="noise, eta 0.1"),
    Arm("eta-1", {"noise": Annealed(1.0)}, title="noise, eta 1"),
    Arm("fixed-sd", {"noise": Fixed(0.001)}, title="fixed, sd 0.001"),
    Arm("fixed-variance", {"noise": Fixed(math.sqrt(0.001))}, title="fixed, variance 0.001"),
)


@dataclass(frozen=True)
class Mode:
    """How the authors of memory networks train: on one task, or on all jointly.

    Args:
        name: first part of a row's name.
        dim: width of the embeddings.
        linear_epochs: of the linear start.
        halve_every, halve_until: epochs between halvings of the learning rate, and the last epoch with one.
        arms: that run here; None for all.
    """

    name: str
    dim: int
    linear_epochs: int
    halve_every: int
    halve_until: int | None
    arms: tuple[str, ...] | None


JOINTLY = Mode("joint", dim=50, linear_epochs=30, halve_every=15, halve_until=None, arms=(NONE.name, NOISE.name))
BY_TASK = Mode("tasks", dim=20, linear_epochs=20, halve_every=25, halve_until=100, arms=None)
LEARNING_RATE = {"one": 0.01, "two": 0.005}


@dataclass(frozen=True, kw_only=True)
class Grid(Scale):
    """A scale of Table 2; its length is that of the training with softmax.

    Args:
        tasks: numbers of the tasks that are learned one by one.
        modes: ways of training.
        evaluations: of a run.
        linear_epochs: of the linear start; None for the mode's own.
    """

    tasks: tuple[int, ...]
    modes: tuple[Mode, ...] = (BY_TASK,)
    arms: tuple[Arm, ...] = (NONE, NOISE)
    evaluations: int = 10
    linear_epochs: int | None = None

    def linear(self, mode: Mode) -> int:
        """Return the epochs of a linear start in one way of training."""
        return mode.linear_epochs if self.linear_epochs is None else self.linear_epochs


SCALES = {
    "smoke": Grid(
        tasks=(1, 15),
        length=3,
        seeds=1,
        data="generated",
        evaluations=3,
        linear_epochs=1,
        departures=(
            "Smoke scale: generated stories, one restart, 3 epochs, a linear start of 1; too short to show anything.",
        ),
    ),
    "quick": Grid(
        tasks=(1, 4, 6, 11, 12, 15, 16, 20),
        length=100,
        seeds=3,
        departures=("Quick scale: single tasks, 3 restarts, 100 epochs.",),
    ),
    "paper": Grid(
        tasks=tuple(range(1, 21)),
        modes=(JOINTLY, BY_TASK),
        arms=(NONE, NOISE, *ABLATIONS),
        length=200,
        seeds=10,
    ),
}
