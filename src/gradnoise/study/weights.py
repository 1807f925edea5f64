"""Weights of a study's trials, trained once more when they are first asked for and kept in one cache."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from gradnoise.errors import CheckpointError, StudyError
from gradnoise.population import Experiment, checkpoint
from gradnoise.study.canonical import canonical
from gradnoise.study.retrain import train_again
from gradnoise.study.spec import Trial


@dataclass(frozen=True)
class Trained:
    """A trial's model as it was after its last update.

    Args:
        trial: which one.
        model: with its weights, in evaluation mode.
        metrics: of the experiment's evaluation at that moment.
    """

    trial: Trial
    model: nn.Module
    metrics: dict[str, float]


def trained_weights(
    experiment: Experiment,
    trials: Sequence[Trial],
    cache: Path,
    *,
    steps: int | None = None,
    best_by: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Return a trained model: from the cache, or trained now and kept there.

    The file is `weights/KEY.pt` in the cache; KEY is a hash of all that decides the weights: the trials' ids, the
    updates, and how one of them is chosen.

    Args:
        experiment: of the trials.
        trials: of one shape, trained together; see `train_again`.
        cache: folder, made when missing.
        steps: updates; None for the trials' own.
        best_by: metrics whose final value is to be lowest: the first decides, the next ones break ties, then the
            order of the trials does. Needed only to choose among several.
        progress: called after each update with (updates done, updates in all).
        notice: called with a sentence where the cache is damaged or cannot be written; the model is trained anyway.

    Raises:
        StudyError: all of the trials diverged.
    """
    key = canonical({"trials": [t.id for t in trials], "steps": steps or trials[0].config["steps"], "by": best_by})
    path = cache / "weights" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.pt"
    if path.exists():
        try:
            return _loaded(experiment, trials, checkpoint.read(path))
        except (CheckpointError, KeyError, IndexError, RuntimeError, TypeError) as error:  # not what was written
            notice(f"{path} is damaged and is made again ({type(error).__name__})")
    saved = _train(experiment, trials, steps, best_by, progress)
    try:
        checkpoint.write(path, saved)
    except CheckpointError as error:
        notice(f"the weights are not kept: {error}")
    return _loaded(experiment, trials, saved)


def _train(
    experiment: Experiment,
    trials: Sequence[Trial],
    steps: int | None,
    best_by: Sequence[str],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Train, and return place, weights and metrics of the best trial that did not diverge."""
    population = train_again(experiment, trials, steps, progress)
    metrics = {name: x.tolist() for name, x in population.evaluate().items()}
    if not population.alive:
        raise StudyError("all runs have weights that are not finite; try another seed")

    def rank(i: int) -> list[float]:
        found = [metrics[name][i] for name in best_by]
        return [math.inf if math.isnan(x) else x for x in found]

    best = min(range(len(population.alive)), key=rank)
    return {
        "trial": population.alive[best],
        "weights": {name: x.clone() for name, x in population.modules.named_rows(best)},
        "metrics": {name: values[best] for name, values in metrics.items()},
    }


def _loaded(experiment: Experiment, trials: Sequence[Trial], saved: dict[str, Any]) -> Trained:
    trial = trials[saved["trial"]]
    model = experiment.model(experiment.configured(trial.config))
    model.load_state_dict(saved["weights"])
    return Trained(trial, model.eval(), dict(saved["metrics"]))
