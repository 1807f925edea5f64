"""A slice of a population's training: up to an evaluation, with what was measured on the way."""

from __future__ import annotations

import time

from gradnoise.errors import PopulationError
from gradnoise.population import Population
from gradnoise.study.engine import Job, MetricRow


def train(job: Job, population: Population, deadline: float) -> tuple[list[MetricRow], dict[str, dict[str, float]]]:
    """Train up to the first evaluation after the deadline.

    Returns:
        All metric rows, and for each trial that has ended its final metrics (those of its last evaluation).
    """
    every = job.config["eval_every"]
    rows: list[MetricRow] = []
    final: dict[str, dict[str, float]] = {}
    while population.alive and population.t < job.steps:
        population.step()
        if population.alive and (population.t % every == 0 or population.t == job.steps):
            names, metrics = _measured(job, population)
            rows += [
                (trial, metric, population.t, value)
                for metric, values in metrics.items()
                for trial, value in zip(names, values, strict=True)
            ]
            left = set() if population.t == job.steps else {job.trials[i].id for i in population.alive}
            final |= {
                trial: {metric: values[row] for metric, values in metrics.items()}
                for row, trial in enumerate(names)
                if trial not in left
            }
            if time.monotonic() > deadline:
                break
    return rows, final


def _measured(job: Job, population: Population) -> tuple[list[str], dict[str, list[float]]]:
    """Evaluate, and let finished replicas go; returns the ids of the trials that were evaluated, and their metrics."""
    metrics, telemetry = population.evaluate(), population.telemetry()
    if both := sorted(metrics.keys() & telemetry.keys()):
        raise PopulationError(f"{both[0]!r} is both a metric and what the course records; give one another name")
    measured = metrics | telemetry
    ids = [job.trials[i].id for i in population.alive]
    population.reset_telemetry()
    if metrics:
        population.retire(metrics)
    return ids, {name: value.detach().double().tolist() for name, value in measured.items()}
