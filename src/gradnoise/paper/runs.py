"""Find a run in the folder of a study, and the study that it is a trial of, for commands that show what was learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gradnoise.paper.rebuild import build_again, recipe_of
from gradnoise.study import Store, Study, StudyError, StudyResults, Trial, TrialResult


@dataclass(frozen=True)
class Wanted:
    """Which run of a study; None for any.

    Args:
        row, arm, seed: of the run.
    """

    row: str | None = None
    arm: str | None = None
    seed: int | None = None

    def fits(self, run: TrialResult) -> bool:
        """Say whether a run has ended and is one of those wanted."""
        return (
            run.done and self.row in (None, run.row) and self.arm in (None, run.arm) and self.seed in (None, run.seed)
        )


@dataclass(frozen=True)
class Found:
    """A run of a study.

    Args:
        study, trial: which one.
        run: what the store knows of it: updates and final values.
    """

    study: Study
    trial: Trial
    run: TrialResult


def find(folder: Path, system: str, wanted: Wanted, merit: Callable[[TrialResult], float]) -> Found:
    """Find a run.

    Args:
        folder: of a `gradnoise run`.
        system: whose study it must be.
        wanted: which run.
        merit: of all runs that fit the one is taken that has most of it, the first of several.

    Raises:
        StudyError: the folder holds no such study or no such run.
    """
    with Store(folder, readonly=True) as store:
        results = store.results()
    record = results.record
    recipe = recipe_of(record)
    if recipe.system != system:
        raise StudyError(f"{folder} holds a study of {recipe.system}; this command shows runs of {system}")
    run = _choose(folder, results, wanted, merit)
    study = build_again(dataclasses.replace(recipe, seeds=run.seed + 1, rows=(), arms=()), record)
    trials = [t for t in study.trials() if t.id == run.id]
    if not trials:
        raise StudyError(f"{folder} was run by another version; run the study again in a new folder to look at it")
    return Found(study, trials[0], run)


def _choose(folder: Path, results: StudyResults, wanted: Wanted, merit: Callable[[TrialResult], float]) -> TrialResult:
    runs = [t for t in results.trials if wanted.fits(t)]
    if not runs:
        rows, arms = ", ".join(r for r, _ in results.record.rows), ", ".join(a.name for a in results.record.arms)
        raise StudyError(f"{folder} has no such finished run; its rows are {rows}, its arms {arms}")
    return max(runs, key=merit)
