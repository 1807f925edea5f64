"""Plots over training: the primary metric of every run, and the noise relative to the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gradnoise.study.analysis.curves import PooledResult, quantiles
from gradnoise.study.analysis.scores import by_setting, final_value, short_settings
from gradnoise.study.report.limits import limits
from gradnoise.study.report.panels import Panel, Plot, arm_colour, dash, style, style_steps
from gradnoise.study.report.svg import MUTED
from gradnoise.study.report.text import with_unit
from gradnoise.study.results import Curve, StudyRecord, StudyResults, TrialResult
from gradnoise.study.spec import Metric

# Points that the thin curves of one plot may have altogether, and any one of them: some 0.7 MB of SVG.
_POINTS, _POINTS_EACH = 50_000, 200

Trials = Sequence[TrialResult]


@dataclass(frozen=True)
class _Group:
    """The runs of one arm in one setting, and how they are drawn."""

    colour: str
    line: str | tuple[int, tuple[float, ...]]
    runs: Trials
    baseline: bool


def training_curves(results: StudyResults) -> Plot:
    """Draw the primary metric over training: every run thin, the median over seeds thick.

    Args:
        results: a study; rows with many settings are pooled.
    """
    record, metric = results.record, results.record.metric
    trials = [t for t in results.trials if metric.name in t.curves and t.curves[metric.name].steps.size]
    shown = limits({a.name: _values(trials, a.name, metric) for a in record.arms})
    points = min(_POINTS_EACH, max(20, _POINTS // max(len(trials), 1)))

    def draw(axes: Axes, groups: Sequence[_Group]) -> None:
        style(axes, x="updates", y=with_unit(metric.title, metric.unit))
        style_steps(axes, _last(groups, record))
        axes.set_ylim(shown.low, shown.high)
        if metric.chance is not None:
            axes.axhline(metric.chance, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for group in groups:
            for trial in group.runs:
                _thin_curve(axes, trial, metric, group.colour, points)
        for group in groups:
            _median_curve(axes, group, metric)

    caption = (
        "Thin: single runs; a cross marks where one diverged. Thick: median over seeds, the "
        "baseline's wide and pale; a run that diverged or ended early counts there on with its final value."
    )
    if metric.chance is not None:
        caption += " Dotted: chance."
    if any(isinstance(t, PooledResult) for t in trials):
        caption += " Where a row has many settings, a thin line is one seed's mean over them."
    caption += shown.sentence({a.name: a.label for a in record.arms})
    return _per_row("training-curves", "Training curves", caption, record, trials, draw)


def _values(trials: Trials, arm: str, metric: Metric) -> list[float]:
    return [float(x) for t in trials if t.arm == arm for x in t.curves[metric.name].values]


def _thin_curve(axes: Axes, trial: TrialResult, metric: Metric, colour: str, points: int) -> None:
    curve = trial.curves[metric.name]
    pick = np.unique(np.linspace(0, curve.steps.size - 1, points).round().astype(int))
    steps, values = curve.steps[pick], curve.values[pick]
    axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.22)
    if trial.status == "diverged" and np.isfinite(curve.values).any():
        last = np.flatnonzero(np.isfinite(curve.values))[-1]
        axes.plot(curve.steps[last], curve.values[last], color=colour, marker="x", markersize=4)


def _median_curve(axes: Axes, group: _Group, metric: Metric) -> None:
    after = [final_value(t, metric) if t.done else None for t in group.runs]
    steps, median = quantiles([t.curves[metric.name] for t in group.runs], [0.5], after)
    # The baseline lies under the others: wider and paler, it shows where they coincide.
    width, alpha = (3.4, 0.6) if group.baseline else (1.8, 1)
    axes.plot(steps, median, color=group.colour, linestyle=group.line, linewidth=width, alpha=alpha)


def noise_to_gradient(results: StudyResults) -> Plot:
    """Draw the norm of the noise over that of the gradient: median over seeds, and the middle 80%.

    Args:
        results: a study; rows with many settings are pooled.
    """
    record = results.record
    ratios = {t.id: _ratio(t) for t in results.trials}
    trials = [t for t in results.trials if ratios[t.id].steps.size]
    values = np.concatenate([ratios[t.id].values for t in trials] or [np.ones(1)])
    low, high = np.quantile(values, [0.005, 0.995])

    def draw(axes: Axes, groups: Sequence[_Group]) -> None:
        style(axes, x="updates", y="noise norm / gradient norm")
        style_steps(axes, _last(groups, record))
        axes.set_yscale("log")
        axes.set_ylim(min(low, 0.5), max(high, 2.0))
        axes.axhline(1.0, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for group in groups:
            curves = [ratios[t.id] for t in group.runs]
            steps, below, median, above = quantiles(curves, [0.1, 0.5, 0.9], [None] * len(curves))
            axes.fill_between(steps, below, above, color=group.colour, alpha=0.16, linewidth=0)
            axes.plot(steps, median, color=group.colour, linestyle=group.line, linewidth=1.9)
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

    caption = (
        "Expected norm of the noise, σ√N, over the norm of the gradient before clipping: median over seeds "
        "and the middle 80%. Above the dotted line the noise is the larger."
    )
    return _per_row("noise-to-gradient", "Noise-to-gradient ratio", caption, record, trials, draw)


def _ratio(trial: TrialResult) -> Curve:
    """Divide the norm of the noise by that of the gradient, where both are positive and finite."""
    noise, gradient = trial.curves.get("noise_norm"), trial.curves.get("gradient_norm")
    if noise is None or gradient is None:
        return Curve(np.empty(0), np.empty(0))
    steps, i, j = np.intersect1d(noise.steps, gradient.steps, return_indices=True)
    above, below = np.asarray(noise.values, float)[i], np.asarray(gradient.values, float)[j]
    usable = np.isfinite(above) & np.isfinite(below) & (above > 0.0) & (below > 0.0)
    return Curve(steps[usable], above[usable] / below[usable])


def _last(groups: Sequence[_Group], record: StudyRecord) -> int:
    """Return the updates of the longest run of a panel."""
    return max(t.config.get("steps", record.steps) for group in groups for t in group.runs)


def _per_row(
    name: str,
    title: str,
    caption: str,
    record: StudyRecord,
    trials: Trials,
    draw: Callable[[Axes, Sequence[_Group]], None],
) -> Plot:
    """Make a plot with one panel over training per table row."""
    short = {row: short_settings(t.setting for t in trials if t.row == row) for row, _ in record.rows}
    settings = tuple(dict.fromkeys(label for labels in short.values() for label in labels.values()))

    def groups(row: str) -> Iterator[_Group]:
        for i, arm in enumerate(record.arms):
            mine = [t for t in trials if t.row == row and t.arm == arm.name]
            for label, runs in by_setting(mine, short[row]).items():
                yield _Group(arm_colour(i), dash(settings.index(label)), runs, baseline=i == 0)

    def panel(row: str, heading: str) -> Panel:
        mine = list(groups(row))
        return Panel(heading, 4.6, 2.5, lambda axes: draw(axes, mine))

    rows, arms = {t.row for t in trials}, {t.arm for t in trials}
    drawn = tuple(i for i, arm in enumerate(record.arms) if arm.name in arms)
    return Plot(name, title, caption, tuple(panel(*row) for row in record.rows if row[0] in rows), drawn, settings)
