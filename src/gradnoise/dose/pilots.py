"""The runs of a dose finder: one's own training function, or an experiment as a population."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from gradnoise.errors import PopulationError, nearest
from gradnoise.noise import Schedule
from gradnoise.population import Experiment, Population, Replica

Train: TypeAlias = Callable[[Any, int], float]
"""(schedule, seed) -> score of a run that gives the schedule to `attach`."""

Scores: TypeAlias = dict[float, list[float]]
"""Dose -> a score for each seed; nan for a run that diverged."""

ROWS = 64
"""Runs in one population."""

LAST = 0.1
"""Share of the updates whose training loss is the score, where no metric is named."""


def by_function(
    train: Train, doses: Sequence[float], seeds: Sequence[int], schedule: Callable[..., Schedule]
) -> Scores:
    """Call a training function for every dose and seed.

    Raises:
        ValueError: it returns no number, or makes no use of the schedule.
    """
    scores: Scores = {}
    for dose in doses:
        scores[dose] = [_number(train(schedule(dose), seed)) for seed in seeds]
        if not dose and _differ(_number(train(schedule(dose), seeds[0])), scores[dose][0]):
            warnings.warn(
                "training gives another score when it is repeated with the same seed, so that doses are compared over"
                " runs that differ in more than the dose; set all of its random choices from `seed`",
                stacklevel=3,
            )
    if all(scores[dose] == scores[0.0] for dose in doses):
        raise ValueError(
            "every dose gave the same scores: the training function makes no use of its first argument, the schedule;"
            " give it to attach(optimizer, schedule, seed=seed, ...)"
        )
    return scores


def by_population(
    experiment: Experiment,
    config: Mapping[str, Any],
    doses: Sequence[float],
    seeds: Sequence[int],
    schedule: Callable[..., Schedule],
    *,
    steps: int,
    metric: str | None,
    device: str,
) -> Scores:
    """Train all doses and seeds of an experiment side by side.

    Raises:
        PopulationError: a setting is unknown or out of range, or there is no such metric.
    """
    scores: Scores = {dose: [] for dose in doses}
    together = max(ROWS // len(doses), 1)
    for first in range(0, len(seeds), together):
        some = seeds[first : first + together]
        runs = [(dose, seed) for dose in doses for seed in some]
        replicas = [Replica.of(experiment, seed, {**config, "noise": schedule(dose)}) for dose, seed in runs]
        found = _trained(Population(experiment, replicas, device=device), steps, metric)
        for i, (dose, _) in enumerate(runs):
            scores[dose].append(found.get(i, math.nan))
    return scores


def _trained(population: Population, steps: int, metric: str | None) -> dict[int, float]:
    """Return replica -> score of those that did not diverge."""
    for t in range(steps):
        if t == int((1 - LAST) * steps):
            population.reset_telemetry()
        population.step()
    metrics = population.evaluate()  # removes rows that have ended
    if metric is None:
        metrics, metric = population.telemetry(), "train_loss"
    if population.alive and metric not in metrics:
        raise PopulationError(
            f"{population.experiment.name} has no metric {metric!r}{nearest(metric, metrics)}; there are"
            f" {', '.join(sorted(metrics))}"
        )
    return dict(zip(population.alive, metrics[metric].tolist(), strict=True)) if population.alive else {}


def _number(score: Any) -> float:
    try:
        return float(score.detach() if isinstance(score, Tensor) else score)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"a training function returns its score, one number such as the last loss, got {score!r}"
        ) from None


def _differ(a: float, b: float) -> bool:
    return a != b and not (math.isnan(a) and math.isnan(b))
