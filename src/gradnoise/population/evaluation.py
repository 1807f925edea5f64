"""Metrics of a population: the experiment's own, checked, and those of the exam for replicas that seem done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradnoise.errors import PopulationError
from gradnoise.given import scalar, shown
from gradnoise.population.course import Batch, Metrics, State
from gradnoise.population.experiment import Experiment
from gradnoise.population.goals import judged
from gradnoise.population.stacked import DRAWS, StackedModules
from gradnoise.population.telemetry import RESERVED

#: Roles in `StackedModules.loop_reasons`.
EVALUATE, EXAM = "evaluate", "exam"


@torch.no_grad()
def evaluate(
    experiment: Experiment, config: Any, modules: StackedModules, held_out: Batch, draws: Tensor, state: State
) -> Metrics:
    """Return the metrics of every replica, [P] each.

    Args:
        experiment: whose `evaluate`, and `Goal.exam` for those replicas that seem to have reached the goal.
        config: what the replicas agree on.
        modules: their models.
        held_out: what they are evaluated on.
        draws: keys of random numbers, see `stacked.DRAWS`.
        state: what the goal keeps, [P, ...] each; not changed.

    Raises:
        PopulationError: the experiment returned something other than a dict of scalar tensors.
    """

    def one(model: torch.nn.Module, held_out: Batch) -> Metrics:
        return checked(experiment.name, "evaluate", experiment.evaluate(model, held_out, config))

    modules.train(False)
    buffers = modules.fixed | {DRAWS: draws}
    before = None if EVALUATE in modules.slow_operations else modules.theta.clone()  # the first time
    metrics = modules.call(EVALUATE, one, held_out, buffers=buffers)
    if before is not None and (written := modules.changed_since(before)):
        raise PopulationError(
            f"{experiment.name}.evaluate writes into parameters ({', '.join(map(repr, written[:3]))}), so that a run"
            " would depend on how often it is evaluated; write into copies of them"
        )
    if experiment.goal is not None and (reached := judged(experiment.goal, metrics, state)[0]).any():
        _examine(experiment, config, modules, buffers, metrics, reached.nonzero().flatten())
    return metrics


def _examine(
    experiment: Experiment, config: Any, modules: StackedModules, buffers: State, metrics: Metrics, rows: Tensor
) -> None:
    """Replace metrics of rows that seem done by those of the goal's exam."""
    goal = experiment.goal
    assert goal is not None
    found = modules.call(
        EXAM,
        lambda model, _: checked(f"the goal of {experiment.name}", "exam", goal.exam(model, config), empty=True),
        (),
        leaves=[x[rows] for x in modules.views(modules.theta)],
        buffers={name: x[rows] for name, x in buffers.items()},
    )
    for name, values in found.items():
        unknown = torch.full((len(modules),), math.nan, dtype=values.dtype, device=values.device)
        known = metrics.get(name, unknown)
        dtype = torch.promote_types(known.dtype, values.dtype)
        metrics[name] = known.to(dtype).index_put((rows,), values.to(dtype))


def checked(name: str, method: str, metrics: Any, *, empty: bool = False) -> Metrics:
    """Return metrics as scalar tensors: those given as numbers, of Python or NumPy, become float64.

    Raises:
        PopulationError: they are no dict of scalars.
    """
    if not isinstance(metrics, Mapping) or not (metrics or empty):
        found = "an empty dict" if isinstance(metrics, Mapping) else f"a {type(metrics).__name__}"
        raise PopulationError(f"{name}.{method} returned {found}; return a dict of scalar tensors or numbers")
    return {metric: _scalar(f"{name}.{method}", metric, value) for metric, value in metrics.items()}


def _scalar(where: str, metric: Any, value: Any) -> Tensor:
    if not isinstance(metric, str):
        raise PopulationError(f"{where}: the name of a metric is text, not {shown(metric)}")
    if not metric.strip():
        raise PopulationError(f"{where}: a metric has no name; give it one")
    if metric in RESERVED:
        raise PopulationError(
            f"{where}: metric {metric!r} has the name of a measure of training that is recorded anyway"
            f" ({', '.join(RESERVED)}); give it another name"
        )
    if isinstance(value, complex) or (isinstance(value, Tensor) and value.is_complex()):
        raise PopulationError(f"{where}: metric {metric!r} is complex; return a real number, such as its size")
    if isinstance(value, Tensor) and not value.shape:
        return value
    number = None if isinstance(value, Tensor) else scalar(value)  # a tensor of vmap has no Python number
    if isinstance(number, int | float):
        return torch.tensor(float(number), dtype=torch.float64)
    has_shape = hasattr(value, "shape")
    found = f"shape {tuple(value.shape)}" if has_shape else f"type {type(value).__name__}"
    hint = "; take its mean, or a number of it by [i]" if has_shape else ""
    raise PopulationError(f"{where}: metric {metric!r} has {found}; metrics are tensors of shape () or numbers{hint}")
