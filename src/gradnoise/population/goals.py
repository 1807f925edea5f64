"""Goals at work: the state that they keep for each replica, their decision, and the one of early stopping."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gradnoise.directions import Directed, directed
from gradnoise.errors import PopulationError, nearest
from gradnoise.population.course import Goal, Metrics, State
from gradnoise.population.experiment import Experiment
from gradnoise.population.states import stacked


@dataclass(frozen=True)
class Patience(Goal):
    """Early stopping: end a run whose metric has not improved for some evaluations in a row.

    Say in the study's metric which evaluation counts: `Metric(..., at="min:validation_loss")`.

    Args:
        metric: one that `evaluate` returns, with its direction: "min:validation_loss", "max:validation_accuracy"; a
            name alone, where a word of it tells the direction, such as "loss" or "accuracy".
        evaluations: this many without an improvement end the run, >= 1; a metric that is nan is none.
        least: an improvement is larger than this, >= 0, in the metric's unit.

    Raises:
        PopulationError: a value is out of range, or the name does not tell the direction.

    Example:
        >>> class MyExperiment(Experiment):
        ...     goal = Patience("validation_loss", 5)
    """

    metric: str
    evaluations: int
    least: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges."""
        whole = isinstance(self.evaluations, int) and not isinstance(self.evaluations, bool)
        if not whole or self.evaluations < 1:
            raise PopulationError(f"Patience: evaluations = {self.evaluations!r}; give a whole number >= 1")
        if not 0.0 <= self.least < math.inf:
            raise PopulationError(f"Patience: least = {self.least!r}; give a finite number >= 0")
        object.__setattr__(self, "metric", str(directed(self.metric, "Patience: metric", PopulationError)))

    @cached_property
    def watched(self) -> Directed:
        """The metric and its direction."""
        return directed(self.metric, "Patience: metric", PopulationError)

    def start(self, config: Any) -> State:
        """Return the state of a replica that was not evaluated yet."""
        return {
            "best": torch.tensor(-math.inf if self.watched.higher_is_better else math.inf, dtype=torch.float64),
            "waited": torch.tensor(0),
        }

    def after(self, state: State, metrics: Metrics) -> State:
        """Return the best value so far, and for how many evaluations it has been that."""
        name = self.watched.name
        if name not in metrics:
            raise PopulationError(
                f"Patience waits for {name!r}, and evaluate returns no such metric: there are"
                f" {', '.join(sorted(metrics))}{nearest(name, metrics)}"
            )
        value, best = metrics[name].to(state["best"]), state["best"]
        better = value > best + self.least if self.watched.higher_is_better else value < best - self.least
        return {"best": torch.where(better, value, best), "waited": torch.where(better, 0, state["waited"] + 1)}

    def reached(self, metrics: Metrics, state: State | None = None) -> Tensor:
        """Say which replicas have waited long enough, bool [P]."""
        assert state is not None, "the engine gives it, see Goal"
        return state["waited"] >= self.evaluations


def start_goal(experiment: Experiment, configs: Sequence[Any], device: torch.device) -> State:
    """Return what the goal keeps for all replicas, [P, ...] each; {} without a goal or for one that keeps nothing."""
    if experiment.goal is None:
        return {}
    return stacked([experiment.goal.start(config) for config in configs], "goal", device)


def judged(goal: Goal, metrics: Mapping[str, Tensor], state: State) -> tuple[Tensor, State]:
    """Return which replicas have reached a goal by these metrics, bool [P], and its state after this evaluation."""
    metrics = dict(metrics)
    new = goal.after(state, metrics)
    if missing := sorted(state.keys() - new.keys()):
        raise PopulationError(f"the goal's `after` left out {missing[0]!r}; return every entry that `start` returned")
    reached: Callable[..., Tensor] = goal.reached
    if "state" in inspect.signature(reached).parameters:
        return reached(metrics, state=new), new
    return reached(metrics), new
