"""Find a run in the folder of an NRAM study, and the study that it is a trial of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradnoise.paper.rebuild import build_again, recipe_of
from gradnoise.study import Store, Study, StudyError, StudyResults, Trial, TrialResult

#: Metrics that are compared, in % of wrong cells.
ERRORS = ("error", "stopped_error", "hard_error")


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

    def difference(self, metrics: Mapping[str, float]) -> str:
        """Say how a machine that was trained once more differs from the stored run; "" where its errors are the same.

        Args:
            metrics: of the machine trained again.
        """
        pairs = [(name, self.run.final[name], metrics.get(name, math.nan)) for name in ERRORS if name in self.run.final]
        if metrics.get("error") == 0:  # then the stored one is of the second, larger exam
            pairs = [pair for pair in pairs if pair[0] != "error"]
        differing = [
            f"{name.replace('_', ' ')} {then:g} % then, {now:g} % now" for name, then, now in pairs if then != now
        ]
        if not differing:
            return ""
        return (
            f"This is another machine than the stored run: {'; '.join(differing)}. Where a run is trained alone or by"
            " other code, sums are rounded in another order, and it can end elsewhere."
        )


def find(folder: Path, wanted: Wanted) -> Found:
    """Find a run: of all that fit one that reached zero error, if there is one.

    Args:
        folder: of a `gradnoise run nram`.
        wanted: which run.

    Raises:
        StudyError: the folder holds no such study or no such run.
    """
    with Store(folder, readonly=True) as store:
        results = store.results()
    record = results.record
    recipe = recipe_of(record)
    if recipe.system != "nram":
        raise StudyError(f"{folder} holds a study of {recipe.system}; there is nothing to trace but nram")
    run = _choose(folder, results, wanted)
    study = build_again(dataclasses.replace(recipe, seeds=run.seed + 1, rows=(), arms=()), record)
    trials = [t for t in study.trials() if t.id == run.id]
    if not trials:
        raise StudyError(f"{folder} was run by another version; run the study again in a new folder to trace it")
    return Found(study, trials[0], run)


def _choose(folder: Path, results: StudyResults, wanted: Wanted) -> TrialResult:
    runs = [t for t in results.trials if wanted.fits(t)]
    if not runs:
        rows, arms = ", ".join(r for r, _ in results.record.rows), ", ".join(a.name for a in results.record.arms)
        raise StudyError(f"{folder} has no such finished run; its rows are {rows}, its arms {arms}")
    return max(runs, key=lambda t: t.final.get("solved", 0.0) >= 100)
