"""Our errors without noise, task by task, next to those that memory networks were published with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from gradnoise.data.babi import NAMES
from gradnoise.study import StudyResults, TrialResult
from gradnoise.study.analysis import chosen_trials
from gradnoise.study.report import Extras, Table, arm_colour, legend, style

#: Test errors in % of tasks 1..20 in Sukhbaatar et al. (2015), Table 1: 3 hops, position encoding, linear start,
#: random noise on time; 1,000 questions a task, best of 10 restarts by training error. The joint column was compared
#: with public copies entry by entry; the one by task was written down from memory, and agrees with the printed mean
#: (13.9) and number of failed tasks (11).
PUBLISHED = {
    "tasks-two": (0.0, 8.3, 40.3, 2.8, 13.1, 7.6, 17.3, 10.0, 13.2, 15.1,
                  0.9, 0.2, 0.4, 1.7, 0.0, 1.3, 51.0, 11.1, 82.8, 0.0),
    "joint-two": (0.0, 11.4, 21.9, 13.4, 14.4, 2.8, 18.3, 9.3, 1.9, 6.5,
                  0.3, 0.1, 0.2, 6.9, 0.0, 2.7, 40.4, 9.4, 88.0, 0.0),
}  # fmt: skip
MODES = {"joint-two": "Calibration, all tasks jointly", "tasks-two": "Calibration, task by task"}
CAPTION = (
    "Test error in %, two-stage training without noise: the run with the lowest training error, and in brackets the"
    " lowest and the highest of all restarts. Published: Sukhbaatar et al. (2015), Table 1, three hops with position"
    " encoding, linear start and random time noise, best of 10 restarts by training error; among our restarts: give or"
    " take half a point. Provenance: the joint column"
    " was compared with public copies entry by entry; the one by task was written down from memory, and agrees with the"
    " printed mean and number of failed tasks."
)


@dataclass(frozen=True)
class Calibrated:
    """Test error of one task: of the chosen run, the lowest and the highest of all restarts, and as published."""

    task: int
    ours: float
    low: float
    high: float
    published: float

    @property
    def inside(self) -> bool:
        """Whether the published error lies among our restarts, give or take 5 of 1,000 questions."""
        return self.low - 0.5 <= self.published <= self.high + 0.5


def calibrate(results: StudyResults, row: str) -> list[Calibrated]:
    """Gather the tasks of a row that have results, without noise.

    Args:
        results: of a memory-network study.
        row: "tasks-two" or "joint-two".
    """
    selection = results.record.selection
    trials = [t for t in results.trials if (t.row, t.arm) == (row, results.record.arms[0].name)]
    if selection is None:
        return []
    found = []
    for setting, chosen in chosen_trials(trials, selection).items():
        restarts = [t for t in trials if t.setting == setting and t.done]
        for task, metric in _metrics(chosen).items():
            errors = [t.final.get(metric, math.nan) for t in restarts]
            errors = [e for e in errors if math.isfinite(e)] or [math.nan]
            ours = chosen.final.get(metric, math.nan)
            found.append(Calibrated(task, ours, min(errors), max(errors), PUBLISHED[row][task - 1]))
    return sorted(found, key=lambda c: c.task)


def _metrics(trial: TrialResult) -> Mapping[int, str]:
    """Map each task of a trial, of one task or of all jointly, to the name of its test error."""
    task = trial.config["task"]
    return {int(task): "test_error"} if task != "joint" else {t: f"test_error_{t}" for t in NAMES}


def calibration(results: StudyResults) -> Extras:
    """Make a figure and a table for each mode that the study has results in; on stand-in data neither."""
    if results.record.stand_in:
        return []
    extra: list[tuple[str, Figure | Table]] = []
    for row, title in MODES.items():
        if tasks := calibrate(results, row):
            extra += [(title, _figure(tasks)), (f"{title}: figures", _table(tasks))]
    return extra


def _table(tasks: Sequence[Calibrated]) -> Table:
    rows = [(f"{c.task} {NAMES[c.task]}", f"{c.ours:.1f}", f"[{c.low:.1f}, {c.high:.1f}]", f"{c.published:.1f}",
             f"{c.ours - c.published:+.1f}", "yes" if c.inside else "no") for c in tasks]  # fmt: skip
    ours, published = (math.fsum(x) / len(tasks) for x in ([c.ours for c in tasks], [c.published for c in tasks]))
    inside = f"{sum(c.inside for c in tasks)} of {len(tasks)}"
    rows.append(("mean", f"{ours:.1f}", "", f"{published:.1f}", f"{ours - published:+.1f}", inside))
    return Table(
        ("task", "ours", "restarts", "published", "difference", "published among restarts"), tuple(rows), CAPTION
    )


def _figure(tasks: Sequence[Calibrated]) -> Figure:
    figure = Figure(figsize=(6.4, 0.24 * len(tasks) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    style(axes, x="test error in %, without noise")
    axes.grid(False, axis="y")
    ours, paper = arm_colour(1), arm_colour(2)
    for y, c in enumerate(tasks):
        axes.plot([c.low, c.high], [y, y], color=ours, lw=4, alpha=0.3, solid_capstyle="round")
        axes.plot(c.ours, y, "o", color=ours, ms=5)
        axes.plot(c.published, y, "D", color=paper, ms=6, mfc="none", mew=1.4)
    axes.set_yticks(range(len(tasks)), [f"{c.task}  {NAMES[c.task]}" for c in tasks])
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.set_xlim(left=-1.5)
    looks: dict[str, dict[str, Any]] = {
        "our chosen run": {"marker": "o", "color": ours, "lw": 0},
        "our restarts": {"color": ours, "lw": 4, "alpha": 0.3},
        "published": {"marker": "D", "color": paper, "mfc": "none", "lw": 0},
    }
    legend(figure, [axes.plot([], [], label=label, **look)[0] for label, look in looks.items()], columns=3)
    return figure
