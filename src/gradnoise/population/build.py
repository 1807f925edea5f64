"""From an experiment and its replicas to stacked models, their dropout masks and the state of their course."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradnoise.errors import PopulationError
from gradnoise.population.adapt import adapted
from gradnoise.population.course import Batch, State
from gradnoise.population.dropout import MASK, DropoutMasks, MaskedDropout, replace_dropout
from gradnoise.population.experiment import Experiment, loss_of
from gradnoise.population.freed import keep_freed_memory
from gradnoise.population.noisy import check_noise_on
from gradnoise.population.optimizers import Optimizer
from gradnoise.population.randomness import DROPOUT, INIT, seeded
from gradnoise.population.replica import Replica
from gradnoise.population.rules import check_rules
from gradnoise.population.stacked import StackedModules
from gradnoise.population.states import stacked
from gradnoise.population.training import Training
from gradnoise.population.turns import Round
from gradnoise.population.update import Rule


def agreed_training(experiment: Experiment, replicas: Sequence[Replica]) -> Training:
    """Return settings of the first replica, in which those that all must share are the same in all.

    Raises:
        PopulationError: optimizer or scope of the clip differ, or a rule keeps something between calls.
    """
    check_rules(experiment.name, (replica.training for replica in replicas))
    first = replicas[0].training
    for i, replica in enumerate(replicas):
        for name in ("optimizer", "clip_per"):
            mine, other = getattr(first, name), getattr(replica.training, name)
            if mine != other:
                raise PopulationError(
                    f"replica {i} has {name} = {other!r}, replica 0 has {mine!r}; all replicas of a population share it"
                )
    return first


def build_modules(
    experiment: Experiment,
    replicas: Sequence[Replica],
    configs: Sequence[Any],
    whole: Round,
    dtype: torch.dtype,
    device: torch.device,
) -> StackedModules:
    """Build every replica's model with its own seed and stack them; parameters of one turn lie side by side."""
    if device.type == "cpu":
        keep_freed_memory()
    models = []
    for replica, config in zip(replicas, configs, strict=True):
        with seeded(replica.seed_for(INIT)):
            model = experiment.model(config)
        if not isinstance(model, nn.Module):
            raise PopulationError(f"{experiment.name}.model returned {type(model).__name__}, not an nn.Module")
        models.append(replace_dropout(adapted(model, experiment.name)))
    modules = StackedModules(models, dtype=dtype, device=device, order=whole.turn_of)
    whole.check_parameters(modules.names)
    check_noise_on(replicas, modules.names, whole.turns)
    return modules


def rule_of(experiment: Experiment, config: Any, modules: StackedModules, optimizer: Optimizer, clip_per: str) -> Rule:
    """Make the rule by which rows are updated, of the settings that they share and the experiment's course."""
    course, patience = experiment.course, experiment.patience
    if course is None:
        return Rule(optimizer, clip_per, patience, lambda state, observed, t: state)

    def weights(state: State) -> list[tuple[Tensor, Tensor]]:
        views = dict(zip(modules.names, modules.views(modules.theta), strict=True))
        return [(views[name], new) for name, new in course.weights(views, state).items()]

    return Rule(
        optimizer,
        clip_per,
        patience,
        lambda state, observed, t: course.after(state, observed, t, config),
        course.rate,
        course.noise,
        weights,
    )


def start_course(experiment: Experiment, configs: Sequence[Any], dtype: torch.dtype, device: torch.device) -> State:
    """Return the state of the experiment's course before the first update, [P, ...] each; {} without a course."""
    if experiment.course is None:
        return {}
    return stacked([experiment.course.start(config) for config in configs], "course", device, dtype)


def trace_dropout(
    experiment: Experiment,
    config: Any,
    modules: StackedModules,
    replicas: Sequence[Replica],
    whole: Round,
    first: Callable[[], tuple[Batch, bool]],
    state: State,
) -> DropoutMasks | None:
    """Pass one batch through the first replica to learn the shapes of its dropout masks.

    Args:
        experiment: whose loss.
        config: what the replicas agree on.
        modules: their models; buffers of masks leave `modules.fixed`.
        replicas: with their dropout rates.
        whole: the turns; a layer has one mask where the losses of all of them use it once.
        first: makes the first minibatch, and says whether it has no replica axis.
        state: of the course.

    Returns:
        The masks; None where the model has no dropout layer.

    Raises:
        PopulationError: a replica asks for dropout that the model does not have.
    """
    layers = {n: m for n, m in modules.module.named_modules() if isinstance(m, MaskedDropout)}
    modules.fixed = {n: x for n, x in modules.fixed.items() if n.removesuffix(f".{MASK}") not in layers}
    rates = [r.training.dropout for r in replicas]
    if not layers:
        if any(rates):
            raise PopulationError(f"a replica asks for dropout, but {experiment.name}.model has no nn.Dropout layer")
        return None
    batch, shared = first()
    batch = batch if shared else pytree.tree_map(lambda x: x[0], batch)
    if experiment.course is not None:
        batch = (batch, {name: x[0] for name, x in state.items()})
    with torch.no_grad(), seeded(0):
        t = torch.zeros((), dtype=torch.int64, device=modules.theta.device)
        for turn in whole.turns:
            loss_of(experiment, turn)(modules.module.train(), batch, config, t)
    return DropoutMasks.trace(layers, [r.seed_for(DROPOUT) for r in replicas], rates, modules.theta)
