"""What an experiment does before it is trained: the fingerprint of its code, and whether it is fit for a study.

The fingerprint is measured, not read from the source: losses and gradient norms of two minibatches and all metrics of
a replica that is moved a little from its first weights. Weights that begin at zero hide most of a model; moved ones do
not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gradnoise.errors import PopulationError
from gradnoise.population.course import Goal
from gradnoise.population.experiment import Experiment
from gradnoise.population.fallbacks import slow_sentence
from gradnoise.population.gradients import check_written
from gradnoise.population.kept import kept_sentence
from gradnoise.population.population import Population
from gradnoise.population.replica import Replica
from gradnoise.population.seeds import check_seeds
from gradnoise.population.telemetry import reserved

#: Weights are moved by this many standard deviations of weights that keep the size of what passes through them.
MOVED = 0.5
#: Learning rate of updates that shall move nothing.
RATE = 1e-8
#: Updates of a fingerprint, and those later ones whose minibatch and loss belong to it, as shares of a run.
UPDATES = 2
LATER = (0.25, 0.5, 1.0)
#: Numbers that agree to this part agree: other machines and numbers of threads sum in another order.
TOLERANCE, SMALL = 1e-3, 1e-6


@dataclass(frozen=True)
class Probe:
    """What was found.

    Args:
        readings: name -> number; nan where a run does not stay finite.
        notes: what makes it slow, a sentence each.
        later: losses of minibatches of later updates.
        measured: names of everything that an evaluation measures; empty where the run does not stay finite, or an exam
            may measure more.
    """

    readings: Mapping[str, float]
    notes: tuple[str, ...]
    later: Mapping[str, float]
    measured: frozenset[str] = frozenset()


def agree(x: float, y: float) -> bool:
    """Tell whether two readings are equal but for rounding."""
    return math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=SMALL) or (math.isnan(x) and math.isnan(y))


def probe(
    experiment: Experiment,
    config: Mapping[str, Any],
    *,
    steps: int,
    study_seed: int = 0,
    device: str = "cpu",
    recorded: bool = True,
) -> Probe:
    """Measure the fingerprint of one configuration.

    Args:
        experiment: the experiment.
        config: its own settings and `dropout`, as a flat dict.
        steps: length of a run.
        study_seed: seed of the study.
        device: where.
        recorded: whether runs replay a recorded step, so that what its code keeps is worth a note.

    Raises:
        PopulationError: the experiment cannot be trained; the message says why.
    """
    population = _population(experiment, config, 1, study_seed, device)
    readings: dict[str, float] = {}
    for t in range(min(_updates(population), steps)):
        loss, gradient = _updated(population)
        _move(population)
        readings |= {f"loss of minibatch {t}": loss[0], f"gradient norm of minibatch {t}": gradient[0]}
    notes = _notes(population)
    if recorded:
        check_written(experiment, population.modules)
    if recorded and population.alive and (kept := population.keeps()):
        notes.append(f"{experiment.name}: {kept_sentence(kept)}")
    if left := steps % population.round.updates:
        notes.append(
            f"{experiment.name}: runs of {steps} updates end after {left} of the {population.round.updates} updates of"
            " a round of turns"
        )
    telemetry = population.telemetry()
    known = reserved(population.round)
    own = {name: x for name, x in telemetry.items() if name not in known}
    measured = population.evaluate()
    if measured:  # of a replica that has not ended
        readings |= {name: float(x[0]) for name, x in (own | measured).items()}
    readings |= {f"updates of turn {turn.name}": float(turn.updates) for turn in experiment.turns}
    names = frozenset() if _examined(experiment) or not measured else frozenset(telemetry | measured)
    return Probe(readings, tuple(notes), _later(population, steps), names)


def _updates(population: Population) -> int:
    """Return how many updates a fingerprint takes: at least one of every turn."""
    return max(UPDATES, population.round.updates)


def _later(population: Population, steps: int) -> dict[str, float]:
    """Measure what a loss or minibatch that changes with t is by then."""
    readings = {}
    for t in sorted({int(share * (steps - 1)) for share in LATER}):
        if t > population.t:
            population.skip(t)
            readings[f"later loss of minibatch {t}"] = _updated(population)[0][0]
    return readings


def _examined(experiment: Experiment) -> bool:
    return experiment.goal is not None and type(experiment.goal).exam is not Goal.exam


def check(
    experiment: Experiment,
    config: Mapping[str, Any],
    readings: Mapping[str, float],
    *,
    steps: int,
    study_seed: int = 0,
    device: str = "cpu",
) -> tuple[str, ...]:
    """Check what every study relies on: a short form of `check_experiment`.

    Models, minibatches and held-out data are functions of their seed, another seed is another run, and a replica's loss
    does not depend on who trains beside it.

    Args:
        experiment: the experiment.
        config: as for `probe`.
        readings: what `probe` measured.
        steps: length of a run.
        study_seed: seed of the study.
        device: where.

    Returns:
        What makes two replicas together slow, and what all seeds share; a sentence each.

    Raises:
        PopulationError: a check failed; the message says which and what to do.
    """
    replicas = [_replica(experiment, config, seed, study_seed) for seed in range(2)]
    shared = check_seeds(experiment, replicas, steps, device)
    beside = _population(experiment, config, 2, study_seed, device)
    for t in range(min(_updates(beside), steps)):
        loss, alone = _updated(beside)[0][0], readings[f"loss of minibatch {t}"]
        _move(beside)
        if not agree(loss, alone):
            raise PopulationError(
                f"{experiment.name}: the loss of minibatch {t} is {alone:.6g} for a replica alone and {loss:.6g} for"
                " the same replica beside another; the loss mixes replicas or keeps state outside the model"
            )
    first, again = beside.evaluate(), beside.evaluate()
    for name, x in first.items():
        if not all(map(agree, x.tolist(), again[name].tolist())):
            raise PopulationError(
                f"{experiment.name}.evaluate returned {name} = {float(again[name][0]):.6g} for a model of which it"
                f" returned {float(x[0]):.6g} before; it keeps a counter or other state between calls"
            )
    return (*shared, *_notes(beside))


def _replica(experiment: Experiment, config: Mapping[str, Any], seed: int, study_seed: int) -> Replica:
    return Replica.of(experiment, seed, {**config, "lr": RATE}, study_seed)


def _population(
    experiment: Experiment, config: Mapping[str, Any], size: int, study_seed: int, device: str
) -> Population:
    replicas = [_replica(experiment, config, seed, study_seed) for seed in range(size)]
    return Population(experiment, replicas, device=device, trace=False)


def _move(population: Population) -> None:
    """Move the weights of all replicas in the same direction."""
    modules, generator = population.modules, torch.Generator().manual_seed(0)
    for x, shape in zip(modules.views(modules.theta), modules.shapes, strict=True):
        inputs = max(shape.numel() // shape[0], 1) if shape else 1
        x.add_((torch.randn(shape, generator=generator) * (MOVED / inputs**0.5)).to(x))


def _updated(population: Population) -> tuple[list[float], list[float]]:
    """Do an update; returns losses and gradient norms of the minibatch, nan for a replica that has ended."""
    rows, ended = population.alive, [math.nan] * len(population.replicas)
    losses, norms = list(ended), list(ended)
    population.step()
    seen = population.telemetry()
    population.reset_telemetry()
    population.settle()
    for row, i in enumerate(rows):
        if i in population.alive:
            losses[i], norms[i] = float(seen["train_loss"][row]), float(seen["gradient_norm"][row])
    return losses, norms


def _notes(population: Population) -> list[str]:
    name, modules = population.experiment.name, population.modules
    said = [
        f"{name}: {role} runs replica by replica, not as one program, which is slow: vmap cannot run it ({reason})"
        for role, reason in modules.loop_reasons.items()
    ]
    return said + [
        f"{name}: {slow_sentence(role, names)}"
        for role, names in modules.slow_operations.items()
        if names and role not in modules.loop_reasons
    ]
