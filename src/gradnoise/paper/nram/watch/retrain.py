"""One run of a study once more, for its weights: a study keeps figures, not machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradnoise.paper.nram.experiment import Pupil
from gradnoise.paper.nram.study import nram
from gradnoise.study import Store, Study, StudyError, Trial, TrialResult, train_again


def choose(folder: Path, row: str | None, arm: str | None, seed: int | None) -> tuple[Study, Trial, int]:
    """A run of a study's folder: the first of the asked ones that reached zero error, else the first one.

    Args:
        folder: of a `gradnoise run nram`.
        row, arm, seed: which; None for any.

    Returns:
        The study, the trial, and the updates that it took.

    Raises:
        StudyError: the folder holds no such study or no such run.
    """
    with Store(folder, readonly=True) as store:
        results = store.results()
    if results.record.name != "nram":
        raise StudyError(f"{folder} holds a study of {results.record.name}; there is nothing to trace but nram")

    def asked(t: TrialResult) -> bool:
        return t.done and row in (None, t.row) and arm in (None, t.arm) and seed in (None, t.seed)

    runs = [t for t in results.trials if asked(t)]
    if not runs:
        rows, arms = ", ".join(r for r, _ in results.record.rows), ", ".join(a.name for a in results.record.arms)
        raise StudyError(f"{folder} has no such finished run; its rows are {rows}, its arms {arms}")
    run = max(runs, key=lambda t: t.final.get("solved", 0.0) >= 100)
    study = nram(results.record.scale, seeds=run.seed + 1)
    if (steps := run.config["steps"]) not in {study.lengths(s)[0] for s in study.settings}:
        study = nram(results.record.scale, seeds=run.seed + 1, steps=steps)
    trials = [t for t in study.trials() if t.id == run.id]
    if not trials:
        raise StudyError(f"{folder} was run by another version; run the study again in a new folder to trace it")
    return study, trials[0], run.step


def train(study: Study, trial: Trial, steps: int, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Id of a trial and its weights after `steps` updates, trained alone, to be saved; see `train_again`."""
    population = train_again(study.experiment, [trial], steps, progress)
    return {"id": trial.id, "weights": {name: x.clone() for name, x in population.rows.named_rows(0)}}


def machine(study: Study, trial: Trial, saved: dict[str, Any]) -> Pupil:
    """The machine with the weights that `train` returned.

    Raises:
        StudyError: they are another run's.
    """
    if saved.get("id") != trial.id:
        raise StudyError("the file holds the weights of another run; give another --weights, or remove it")
    pupil = study.experiment.model(trial.config)
    assert isinstance(pupil, Pupil)
    pupil.load_state_dict(saved["weights"])
    return pupil
