"""What the report adds: what runs answer by category, successes by seed and setting, curves, and Figure 2."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradnoise.paper.neural_programmer.problems.grammar import CATEGORIES
from gradnoise.paper.neural_programmer.scales import FIGURE_2, NOISE, NONE
from gradnoise.study import StudyResults, TrialResult
from gradnoise.study.analysis import done_by_row
from gradnoise.study.report import (
    Extras,
    Table,
    arm_colour,
    evaluated_rows,
    exact_tests,
    learning_curves,
    legend,
    style,
)

#: Figure 2 of the paper, read off the plot: arm -> epochs and values. Loss and accuracy in %.
PAPER = {
    "train_loss": {
        NONE.name: ((0, 5, 270), (3500, 2000, 1900)),
        NOISE.name: ((0, 5, 100, 140, 175, 270), (3500, 2000, 1800, 1800, 1350, 1300)),
    },
    "test_accuracy": {
        NONE.name: ((0, 270), (15, 17)),
        NOISE.name: ((0, 130, 155, 167, 178, 270), (17, 19, 50, 90, 97, 99)),
    },
}
#: Keys of the configuration by which successes are counted.
COUNTED = {"clip": "clip", "delta": "delta", "lookup_weight": "lambda"}


def answers(results: StudyResults) -> Extras:
    """Make the learning curves, the tables, and for the row of Figure 2 its two curves beside the paper's.

    Args:
        results: of a study of Neural Programmers.

    Returns:
        Nothing where no run was evaluated.
    """
    if not evaluated_rows(results):
        return []
    found: list[tuple[str, Figure | Table]] = [
        (
            "Test accuracy over training, and runs that have succeeded by then",
            learning_curves(results, "test_accuracy", y="test accuracy in %", y_success="% of runs by then"),
        ),
        ("What is answered", by_category(results)),
        ("Exact tests of the runs that succeed", exact_tests(results)),
        ("Runs that answer everything, by seed and setting", by_setting(results)),
    ]
    if any(row == FIGURE_2.name for row, _ in evaluated_rows(results)):
        found.append(("Figure 2: our runs beside the paper's", figure_2(results)))
    return found


def by_category(results: StudyResults) -> Table:
    """Make the table of what runs answer at the end, by row and arm.

    Args:
        results: of a study of Neural Programmers.
    """
    lines = []
    for title, cells in done_by_row(results):
        for arm in results.record.arms:
            if runs := cells.get(arm.name, []):
                solved = [_count(runs, name) for name in ("solved", "solved_one", "solved_last", "solved_ever")]
                means = [_mean(runs, f"test_{name}") for name in CATEGORIES]
                best = max((x for t in runs if (x := t.final.get("accuracy")) is not None), default=None)
                lines.append((title, arm.label, *solved, *means, "" if best is None else f"{best:.1f}"))
    return Table(
        ("row", "arm", "solved", "one table", "last", "ever", *CATEGORIES, "best accuracy"),
        tuple(lines),
        "Runs with all test questions right at the best validation: on all tables, and on one for each question as in"
        " the paper; at the last evaluation; at any. Means over runs of the last accuracies by category, in %. The best"
        " accuracy is the highest of the test at the best validation, as Table 3 of the paper reports it.",
    )


def by_setting(results: StudyResults) -> Table:
    """Count the runs that answer everything for each seed and each value of the grid, by row and arm.

    Args:
        results: of a study of Neural Programmers.
    """
    lines = []
    for title, cells in done_by_row(results):
        for arm in results.record.arms:
            if runs := cells.get(arm.name, []):
                seeds = _counts([(t.seed, t) for t in runs])
                grid = (_counts([(t.config.get(key, ""), t) for t in runs]) for key in COUNTED)
                lines.append((title, arm.label, seeds, *grid))
    return Table(
        ("row", "arm", "seed", *COUNTED.values()),
        tuple(lines),
        "Value: runs that answer everything at the best validation, of all runs with this value.",
    )


def _counts(runs: Sequence[tuple[object, TrialResult]]) -> str:
    values = sorted({value for value, _ in runs}, key=str)
    return "  ".join(f"{_short(v)}: {_count([t for w, t in runs if w == v], 'solved')}" for v in values)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _count(runs: Sequence[TrialResult], name: str) -> str:
    return f"{sum(t.final.get(name) == 100 for t in runs)}/{len(runs)}"


def _mean(runs: Sequence[TrialResult], name: str) -> str:
    values = [x for t in runs if (x := t.final.get(name)) is not None]
    return f"{fmean(values):.1f}" if values else ""


# --- Figure 2 -----------------------------------------------------------------------------------------


def figure_2(results: StudyResults) -> Figure:
    """Draw training loss and test accuracy over epochs, and what the paper's Figure 2 shows.

    Args:
        results: of a study with the row of Figure 2.
    """
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    arms = [(i, arm) for i, arm in enumerate(results.record.arms) if arm.name in PAPER["train_loss"]]
    for ax, (metric, y) in zip(axes, (("train_loss", "training loss"), ("test_accuracy", "test accuracy in %")),
                               strict=True):  # fmt: skip
        for i, arm in arms:
            for trial in results.trials:
                if (trial.row, trial.arm) == (FIGURE_2.name, arm.name) and metric in trial.curves:
                    _draw(ax, trial, metric, arm_colour(i))
            epochs, values = PAPER[metric][arm.name]
            ax.plot(epochs, values, color=arm_colour(i), lw=1.5, ls="--")
        style(ax, x="epochs", y=y)
    lines = [Line2D([], [], color=arm_colour(i), label=arm.label) for i, arm in arms]
    legend(figure, [*lines, Line2D([], [], color="grey", ls="--", label="the paper's, read off its plot")])
    return figure


def _draw(ax: Axes, trial: TrialResult, metric: str, colour: str) -> None:
    curve, epoch = trial.curves[metric], trial.config["eval_every"]
    ax.plot([step / epoch for step in curve.steps.tolist()], curve.values, color=colour, lw=1, alpha=0.7)
