"""What the report of an NRAM study adds: how fast machines learn, and how many of them at each strength of noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from gradnoise.paper.nram.tables import exact, learned, solved
from gradnoise.study import StudyResults, TrialResult
from gradnoise.study.analysis import wilson
from gradnoise.study.report import Extra, arm_colour, style

ERROR, SOLVED = "error", "solved"


def learning(results: StudyResults) -> Extra:
    """Error and share of solved runs over training, the latter at the end by the strength of the noise, and tables.

    Args:
        results: of an NRAM study.
    """
    rows = [(row, title) for row, title in results.record.rows if _runs(results, row, results.record.arms[0].name)]
    if not rows:
        return []
    return [
        ("Learning curves: a run that is solved ends there, and counts on as it was", _curves(results, rows)),
        ("Dose and response: runs that reach zero error by the strength of their noise", _doses(results, rows)),
        ("Exact tests of the runs at zero error", exact(results)),
        ("What was learned", learned(results)),
    ]


def _curves(results: StudyResults, rows: Sequence[tuple[str, str]]) -> Figure:
    figure = Figure(figsize=(3.6 * len(rows), 4.8), layout="constrained")
    axes = figure.subplots(2, len(rows), sharex="col", sharey="row", squeeze=False)
    for (row, title), (above, below) in zip(rows, axes.T, strict=True):
        for i, arm in enumerate(results.record.arms):
            if runs := _runs(results, row, arm.name):
                above.plot(*mean_curve(runs, ERROR), color=arm_colour(i), lw=1.8, label=arm.label)
                below.plot(*mean_curve(runs, SOLVED), color=arm_colour(i), lw=1.8)
        above.set_title(title, fontsize=9, loc="left", pad=16)
        style(above, y="mean error in %")
        style(below, x="updates", y="% of runs solved by then")
    handles = {label: h for ax in axes[0] for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    return figure


def _doses(results: StudyResults, rows: Sequence[tuple[str, str]]) -> Figure:
    """Shares of solved runs with Wilson intervals; strengths are evenly spaced, as 0 is among them."""
    figure = Figure(figsize=(3.6 * len(rows), 2.6), layout="constrained")
    axes = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    doses = [a for a in results.record.arms if a.name == "none" or a.name.startswith("eta-")]
    for ax, (row, title) in zip(axes, rows, strict=True):
        for i, arm in enumerate(results.record.arms):
            done = [t for t in _runs(results, row, arm.name) if t.done]
            if arm not in doses or not done:
                continue
            x = doses.index(arm)
            hits = sum(map(solved, done))
            interval = wilson(hits, len(done))
            ax.plot([x, x], [100 * interval.low, 100 * interval.high], color=arm_colour(i), lw=2)
            ax.plot(x, 100 * hits / len(done), "o", color=arm_colour(i), ms=6)
            ax.annotate(f"{hits}/{len(done)}", (x, 100 * hits / len(done)), (7, 0), textcoords="offset points",
                        fontsize=8, va="center")  # fmt: skip
        ax.set_xticks(range(len(doses)), [a.name.removeprefix("eta-").replace("none", "0") for a in doses])
        ax.set_xlim(-0.4, len(doses) - 0.4)
        ax.set_ylim(-4, 104)
        ax.set_title(title, fontsize=9, loc="left", pad=16)
        style(ax, x="η", y="% of runs solved")
    return figure


def mean_curve(runs: Sequence[TrialResult], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and the mean over runs; those that ended count on with their last value."""
    curves = [t.curves[metric] for t in runs]
    grid = np.unique(np.concatenate([c.steps for c in curves]))
    grid = grid[grid >= max(c.steps[0] for c in curves)]
    held = np.array([c.values[np.searchsorted(c.steps, grid, "right") - 1] for c in curves])
    return grid, (np.maximum.accumulate(held, axis=1) if metric == SOLVED else held).mean(0)


def _runs(results: StudyResults, row: str, arm: str) -> list[TrialResult]:
    found = (t for t in results.trials if t.row == row and t.arm == arm)
    return [t for t in found if ERROR in t.curves and t.curves[ERROR].steps.size]
