"""The figures of a study: training curves, paired differences, success rates, noise against gradient."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from gradnoise.study.analysis.scores import by_setting, final_value, short_settings
from gradnoise.study.analysis.summary import Effect, Fates, Summary
from gradnoise.study.report.panels import DASHES, Lane, Panel, Plot, arm_colour, dash, lane_panel, style, style_steps
from gradnoise.study.report.svg import BAND, INK, MUTED
from gradnoise.study.report.text import attached, decimals, difference_heading, number, with_unit
from gradnoise.study.results import Curve, StudyRecord, StudyResults, TrialResult
from gradnoise.study.spec import Metric

# Points that the thin curves of one plot may have altogether, and any one of them: some 0.7 MB of SVG.
_POINTS, _POINTS_EACH = 50_000, 200

#: How the settings of pooled curves begin, see `_pooled`.
POOLED = "mean over"

Trials = Sequence[TrialResult]


def plots(results: StudyResults, summary: Summary) -> tuple[Plot, ...]:
    """The plots that the results have something for.

    Args:
        results: a study.
        summary: what `summarise` makes of it.
    """
    pooled = dataclasses.replace(results, trials=tuple(_pooled(results)))
    made = (
        _training_curves(pooled),
        _paired_differences(summary),
        _success_rates(summary),
        _noise_to_gradient(pooled),
    )
    return tuple(plot for plot in made if plot.panels)


def _pooled(results: StudyResults) -> Iterator[TrialResult]:
    """The trials; where a row has more settings than there are line styles, one for each arm and whole seed.

    Its curves are the means over the settings.
    """
    for row, _ in results.record.rows:
        mine = [t for t in results.trials if t.row == row]
        settings = {t.setting for t in mine}
        if len(settings) <= len(DASHES):
            yield from mine
            continue
        groups: dict[tuple[str, int], list[TrialResult]] = {}
        for trial in mine:
            groups.setdefault((trial.arm, trial.seed), []).append(trial)
        for group in groups.values():
            if len(group) == len(settings):
                shared = set.intersection(*(set(t.curves) for t in group))
                curves = {name: _mean([(t, t.curves[name]) for t in group]) for name in sorted(shared)}
                yield dataclasses.replace(group[0], setting=f"{POOLED} {len(settings)} settings", curves=curves)


def _mean(runs: Sequence[tuple[TrialResult, Curve]]) -> Curve:
    """The mean at the steps that all have; runs that ended early count with their last value after that."""
    grid = functools.reduce(np.union1d, [c.steps for _, c in runs])
    curves = [_held(c, grid) if t.done and t.step < t.config.get("steps", 0) else c for t, c in runs]
    steps = functools.reduce(np.intersect1d, [c.steps for c in curves])
    return Curve(steps, np.mean([c.values[np.isin(c.steps, steps)] for c in curves], axis=0))


def _held(curve: Curve, grid: np.ndarray) -> Curve:
    """The curve, then its last value at all later steps of the grid."""
    later = grid[grid > curve.steps.max(initial=-1)] if curve.steps.size else grid[:0]
    return Curve(np.append(curve.steps, later), np.append(curve.values, np.full(later.size, curve.values[-1:])))


def quantiles(curves: Sequence[Curve], levels: Sequence[float], after: Sequence[float]) -> tuple[np.ndarray, ...]:
    """Quantiles over runs at every step that any of them has.

    Args:
        curves: one per run, of any lengths.
        levels: quantiles wanted, in [0, 1].
        after: value of each run after its last step; nan leaves it out there.

    Returns:
        The steps, [T], and one array [T] per level; steps without a finite value are left out.
    """
    grid = np.unique(np.concatenate([c.steps for c in curves]))
    table = np.full((len(curves), grid.size), np.nan)
    for row, curve, rest in zip(table, curves, after, strict=True):
        row[np.searchsorted(grid, curve.steps)] = np.where(np.isfinite(curve.values), curve.values, np.nan)
        row[grid > curve.steps.max(initial=-1)] = rest
    seen = np.isfinite(table).any(axis=0)
    return grid[seen], *(np.nanquantile(table[:, seen], level, axis=0) for level in levels)


def _training_curves(results: StudyResults) -> Plot:
    record, metric = results.record, results.record.metric
    trials = [t for t in results.trials if metric.name in t.curves and t.curves[metric.name].steps.size]
    finite = [v[np.isfinite(v)] for v in (t.curves[metric.name].values for t in trials)]
    low = min((float(v.min()) for v in finite if v.size), default=0.0)
    high = max((float(v.max()) for v in finite if v.size), default=1.0)
    room = 0.03 * (high - low) or 1.0
    points = min(_POINTS_EACH, max(20, _POINTS // max(len(trials), 1)))

    def draw(axes: Axes, groups: Sequence[_Group]) -> None:
        style(axes, x="updates", y=with_unit(metric.title, metric.unit))
        style_steps(axes, _last(groups, record))
        axes.set_ylim(low - room, high + room)
        if metric.chance is not None:
            axes.axhline(metric.chance, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for colour, _, group in groups:
            for trial in group:
                _thin_curve(axes, trial, metric, colour, points)
        for colour, line, group in groups:
            after = [final_value(t, metric) if t.done else math.nan for t in group]
            steps, median = quantiles([t.curves[metric.name] for t in group], [0.5], after)
            # The baseline lies under the others: wider and paler, it shows where they coincide.
            base = colour == arm_colour(0)
            axes.plot(
                steps,
                median,
                color=colour,
                linestyle=line,
                linewidth=3.4 if base else 1.8,
                alpha=0.6 if base else 1,
            )

    caption = (
        "Thin: single runs; a cross marks where one diverged. Thick: median over seeds, the "
        "baseline's wide and pale; a run that diverged or ended early counts there on with its final value."
    )
    if metric.chance is not None:
        caption += " Dotted: chance."
    if any(t.setting.startswith(POOLED) for t in trials):
        caption += " Where a row has many settings, a thin line is one seed's mean over them."
    return _per_row("training-curves", "Training curves", caption, record, trials, draw)


def _thin_curve(axes: Axes, trial: TrialResult, metric: Metric, colour: str, points: int) -> None:
    curve = trial.curves[metric.name]
    pick = np.unique(np.linspace(0, curve.steps.size - 1, points).round().astype(int))
    steps, values = curve.steps[pick], curve.values[pick]
    axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.22)
    if trial.status == "diverged" and np.isfinite(curve.values).any():
        last = np.flatnonzero(np.isfinite(curve.values))[-1]
        axes.plot(curve.steps[last], curve.values[last], color=colour, marker="x", markersize=4)


def _noise_to_gradient(results: StudyResults) -> Plot:
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
        for colour, line, group in groups:
            curves = [ratios[t.id] for t in group]
            steps, below, median, above = quantiles(curves, [0.1, 0.5, 0.9], [math.nan] * len(curves))
            axes.fill_between(steps, below, above, color=colour, alpha=0.16, linewidth=0)
            axes.plot(steps, median, color=colour, linestyle=line, linewidth=1.9)
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

    caption = (
        "Expected norm of the noise, σ√N, over the norm of the gradient before clipping: median over seeds "
        "and the middle 80%. Above the dotted line the noise is the larger."
    )
    return _per_row("noise-to-gradient", "Noise-to-gradient ratio", caption, record, trials, draw)


def _ratio(trial: TrialResult) -> Curve:
    noise, gradient = trial.curves.get("noise_norm"), trial.curves.get("gradient_norm")
    if noise is None or gradient is None:
        return Curve(np.empty(0), np.empty(0))
    steps, i, j = np.intersect1d(noise.steps, gradient.steps, return_indices=True)
    above, below = np.asarray(noise.values, float)[i], np.asarray(gradient.values, float)[j]
    usable = np.isfinite(above) & np.isfinite(below) & (above > 0.0) & (below > 0.0)
    return Curve(steps[usable], above[usable] / below[usable])


_Group = tuple[str, object, Trials]  # colour and line style of one arm in one setting, and its runs


def _last(groups: Sequence[_Group], record: StudyRecord) -> int:
    """Updates of the longest run of a panel."""
    return max(t.config.get("steps", record.steps) for _, _, group in groups for t in group)


def _per_row(
    name: str,
    title: str,
    caption: str,
    record: StudyRecord,
    trials: Trials,
    draw: Callable[[Axes, Sequence[_Group]], None],
) -> Plot:
    """A plot with one panel over training per table row."""
    short = {row: short_settings(t.setting for t in trials if t.row == row) for row, _ in record.rows}
    settings = tuple(dict.fromkeys(label for labels in short.values() for label in labels.values()))

    def groups(row: str) -> Iterator[_Group]:
        for i, arm in enumerate(record.arms):
            mine = [t for t in trials if t.row == row and t.arm == arm.name]
            for label, group in by_setting(mine, short[row]).items():
                yield arm_colour(i), dash(settings.index(label)), group

    def panel(row: str, heading: str) -> Panel:
        mine = list(groups(row))
        return Panel(heading, 4.6, 2.5, lambda axes: draw(axes, mine))

    rows, arms = {t.row for t in trials}, {t.arm for t in trials}
    drawn = tuple(i for i, arm in enumerate(record.arms) if arm.name in arms)
    return Plot(name, title, caption, tuple(panel(*row) for row in record.rows if row[0] in rows), drawn, settings)


def _paired_differences(summary: Summary) -> Plot:
    metric, arms = summary.record.metric, [a.name for a in summary.record.arms]
    effects = [e for e in summary.effects if e.comparison.n]
    title = "Paired differences"
    if not effects:
        return Plot("paired-differences", title, "", ())
    lanes: list[Lane] = []
    for row, heading in summary.record.rows:
        mine = [e for e in effects if e.row == row]
        lanes += [Lane(heading=heading)] if mine else []
        for effect in mine:
            label = number(effect.comparison.difference, decimals(metric), signed=True).replace("-", "−")
            lanes.append(Lane("", label, _difference(effect, summary, arm_colour(arms.index(effect.arm)))))

    drawn = tuple(i for i, arm in enumerate(arms) if any(e.arm == arm for e in effects))

    def under(axes: Axes) -> None:
        axes.axvspan(-metric.margin, metric.margin, color=BAND, linewidth=0, zorder=0.5)
        axes.axvline(0.0, color=MUTED, linewidth=0.8, zorder=1)

    caption = (
        f"Dots: one seed each, arm minus {summary.record.arms[0].label}, averaged over the settings of the "
        "row. Bar and tick: mean and its interval. Band: differences too small to matter."
    )
    if any(_published_difference(e, summary) is not None for e in effects):
        caption += " Hollow triangle: the published difference of the means."
    return Plot(
        "paired-differences",
        title,
        caption,
        (lane_panel(lanes, difference_heading(metric), 0.21, under),),
        drawn,
    )


def _difference(effect: Effect, summary: Summary, colour: str) -> Callable[[Axes, float], None]:
    comparison, published = effect.comparison, _published_difference(effect, summary)

    def draw(axes: Axes, y: float) -> None:
        # Multiples of the golden ratio spread the dots evenly, whatever their number.
        offsets = (np.arange(comparison.n) * 0.618034) % 1.0 - 0.5
        axes.scatter(comparison.differences, y + 0.55 * offsets, s=9, color=colour, alpha=0.4, linewidths=0)
        low, high = comparison.interval.low, comparison.interval.high
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot(comparison.difference, y, color=colour, marker="|", markersize=9, markeredgewidth=2.2)
        if published is not None:
            axes.plot(published, y - 0.42, color=INK, marker="v", markersize=5, markerfacecolor="none")

    return draw


def _published_difference(effect: Effect, summary: Summary) -> float | None:
    ours = summary.published(effect.row, effect.arm).get("mean")
    base = summary.published(effect.row, summary.record.arms[0].name).get("mean")
    return None if ours is None or base is None else ours - base


def _success_rates(summary: Summary) -> Plot:
    metric, arms = summary.record.metric, [a.name for a in summary.record.arms]
    cells = [c for c in summary.cells if c.fates.done]
    if metric.success is None or not cells:
        return Plot("success-rates", "Success rates", "", ())
    settings = tuple(dict.fromkeys(f.setting for c in cells for f in c.by_setting))
    lanes: list[Lane] = []
    for row, heading in summary.record.rows:
        mine = [c for c in cells if c.row == row]
        lanes += [Lane(heading=heading)] if mine else []
        for cell in mine:
            colour = arm_colour(arms.index(cell.arm))
            lanes += [
                Lane(
                    "",
                    f"{f.successes}/{f.done}" + (f" · {f.setting}" if f.setting else ""),
                    _rate(f, colour, settings.index(f.setting)),
                )
                for f in cell.by_setting
                if f.done
            ]

    def under(axes: Axes) -> None:
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))

    bound = "at least" if metric.higher_is_better else "at most"
    caption = f"Share of runs that end with {bound} {attached(metric.success, metric.unit)}, with its interval."
    panel = lane_panel(lanes, "runs that succeed", 0.175, under)
    drawn = tuple(i for i, arm in enumerate(arms) if any(c.arm == arm for c in cells))
    return Plot("success-rates", "Success rates", caption, (panel,), drawn, settings)


def _rate(fates: Fates, colour: str, setting: int) -> Callable[[Axes, float], None]:
    def draw(axes: Axes, y: float) -> None:
        if fates.interval is None or fates.successes is None:
            return
        low, high = fates.interval.low, fates.interval.high
        axes.plot([low, high], [y, y], color=colour, linewidth=1.6, linestyle=dash(setting))
        fill = colour if setting == 0 else "none"
        axes.plot(fates.successes / fates.done, y, color=colour, marker="o", markersize=5, markerfacecolor=fill)

    return draw
