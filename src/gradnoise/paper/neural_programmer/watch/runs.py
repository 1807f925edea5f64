"""Find the network of a run in the folder of a study; it is trained once more where its weights are not at hand."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from gradnoise.paper.neural_programmer.experiment import TableQuestions
from gradnoise.paper.neural_programmer.machine.model import NeuralProgrammer
from gradnoise.paper.runs import Wanted, find
from gradnoise.paper.training import notice, training_bar, weights_cache
from gradnoise.study import trained_weights


def trained(folder: Path, wanted: Wanted, console: Console) -> NeuralProgrammer:
    """Return the most accurate network of those wanted, and print which one it is.

    Args:
        folder: of a `gradnoise run neural-programmer`.
        wanted: which runs.
        console: where to print.

    Raises:
        StudyError: the folder holds no such study or no such run.
    """
    found = find(folder, "neural-programmer", wanted, merit=lambda run: run.final.get("test_accuracy") or 0.0)
    study, best = found.study, found.run
    assert isinstance(study.experiment, TableQuestions)
    with training_bar(console) as progress:
        kept = trained_weights(
            study.experiment, [found.trial], weights_cache(), steps=best.step, progress=progress, notice=notice(console)
        )
    model = kept.model
    assert isinstance(model, NeuralProgrammer)
    said = f"row {best.row}, {best.arm}, seed {best.seed}, {best.step:,} updates"
    console.print(Text(f"{study.title}: {said}; it answers {kept.metrics['test_accuracy']:.1f} % of tests", "dim"))
    return model
