"""Plots over training: the primary metric of every run, and the noise relative to the gradient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gradnoise.study.analysis.curves import PooledResult, binned, mean_curve, quantiles
from gradnoise.study.analysis.scores import by_setting, final_value, short_settings
from gradnoise.study.report.chart import Area, Chart, Line, panels
from gradnoise.study.report.limits import Limits, limits
from gradnoise.study.report.plot import Plot
from gradnoise.study.report.svg import TOLD_APART
from gradnoise.study.report.text import with_better
from gradnoise.study.results import Curve, StudyRecord, StudyResults, TrialResult
from gradnoise.study.spec import Metric

#: Runs of a panel, and of a plot, that are drawn as single lines; beyond, the middle 80% of them is a band.
RUNS_EACH, RUNS = 200, 1_000
#: Rows that are drawn; beyond, only those with the largest differences are.
ROWS = 12
#: Points that the thin lines of a plot may have altogether, and any one of them; and points of a median.
_POINTS, _POINTS_EACH, _POINTS_MEDIAN = 50_000, 200, 400

Trials = Sequence[TrialResult]


@dataclass(frozen=True)
class _Group:
    """The runs of one arm in one setting, and how they are drawn."""

    arm: int
    label: str
    dash: int
    runs: Trials

    @property
    def weight(self) -> str:
        """How the median is drawn."""
        return "baseline" if self.arm == 0 else "median"


@dataclass(frozen=True)
class _Panel:
    """The runs of one row."""

    title: str
    groups: tuple[_Group, ...]
    last: float


def training_curves(results: StudyResults, rows: int) -> Plot:
    """Draw the primary metric over training: every run thin, the median over seeds thick.

    Of many runs only the middle 80% and the median are drawn, and of successes only their share. Nothing is drawn where
    every run was evaluated once.

    Args:
        results: a study with the rows to draw; those with many settings are pooled.
        rows: how many rows the study has, for the caption.
    """
    record, metric = results.record, results.record.metric
    trials = [t for t in results.trials if metric.name in t.curves and t.curves[metric.name].steps.size]
    if all(len(set(t.curves[metric.name].steps)) < 2 for t in trials):
        trials = []  # one evaluation is no curve
    shown = limits({a.name: _values(trials, a.name, metric) for a in record.arms})
    most = max(Counter(t.row for t in trials).values(), default=0)
    single = not metric.rate and len(trials) <= RUNS and most <= RUNS_EACH
    points = min(_POINTS_EACH, max(20, _POINTS // max(len(trials), 1)))

    def draw(panel: _Panel) -> Chart:
        return _curves(panel, metric, shown, points if single else 0)

    if single:
        caption = "Thin: single runs; a dot marks where one diverged. Thick: median over seeds"
    elif metric.rate:
        caption = "Line: share of runs that succeed"
    else:
        caption = "Band: the middle 80% of many runs. Line: median over seeds"
    caption += ", the baseline's wide and pale."
    caption += " A run that ended early counts on with its final value."
    if metric.chance is not None:
        caption += " Dotted: chance."
    if any(isinstance(t, PooledResult) for t in trials):
        caption += " Where a row has many settings, a thin line is one seed's mean over them."
    caption += shown.sentence({a.name: a.label for a in record.arms})
    return _per_row("training-curves", "Training curves", caption, record, trials, rows, draw)


def _curves(panel: _Panel, metric: Metric, shown: Limits, points: int) -> Chart:
    """Chart one row; `points` are those of a single run's line, 0 for none."""
    thin = [_thin(t, metric, group.arm, points) for group in panel.groups for t in group.runs if points]
    thick, areas = [], []
    for group in panel.groups:
        after = [final_value(t, metric) if t.done else None for t in group.runs]
        curves = [t.curves[metric.name] for t in group.runs]
        if metric.rate:
            share = mean_curve(binned(curves, _POINTS_MEDIAN), [0.0 if x != x else x for x in after])
            thick.append(Line(share.steps, share.values, group.arm, group.weight, group.dash, group.label))
            continue
        levels = [0.5] if points else [0.5, 0.1, 0.9]
        steps, median, *ends = quantiles(curves, levels, after, most=_POINTS_MEDIAN)
        thick.append(Line(steps, median, group.arm, group.weight, group.dash, group.label))
        if ends:
            areas.append(Area(steps, ends[0], ends[1], group.arm))
    return Chart(
        panel.title,
        with_better(metric),
        panel.last,
        shown.low,
        shown.high,
        tuple(areas),
        (*thin, *thick),
        tuple(_ends(panel.groups, metric)) if points else (),
        metric.chance,
    )


def _values(trials: Trials, arm: str, metric: Metric) -> list[float]:
    """Return lowest and highest finite value of every curve of an arm."""
    found: list[float] = []
    for trial in trials:
        if trial.arm == arm:
            values = trial.curves[metric.name].values
            finite = values[np.isfinite(values)]
            found += [float(finite.min()), float(finite.max())] if finite.size else []
    return found


def _thin(trial: TrialResult, metric: Metric, arm: int, points: int) -> Line:
    curve = trial.curves[metric.name]
    pick = np.unique(np.linspace(0, curve.steps.size - 1, points).round().astype(int))
    return Line(curve.steps[pick], curve.values[pick], arm, "run")


def _ends(groups: Sequence[_Group], metric: Metric) -> Iterator[tuple[float, float, int]]:
    """Yield where runs diverged."""
    for group in groups:
        for trial in group.runs:
            curve = trial.curves[metric.name]
            if trial.status == "diverged" and np.isfinite(curve.values).any():
                last = np.flatnonzero(np.isfinite(curve.values))[-1]
                yield float(curve.steps[last]), float(curve.values[last]), group.arm


def noise_to_gradient(results: StudyResults, rows: int) -> Plot:
    """Draw the norm of the noise over that of the gradient: median over seeds, and the middle 80%.

    Args:
        results: a study with the rows to draw; those with many settings are pooled.
        rows: how many rows the study has, for the caption.
    """
    record = results.record
    ratios = {t.id: _ratio(t) for t in results.trials}
    trials = [t for t in results.trials if ratios[t.id].steps.size]
    values = np.concatenate([ratios[t.id].values for t in trials] or [np.ones(1)])
    low, high = np.quantile(values, [0.005, 0.995])
    shown = Limits(min(low, 0.5), max(high, 2.0))

    def draw(panel: _Panel) -> Chart:
        areas, lines = [], []
        for group in panel.groups:
            curves = [ratios[t.id] for t in group.runs]
            steps, below, median, above = quantiles(curves, [0.1, 0.5, 0.9], [None] * len(curves), most=_POINTS_MEDIAN)
            areas.append(Area(steps, below, above, group.arm))
            lines.append(Line(steps, median, group.arm, "median", group.dash, group.label))
        y = "noise norm / gradient norm"
        return Chart(panel.title, y, panel.last, shown.low, shown.high, tuple(areas), tuple(lines), level=1.0, log=True)

    caption = (
        "Expected norm of the noise, σ√N, over the norm of the gradient before clipping: median over seeds "
        "and the middle 80%. Above the dotted line the noise is the larger."
    )
    return _per_row("noise-to-gradient", "Noise-to-gradient ratio", caption, record, trials, rows, draw)


def _ratio(trial: TrialResult) -> Curve:
    """Divide the norm of the noise by that of the gradient, where both are positive and finite."""
    noise, gradient = trial.curves.get("noise_norm"), trial.curves.get("gradient_norm")
    if noise is None or gradient is None:
        return Curve(np.empty(0), np.empty(0))
    steps, i, j = np.intersect1d(noise.steps, gradient.steps, return_indices=True)
    above, below = np.asarray(noise.values, float)[i], np.asarray(gradient.values, float)[j]
    usable = np.isfinite(above) & np.isfinite(below) & (above > 0.0) & (below > 0.0)
    return Curve(steps[usable], above[usable] / below[usable])


def _panels(record: StudyRecord, trials: Trials) -> tuple[list[_Panel], tuple[str, ...]]:
    """Sort runs into panels, one for each row, and return the labels of the settings of all rows."""
    by_row: dict[str, list[TrialResult]] = {}
    for trial in trials:
        by_row.setdefault(trial.row, []).append(trial)
    short = {row: short_settings(t.setting for t in mine) for row, mine in by_row.items()}
    settings = tuple(dict.fromkeys(label for labels in short.values() for label in labels.values()))
    named = len({t.arm for t in trials}) > TOLD_APART

    def groups(mine: Trials, row: str) -> Iterator[_Group]:
        for i, arm in enumerate(record.arms):
            runs = by_setting([t for t in mine if t.arm == arm.name], short[row])
            for label, some in runs.items():
                yield _Group(i, arm.label if named else "", settings.index(label), some)

    made = [
        _Panel(title, tuple(groups(by_row[row], row)), max(t.config.get("steps", record.steps) for t in by_row[row]))
        for row, title in record.rows
        if row in by_row
    ]
    return made, settings


def _per_row(
    name: str,
    title: str,
    caption: str,
    record: StudyRecord,
    trials: Trials,
    rows: int,
    draw: Callable[[_Panel], Chart],
) -> Plot:
    """Make a plot with one chart over training per table row."""
    made, settings = _panels(record, trials)
    charts = tuple(map(draw, made))
    if rows > ROWS:
        caption += f" Drawn: the {ROWS} rows with the largest differences, of {rows}."
    arms = {t.arm for t in trials}
    drawn = tuple(i for i, arm in enumerate(record.arms) if arm.name in arms)
    return Plot(name, title, caption, panels(charts), drawn, settings, charts)
