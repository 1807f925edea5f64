"""What a run trains, for its report: the model with its size, the optimizer, and the code of the experiment."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils import _pytree as pytree

from gradnoise.population import Experiment, Replica
from gradnoise.population.minibatches import fetched
from gradnoise.population.randomness import BATCHES, kept_generators
from gradnoise.study.provenance import commit_of

#: What a setting for the examples in a minibatch is usually called.
BATCH_SIZE = "batch_size"
PACKAGE = Path(__file__).resolve().parents[2]


def facts(experiment: Experiment, replicas: Sequence[Replica]) -> tuple[tuple[str, str], ...]:
    """Return (name, value) lines for the provenance; what cannot be told is left out.

    Args:
        experiment: what is trained.
        replicas: one of each kind that may differ in model or optimizer.
    """
    sizes = dict.fromkeys(filter(None, (_model(experiment, replica) for replica in replicas)))
    optimizers = dict.fromkeys(_optimizers(experiment, replica) for replica in replicas)
    batches = dict.fromkeys(filter(None, (_batch(experiment, replica) for replica in replicas)))
    lines = (
        ("model", _some(sizes)),
        ("optimizer", _some(optimizers)),
        ("updates in turns", ", ".join(f"{turn.updates} of {turn.name}" for turn in experiment.turns)),
        ("batch size", _some(batches)),
        ("your code", code_of(experiment)),
    )
    return tuple((name, value) for name, value in lines if value)


def code_of(experiment: object) -> str:
    """Return file and commit of the code that defines an experiment; "" for the package's own, and where no file is."""
    path = getattr(sys.modules.get(type(experiment).__module__), "__file__", None)
    if path is None or PACKAGE in Path(path).resolve().parents:
        return ""
    commit = commit_of(Path(path).resolve().parent)
    return f"{Path(path).name}, {f'commit {commit}' if commit else 'in no git repository'}"


def _model(experiment: Experiment, replica: Replica) -> str:
    """Return class and size of a model, built without memory and leaving random numbers alone; "" if it cannot be."""
    config = experiment.Config() if replica.config is None else replica.config
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = experiment.model(config)
            count = sum(p.numel() for p in model.parameters())
    except Exception:  # some models need memory to be built; they have no line in the report
        return ""
    name = type(model).__name__ if type(model) is not nn.Sequential else f"{len(model)} layers in sequence"
    return f"{name}, {count:,} parameters"


def _optimizers(experiment: Experiment, replica: Replica) -> str:
    """Return the optimizer, or that of each turn where they differ."""
    rules = {turn.name: repr(replica.during(turn).training.optimizer) for turn in experiment.turns}
    if len(set(rules.values())) < 2:
        return repr(replica.training.optimizer)
    return ", ".join(f"{turn}: {rule}" for turn, rule in rules.items())


def _batch(experiment: Experiment, replica: Replica) -> str:
    """Return how many examples a minibatch has: a setting of that name, or the length that its tensors share."""
    config = experiment.Config() if replica.config is None else replica.config
    if isinstance(named := getattr(config, BATCH_SIZE, None), int):
        return f"{named:,}"
    if experiment.course is not None and experiment.course.generates:
        return ""
    with kept_generators():
        made = fetched(experiment.batch(0 if experiment.same_batches else replica.seed_for(BATCHES), 0, config))
    lengths = {x.shape[0] for x in pytree.tree_leaves(made) if isinstance(x, torch.Tensor) and x.dim()}
    return f"{lengths.pop():,}" if len(lengths) == 1 else ""


def _some(values: Iterable[str], most: int = 3) -> str:
    shown = list(values)
    return "; ".join([*shown[:most], *([f"{len(shown) - most} more"] if len(shown) > most else [])])
