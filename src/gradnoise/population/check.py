"""A smoke test for a new experiment: call it in a test before spending hours on a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gradnoise.errors import PopulationError
from gradnoise.noise.schedule import Annealed
from gradnoise.population.configuration import agreed
from gradnoise.population.evaluation import EVALUATE
from gradnoise.population.experiment import Experiment
from gradnoise.population.gradients import LOSS
from gradnoise.population.minibatches import fetched
from gradnoise.population.population import Population
from gradnoise.population.randomness import BATCHES
from gradnoise.population.reasons import place_of
from gradnoise.population.replica import Replica
from gradnoise.population.rules import measured, rules_in
from gradnoise.population.seeds import check_seeds


def check_experiment(
    experiment: Experiment, config: Mapping[str, Any] | None = None, *, lr: float = 0.01, steps: int = 3
) -> dict[str, str]:
    """Train three replicas for a few updates in float64 and check what every study relies on.

    Checked: models, minibatches and held-out data are pure functions of their seed, and another seed is another run;
    schedules and optimizers in the configuration keep nothing between calls; the loss is a finite scalar with a
    gradient for every parameter; metrics are finite scalars; and a replica's run does not depend on its neighbours.

    Args:
        experiment: the experiment.
        config: the configuration of one trial, as the experiment's methods will get it.
        lr: learning rate.
        steps: updates.

    Returns:
        Notes for the reader: how the loss and the metrics run ("vmap", or why not), the first metrics, and
        what is the same for all seeds though the experiment does not declare it.

    Raises:
        PopulationError: a check failed; the message says which and what to do.

    Example:
        >>> def test_my_experiment():
        ...     check_experiment(MyExperiment(), {"width": 32})
    """
    replicas = [
        Replica.of(experiment, seed, {**(config or {}), **own})
        for seed, own in (
            (0, {"lr": lr, "noise": None, "clip": None}),
            (1, {"lr": lr / 2, "noise": Annealed(0.01), "clip": 1.0}),
            (0, {"lr": lr, "noise": Annealed(0.01), "clip": None}),
        )
    ]
    _check_batches(experiment, replicas[0])
    plain = {**(config or {}), "lr": lr, "noise": None, "clip": None}
    shared = check_seeds(experiment, [Replica.of(experiment, seed, plain) for seed in range(2)], steps)
    for key, rule in rules_in(experiment.given(config or {})):
        shared += measured(f"{experiment.name}: {key}", rule, steps).notes
    together = _train(experiment, replicas, steps)
    if together.diverged:
        raise PopulationError(
            f"{experiment.name}: the loss or a gradient was not finite within {steps} updates at lr = {lr};"
            " try a smaller lr, or look for a log or division by 0"
        )
    for i, replica in enumerate(replicas):
        alone = _train(experiment, [replica], steps)
        difference = (alone.modules.theta[0] - together.modules.theta[i]).abs().max().item()
        if difference > 1e-8 * max(1.0, together.modules.theta.abs().max().item()):
            raise PopulationError(
                f"{experiment.name}: replica {i} trained alone ends {difference:.2g} away from the same replica in a"
                " population; the loss mixes replicas or keeps state outside the model"
            )
    notes = _notes(experiment, _train(experiment, replicas, steps, torch.float32))
    return notes | ({"same for all seeds": "; ".join(shared)} if shared else {})


def _check_batches(experiment: Experiment, replica: Replica) -> None:
    if experiment.course is not None and experiment.course.generates:
        return  # what it generates is a function of what it is given
    batch = experiment.batch(replica.seed_for(BATCHES), 0, agreed([replica.config], experiment.replica_keys))
    for x in pytree.tree_leaves(fetched(batch)):
        if not isinstance(x, torch.Tensor):
            raise PopulationError(f"{experiment.name}.batch returned a {type(x).__name__}; a batch holds tensors only")


def _train(
    experiment: Experiment, replicas: list[Replica], steps: int, dtype: torch.dtype = torch.float64
) -> Population:
    try:
        population = Population(experiment, replicas, dtype=dtype)
        while population.alive and population.t < steps:
            population.step()
    except RuntimeError as error:
        if dtype != torch.float64 or not any(word in str(error) for word in ("dtype", "Double", "double")):
            raise
        raise PopulationError(
            f"{experiment.name}: a check trains in float64, and there {str(error).splitlines()[0]}{place_of(error)};"
            " make constants in the precision of what they meet, by torch.ones_like(x), x.new_zeros(3) or dtype=x.dtype"
        ) from error
    population.settle()
    return population


def _notes(experiment: Experiment, population: Population) -> dict[str, str]:
    metrics = population.evaluate()
    for name, values in metrics.items():
        if not torch.isfinite(values).all():
            raise PopulationError(
                f"{experiment.name}.evaluate: metric {name!r} is not finite ({values.tolist()}) for a model that is"
            )
    reasons = population.modules.loop_reasons
    notes = {
        "loss runs by": next((reason for role, reason in reasons.items() if role.startswith(LOSS)), "vmap"),
        "evaluate runs by": reasons.get(EVALUATE, "vmap"),
    }
    return notes | {name: ", ".join(f"{v:.4g}" for v in values.tolist()) for name, values in metrics.items()}
