"""Lane charts: paired differences and success rates, one strip for each arm in each row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gradnoise.study.analysis.shapes import Cell, Effect, Fates, Summary
from gradnoise.study.report.limits import Limits, limits
from gradnoise.study.report.panels import SMALL, Panel, Plot, arm_colour, dash, style
from gradnoise.study.report.svg import BAND, INK, MUTED, PAGE, RULE
from gradnoise.study.report.text import attached, decimals, difference_heading, number


@dataclass(frozen=True)
class Lane:
    """A strip of a lane chart: a heading, or something drawn at one height with words at its right end."""

    heading: str = ""
    label: str = ""
    draw: Callable[[Axes, float], None] = lambda axes, y: None
    """Called with the axes and the height of the lane's middle; lanes are 1 apart."""


def lane_panel(lanes: Sequence[Lane], x: str, spacing: float, under: Callable[[Axes], None]) -> Panel:
    """Make a panel of lanes from top to bottom, each heading above the lanes that follow it.

    Args:
        lanes: what to draw.
        x: name of the x axis.
        spacing: inches from lane to lane.
        under: draws what lies below the lanes, and sets the limits of x where they are known.
    """

    def draw(axes: Axes) -> None:
        style(axes, x=x)
        axes.grid(False, axis="y")
        axes.grid(True, axis="x", color=RULE, linewidth=0.7)
        axes.spines["bottom"].set_visible(False)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(6))
        under(axes)
        for y, lane in enumerate(lanes):
            lane.draw(axes, y)
            across = axes.get_yaxis_transform()
            back = {"facecolor": PAGE, "edgecolor": "none", "pad": 1.5}
            if lane.heading:  # over the grid and under what the lanes draw
                words = {"fontsize": SMALL, "color": INK, "va": "center", "bbox": back, "zorder": 1.5}
                axes.text(0, y, lane.heading, transform=across, **words)
            axes.text(1.015, y, lane.label, transform=across, fontsize=SMALL, color=MUTED, va="center")
        axes.set_ylim(len(lanes) - 0.4, -0.6)

    return Panel("", 4.8, 0.5 + spacing * len(lanes), draw)


def paired_differences(summary: Summary) -> Plot:
    """Draw every paired difference with its mean and interval, one lane for each effect.

    Args:
        summary: what `summarise` returned.
    """
    name, title = "paired-differences", "Paired differences"
    metric, arms = summary.record.metric, [a.name for a in summary.record.arms]
    effects = [e for e in summary.effects if e.comparison.n]
    if not effects:
        return Plot(name, title, "", ())
    shown = _shown(effects, summary)
    lanes: list[Lane] = []
    for row, heading in summary.record.rows:
        mine = [e for e in effects if e.row == row]
        lanes += [Lane(heading=heading)] if mine else []
        for effect in mine:
            label = number(effect.comparison.difference, decimals(metric), signed=True).replace("-", "−")
            lanes.append(Lane("", label, _difference(effect, summary, arm_colour(arms.index(effect.arm)), shown)))

    def under(axes: Axes) -> None:
        axes.set_xlim(shown.low, shown.high)
        if metric.margin:
            axes.axvspan(-metric.margin, metric.margin, color=BAND, linewidth=0, zorder=0.5)
        axes.axvline(0.0, color=MUTED, linewidth=0.8, zorder=1)

    panel = lane_panel(lanes, difference_heading(metric), 0.21, under)
    caption = _difference_caption(effects, summary) + shown.sentence({a.name: a.label for a in summary.record.arms})
    return Plot(name, title, caption, (panel,), _drawn(arms, [e.arm for e in effects]))


def _difference_caption(effects: Sequence[Effect], summary: Summary) -> str:
    caption = (
        f"Dots: one seed each, arm minus {summary.record.arms[0].label}, averaged over the settings of the "
        "row. Bar and tick: mean and its interval."
    )
    if summary.record.metric.margin:
        caption += " Band: differences too small to matter."
    if any(_published_difference(e, summary) is not None for e in effects):
        caption += " Hollow triangle: the published difference of the means."
    return caption


def _drawn(arms: Sequence[str], used: Sequence[str]) -> tuple[int, ...]:
    """Return the places of the arms that are used."""
    return tuple(i for i, arm in enumerate(arms) if arm in used)


def _shown(effects: Sequence[Effect], summary: Summary) -> Limits:
    values: dict[str, list[float]] = {}
    for effect in effects:
        comparison, published = effect.comparison, _published_difference(effect, summary)
        ends = (comparison.interval.low, comparison.interval.high, *([] if published is None else [published]))
        values.setdefault(effect.arm, []).extend([*comparison.differences, *ends])
    margin = summary.record.metric.margin or 0.0
    return limits(values, (-margin, margin))


def _difference(effect: Effect, summary: Summary, colour: str, shown: Limits) -> Callable[[Axes, float], None]:
    comparison, published = effect.comparison, _published_difference(effect, summary)

    def draw(axes: Axes, y: float) -> None:
        if not shown.low <= comparison.difference <= shown.high:
            place, marker = (shown.high, ">") if comparison.difference > shown.high else (shown.low, "<")
            axes.plot(place, y, color=colour, marker=marker, markersize=6, clip_on=False)
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


def success_rates(summary: Summary) -> Plot:
    """Draw the success rate of each arm in each row, by setting, with its interval.

    Args:
        summary: what `summarise` returned.
    """
    name, title = "success-rates", "Success rates"
    metric, arms = summary.record.metric, [a.name for a in summary.record.arms]
    cells = [c for c in summary.cells if c.fates.done]
    if metric.success is None or not cells:
        return Plot(name, title, "", ())
    settings = tuple(dict.fromkeys(f.setting for c in cells for f in c.by_setting))
    lanes: list[Lane] = []
    for row, heading in summary.record.rows:
        mine = [c for c in cells if c.row == row]
        lanes += [Lane(heading=heading)] if mine else []
        for cell in mine:
            lanes += _rate_lanes(cell, arm_colour(arms.index(cell.arm)), settings)

    def under(axes: Axes) -> None:
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))

    bound = "at least" if metric.higher_is_better else "at most"
    caption = f"Share of runs that end with {bound} {attached(metric.success, metric.unit)}, with its interval."
    panel = lane_panel(lanes, "runs that succeed", 0.175, under)
    return Plot(name, title, caption, (panel,), _drawn(arms, [c.arm for c in cells]), settings)


def _rate_lanes(cell: Cell, colour: str, settings: Sequence[str]) -> list[Lane]:
    return [
        Lane(
            "",
            f"{f.successes}/{f.done}" + (f" · {f.setting}" if f.setting else ""),
            _rate(f, colour, settings.index(f.setting)),
        )
        for f in cell.by_setting
        if f.done
    ]


def _rate(fates: Fates, colour: str, setting: int) -> Callable[[Axes, float], None]:
    def draw(axes: Axes, y: float) -> None:
        if fates.interval is None or fates.successes is None:
            return
        low, high = fates.interval.low, fates.interval.high
        axes.plot([low, high], [y, y], color=colour, linewidth=1.6, linestyle=dash(setting))
        fill = colour if setting == 0 else "none"
        axes.plot(fates.successes / fates.done, y, color=colour, marker="o", markersize=5, markerfacecolor=fill)

    return draw
