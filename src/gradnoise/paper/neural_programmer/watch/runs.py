"""Find the network of a run in the folder of a study; it is trained once more where its weights are not at hand."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gradnoise.paper.neural_programmer.experiment import TableQuestions
from gradnoise.paper.neural_programmer.machine.model import NeuralProgrammer
from gradnoise.paper.rebuild import build_again, recipe_of
from gradnoise.paper.training import notice, training_bar, weights_cache
from gradnoise.study import Store, StudyError, TrialResult, trained_weights

SYSTEM = "neural-programmer"


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
        """Say whether a run has finished and is one of those wanted."""
        return (
            run.status == "finished"
            and self.row in (None, run.row)
            and self.arm in (None, run.arm)
            and self.seed in (None, run.seed)
        )


def trained(folder: Path, wanted: Wanted, console: Console) -> NeuralProgrammer:
    """Return the most accurate network of those wanted, and print which one it is.

    Args:
        folder: of a `gradnoise run neural-programmer`.
        wanted: which runs.
        console: where to print.

    Raises:
        StudyError: the folder holds no such study or no such run.
    """
    with Store(folder, readonly=True) as store:
        results = store.results()
    record, recipe = results.record, recipe_of(results.record)
    if recipe.system != SYSTEM:
        raise StudyError(f"{folder} holds a study of {recipe.system}; only a {SYSTEM} can be asked")
    runs = [t for t in results.trials if wanted.fits(t)]
    if not runs:
        rows, arms = ", ".join(r for r, _ in record.rows), ", ".join(a.name for a in record.arms)
        raise StudyError(f"{folder} has no such finished run; its rows are {rows}, its arms {arms}")
    best = max(runs, key=lambda t: t.final.get("test_accuracy") or 0.0)
    study = build_again(dataclasses.replace(recipe, seeds=best.seed + 1, rows=(), arms=()), record)
    trials = [t for t in study.trials() if t.id == best.id]
    if not trials:
        raise StudyError(f"{folder} was run by another version; run the study again in a new folder to ask it")
    assert isinstance(study.experiment, TableQuestions)
    with training_bar(console) as progress:
        found = trained_weights(
            study.experiment, trials, weights_cache(), steps=best.step, progress=progress, notice=notice(console)
        )
    model = found.model
    assert isinstance(model, NeuralProgrammer)
    said = f"row {best.row}, {best.arm}, seed {best.seed}, {best.step:,} updates"
    console.print(Text(f"{study.title}: {said}; it answers {found.metrics['test_accuracy']:.1f} % of tests", "dim"))
    return model
