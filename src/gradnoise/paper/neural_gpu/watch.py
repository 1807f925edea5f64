"""The command `gradnoise neural-gpu multiply`: a trained network multiplies two numbers and shows where it is wrong."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, arg

from gradnoise.paper.neural_gpu.diagonal import DiagonalExperiment, DiagonalNeuralGPU
from gradnoise.paper.neural_gpu.experiment import NeuralGPUExperiment
from gradnoise.paper.neural_gpu.model import NeuralGPU
from gradnoise.paper.neural_gpu.tasks import ONE, OPERATOR, PAD, ZERO, decode, encode
from gradnoise.paper.rebuild import build_again, recipe_of
from gradnoise.paper.training import notice, training_bar, weights_cache
from gradnoise.study import Store, Study, StudyError, Trial, TrialResult, trained_weights

#: How symbols are written.
SIGNS = {PAD: "·", ZERO: "0", ONE: "1", OPERATOR: "x"}
FORMATS = (".svg", ".png", ".pdf")


@dataclass(frozen=True)
class Multiply:
    """Watch a Neural GPU multiply two numbers: its answer bit by bit, where it is wrong, and its state over time.

    A study keeps no weights: the first time the run is trained once more, and its weights are kept in the cache.

    Example: gradnoise neural-gpu multiply 6 5 --folder runs/neural-gpu-quick
    """

    a: Positional[int]
    """The first number, 0 or more."""
    b: Positional[int]
    """The second number."""
    folder: Path = Path("runs/neural-gpu-quick")
    """Folder of a `gradnoise run neural-gpu`."""
    arm: Annotated[str | None, arg(help_behavior_hint="(default: any)")] = None
    """Arm of the run. Of all runs that learn to multiply the one with the lowest error is shown."""
    seed: Annotated[int | None, arg(help_behavior_hint="(default: any)")] = None
    """Seed of the run."""
    digits: Annotated[int | None, arg(help_behavior_hint="(default: as many as the larger number has)")] = None
    """Bits in which both numbers are written; more than the run was trained on may be asked for."""
    figure: Annotated[Path | None, arg(help_behavior_hint="(default: none)")] = None
    """Where to save a picture of the state over time."""

    def __call__(self, console: Console) -> None:
        """Train or load, multiply, print."""
        digits = max(self.a.bit_length(), self.b.bit_length(), 1) if self.digits is None else self.digits
        try:
            symbols = torch.tensor([encode(self.a, self.b, digits)])
        except ValueError as error:
            raise StudyError(str(error)) from error
        if self.figure is not None and self.figure.suffix.lower() not in FORMATS:
            raise StudyError(f"--figure {self.figure}: a picture ends in {', '.join(FORMATS)}")
        study, trial, steps = find(self.folder, self.arm, self.seed)
        experiment = study.experiment
        assert isinstance(experiment, NeuralGPUExperiment)
        with training_bar(console) as progress:
            found = trained_weights(
                experiment, [trial], weights_cache(), steps=steps, progress=progress, notice=notice(console)
            )
        network = found.model
        assert isinstance(network, NeuralGPU | DiagonalNeuralGPU)
        with torch.no_grad():
            states = torch.stack([x[0] for x in network.states(symbols, symbols.shape[1])])
            answer = network.read(states[-1:])[0].argmax(-1)
        answer = experiment.compared(answer, torch.tensor(product(self.a, self.b, digits))).tolist()
        longest = experiment.configured(trial.config).tests[0] // 2
        console.print(Text(f"{study.title}: row {trial.row}, {trial.arm}, seed {trial.seed}, {steps:,} updates"))
        console.print(Text(f"trained on numbers of up to {longest} bits; these have {digits}", "dim"))
        _show(self.a, self.b, digits, answer, console)
        if self.figure is not None:
            save_figure(symbols[0].tolist(), states if states.dim() > 3 else states[..., None], self.figure)
            console.print(Text(f"the state over time: {self.figure}"), soft_wrap=True)


def find(folder: Path, arm: str | None = None, seed: int | None = None) -> tuple[Study, Trial, int]:
    """Find the run with the lowest error among those of a folder that learn to multiply.

    Args:
        folder: of a `gradnoise run neural-gpu`.
        arm, seed: of the run; None for any.

    Returns:
        The study, the trial, and the updates that it took.

    Raises:
        StudyError: the folder holds no such study or no such run.
    """
    with Store(folder, readonly=True) as store:
        results = store.results()
    recipe = recipe_of(results.record)
    if recipe.system != "neural-gpu":
        raise StudyError(f"{folder} holds a study of {recipe.system}; only one of neural-gpu multiplies")
    experiments = (NeuralGPUExperiment(), DiagonalExperiment())
    experiment = next(e for e in experiments if e.name == results.record.experiment.partition("@")[0])
    runs = [
        t
        for t in results.trials
        if t.status == "finished" and arm in (None, t.arm) and seed in (None, t.seed)
        and experiment.configured(t.config).task == "bmul"
    ]  # fmt: skip
    if not runs:
        arms = ", ".join(a.name for a in results.record.arms)
        raise StudyError(f"{folder} has no such finished run that learns to multiply; its arms are {arms}")
    run = min(runs, key=_error)
    study = build_again(dataclasses.replace(recipe, seeds=run.seed + 1, rows=(), arms=()), results.record)
    trials = [t for t in study.trials() if t.id == run.id]
    if not trials:
        raise StudyError(f"{folder} was run by another version; run the study again in a new folder to watch it")
    return study, trials[0], run.step


def _error(run: TrialResult) -> float:
    error = run.final.get("error", np.inf)
    return error if np.isfinite(error) else np.inf


def product(a: int, b: int, digits: int) -> list[int]:
    """Return the symbols of a product of two numbers of so many bits, lowest bit first."""
    return [ZERO + (a * b >> k & 1) if k < max(1, (a * b).bit_length()) else PAD for k in range(2 * digits + 1)]


def _show(a: int, b: int, digits: int, answer: list[int], console: Console) -> None:
    """Print both numbers, the right product and the answer in bits, highest first, wrong bits marked."""
    truth = product(a, b, digits)
    wrong = [x != y for x, y in zip(answer, truth, strict=True)]
    styles = ["bold red" if bad else "green" for bad in wrong]
    bits = [Text(SIGNS[s], style) for s, style in zip(answer, styles, strict=True)]
    for name, text, number in (
        ("a", Text(f"{a:0{digits}b}".rjust(len(truth))), a),
        ("b", Text(f"{b:0{digits}b}".rjust(len(truth))), b),
        ("a x b", Text("".join(SIGNS[s] for s in reversed(truth))), a * b),
        ("answer", Text.assemble(*reversed(bits)), decode(answer)),
        ("wrong", Text("".join("^" if bad else " " for bad in reversed(wrong)), "red"), None),
    ):
        shown = "" if number is None else f"  = {number}"
        shown = "  is no number" if name == "answer" and number is None else shown
        console.print(Text.assemble((f"{name:>6}  ", "dim"), text, shown), soft_wrap=True)
    right = sum(not bad for bad in wrong)
    console.print(Text(f"{right} of {len(truth)} symbols are right; {SIGNS[PAD]} stands for nothing", "dim"))


def save_figure(symbols: list[int], states: torch.Tensor, path: Path) -> None:
    """Save a picture of the mean size of the state's cells over time, one panel for each row of the state.

    Args:
        symbols: what was written into the state [n].
        states: after each step [n + 1, m, n, w].
        path: where to.
    """
    height = states.shape[-1]
    figure = Figure(figsize=(2.4 * height, 0.6 + 0.05 * len(symbols) * 2), layout="constrained")
    axes = figure.subplots(1, height, sharey=True, squeeze=False)[0]
    size, drawn = states.abs().mean(1), []
    for k, ax in enumerate(axes):
        drawn.append(ax.imshow(size[..., k].numpy(), origin="lower", aspect="auto", vmin=0, vmax=float(size.max())))
        ax.set_title(f"row {k}", fontsize=9, loc="left")
        ax.set_xlabel("position")
        if len(symbols) <= 24:
            ax.set_xticks(range(len(symbols)), [SIGNS[s] for s in symbols], fontsize=7)
    axes[0].set_ylabel("step")
    figure.colorbar(drawn[0], ax=axes, label="mean size")
    figure.savefig(path)
