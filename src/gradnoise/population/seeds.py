"""Whether what an experiment makes is a function of its seed: the same for the same one, another for another.

A study pairs its arms by the first, and counts its pairs as evidence by the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradnoise.errors import PopulationError
from gradnoise.population.configuration import agreed
from gradnoise.population.experiment import Experiment
from gradnoise.population.feed import Feed
from gradnoise.population.kept import Kept
from gradnoise.population.population import Population
from gradnoise.population.purity import elsewhere, same
from gradnoise.population.randomness import INIT, seeded
from gradnoise.population.replica import Replica

#: Updates in which runs of two seeds are compared, at least one of every turn, and how close equal ones come.
UPDATES, TOLERANCE = 2, 1e-5

#: What to do where seeds make no difference, by what they do not change.
WEIGHTS = "draw weights from torch's, numpy's or Python's global generator, which is seeded for each replica"
BATCHES = "draw minibatches with a generator made from `seed` and `t`"


class Alike(NamedTuple):
    """What is the same for two seeds.

    Args:
        weights: the model's first parameters and buffers.
        batches: the minibatches that were looked at.
        constant: whether those weights are constants, such as zeros: then nothing was to be drawn.
    """

    weights: bool
    batches: bool
    constant: bool


def check_seeds(
    experiment: Experiment, replicas: Sequence[Replica], steps: int, device: str | torch.device = "cpu"
) -> tuple[str, ...]:
    """Check that what an experiment makes depends on its seed, and on nothing else.

    Args:
        experiment: the experiment.
        replicas: two, of one configuration and different seeds, without noise.
        steps: length of a run.
        device: where to train them, if they begin alike.

    Returns:
        What all seeds share although the experiment does not declare it, a sentence each.

    Raises:
        PopulationError: models or data differ for the same seed, or nothing differs for another one; the message says
            what to do.
    """
    weights, batches, constant = check_purity(experiment, replicas, steps)
    meant = (experiment.same_weights or not weights) and (experiment.same_batches or not batches)
    if weights and batches and not meant and _train_alike(experiment, replicas, device):
        raise PopulationError(
            f"{experiment.name}: all seeds are the same run, and copies are no evidence: model returns the same"
            f" weights, batch the same minibatches, and the loss draws no random numbers; {WEIGHTS}, and {BATCHES}."
            " Where noise alone is to tell runs apart, say same_weights = True and same_batches = True in the"
            " experiment's class"
        )
    notes = []
    if weights and not constant and not experiment.same_weights:
        notes.append(
            f"{experiment.name}: the model begins with the same weights for every seed; {WEIGHTS}, or say"
            " same_weights = True in the experiment's class"
        )
    if batches and not experiment.same_batches:
        notes.append(
            f"{experiment.name}: minibatches are the same for every seed; {BATCHES}, or say same_batches = True in the"
            " experiment's class"
        )
    return tuple(notes)


def check_purity(experiment: Experiment, replicas: Sequence[Replica], steps: int) -> Alike:
    """Check that models, minibatches and held-out data are functions of their seed.

    Each is made twice, in another order and with the global random numbers in another state.

    Args:
        experiment: the experiment.
        replicas: of one configuration; their seeds are tried.
        steps: length of a run; the last minibatch is tried, too, which lies in a later epoch.

    Returns:
        What is the same for the first two seeds.

    Raises:
        PopulationError: something differs; the message says what to do.
    """
    config = experiment.Config() if replicas[0].config is None else replicas[0].config

    def model(replica: Replica) -> dict[str, Tensor]:
        with seeded(replica.seed_for(INIT)):
            made = experiment.model(config)
        if not isinstance(made, nn.Module):
            return {}  # a population refuses it in its own words
        return {name: x.detach() for name, x in (*made.named_parameters(), *made.named_buffers())}

    shared = agreed([config], experiment.replica_keys)
    first = _made_twice(
        experiment,
        lambda: model(replicas[0]),
        f"{experiment.name}.model returned different weights for the same seed; draw them from torch's, numpy's or"
        " Python's global generator, which is seeded for each replica",
    )
    _made_twice(
        experiment,
        lambda: experiment.held_out(shared),
        f"{experiment.name}.held_out returned different data when called again; draw with a generator of a fixed seed",
    )
    batches = _check_minibatches(experiment, replicas, shared, steps)
    constant = all(bool((x == x.flatten()[0]).all()) for x in first.values() if x.numel())
    return Alike(same(first, model(replicas[1])), batches, constant)


def _made_twice(experiment: Experiment, make: Callable[[], Any], message: str) -> Any:
    kept = Kept(experiment)
    first = make()
    kept.empty_caches()
    with elsewhere():
        again = make()
    if not same(first, again):
        raise PopulationError(message)
    return first


def _check_minibatches(experiment: Experiment, replicas: Sequence[Replica], config: Any, steps: int) -> bool:
    """Check minibatches; returns whether those of the first two replicas are the same."""
    course = experiment.course
    state = {}
    if course is not None:
        own = [course.start(experiment.Config() if r.config is None else r.config) for r in replicas]
        state = {name: torch.stack([x[name] for x in own]) for name in own[0]}
    times = sorted({0, min(1, steps - 1), steps - 1})
    asked = [(t, replica) for t in times for replica in replicas]
    feed = Feed(experiment, config, torch.device("cpu"), torch.get_default_dtype())

    def minibatch(t: int, replica: Replica) -> Any:
        feed.select([replica])
        row = {name: x[replicas.index(replica)][None] for name, x in state.items()}
        return pytree.tree_map(torch.clone, feed(t, row)[0])

    kept = Kept(experiment)
    first = {(t, r.seed): minibatch(t, r) for t, r in asked}
    kept.empty_caches()  # what is filled in another order must hold the same
    with elsewhere():
        for t, replica in reversed(asked):
            if not same(first[t, replica.seed], minibatch(t, replica)):
                raise PopulationError(
                    f"{experiment.name}.batch returned different data for the same seed and update;"
                    " draw with a generator made from `seed` and `t`, and keep nothing between calls that depends on"
                    " their order, such as the iterator of a DataLoader or a cache that counts"
                )
    return all(same(first[t, replicas[0].seed], first[t, replicas[1].seed]) for t in times)


def _train_alike(experiment: Experiment, replicas: Sequence[Replica], device: str | torch.device) -> bool:
    """Tell whether the runs of two replicas that begin alike go on alike: nothing in the loss draws random numbers."""
    population = Population(experiment, replicas[:2], device=device, trace=False)
    for _ in range(max(UPDATES, population.round.updates)):
        population.step()
    if len(population.alive) < 2:
        return not population.alive
    seen = population.telemetry()
    pairs = [seen[name].tolist() for name in ("train_loss", "gradient_norm")]
    return all(math.isclose(x, y, rel_tol=TOLERANCE) or (math.isnan(x) and math.isnan(y)) for x, y in pairs)
