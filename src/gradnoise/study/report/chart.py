"""Charts over training: values to draw, drawn as fluid SVG for the page and by matplotlib for files.

On the page a chart is as wide as its place, and its words keep their size: lines are scaled, text is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from gradnoise.study.report.panels import SMALL, Panel, arm_colour, dash, dash_array, style, style_steps
from gradnoise.study.report.svg import MUTED, arm_slot

#: Inner units of a fluid chart.
_WIDE, _HIGH = 1000, 400
#: How lines are drawn: width in points, opacity.
_WEIGHTS = {"run": (0.6, 0.25), "median": (1.8, 1.0), "baseline": (3.4, 0.6)}


@dataclass(frozen=True)
class Line:
    """Values of one arm over updates."""

    x: np.ndarray
    y: np.ndarray
    arm: int
    """Place of the arm in the study."""
    weight: str
    """One run, a median over runs, or the baseline's median, which lies under the others: wide and pale it shows where
    they coincide. Medians are given from the baseline on."""
    dash: int = 0
    """Place of the setting among those of its row."""
    label: str = ""
    """What stands at its right end; "" where a legend tells."""


@dataclass(frozen=True)
class Area:
    """A band between two lines of one arm."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    arm: int


@dataclass(frozen=True)
class Chart:
    """One set of axes over training."""

    title: str
    y: str
    last: float
    """Updates of the longest run."""
    low: float
    high: float
    areas: tuple[Area, ...]
    lines: tuple[Line, ...]
    ends: tuple[tuple[float, float, int], ...] = ()
    """Where runs diverged: update, value, arm."""
    level: float | None = None
    """Height of a dotted line."""
    log: bool = False

    @property
    def labels(self) -> list[tuple[float, str, int]]:
        """What stands at the right end of lines, from the bottom: height in [0, 1], words, arm; none overlap."""
        found = [(self.height(float(x.y[-1])), x.label, x.arm) for x in self.lines if x.label and x.y.size]
        return list(_apart(sorted(found), room=1.0 / 14))

    def height(self, value: float) -> float:
        """Return the height of a value in the chart, in [0, 1] if it lies within."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        if value <= 0.0:
            return -1.0
        return math.log(value / self.low) / math.log(self.high / self.low)

    def x_ticks(self) -> list[tuple[float, str]]:
        """Return place in [0, 1] and words of the ticks of updates."""
        ticks = MaxNLocator(4, integer=True).tick_values(0.0, self.last)
        return [(v / self.last, f"{v:,.0f}") for v in ticks if 0.0 <= v <= self.last]

    def y_ticks(self) -> list[tuple[float, str]]:
        """Return height in [0, 1] and words of the ticks of values."""
        locator = LogLocator(numticks=6) if self.log else MaxNLocator(5)
        ticks = [v for v in locator.tick_values(self.low, self.high) if self.low <= v <= self.high]
        return [(self.height(v), f"{v + 0.0:g}".replace("-", "−")) for v in ticks]


def _apart(found: Sequence[tuple[float, str, int]], room: float) -> Iterator[tuple[float, str, int]]:
    """Move labels up, from the lowest on, until none touches another; and all of them down if they leave the chart."""
    heights: list[float] = []
    for height, *_ in found:
        heights.append(max(height, heights[-1] + room) if heights else min(max(height, 0.0), 1.0))
    over = max(heights, default=0.0) - max(1.0, room * (len(heights) - 1))
    shift = max(over, 0.0)
    for at, (_, label, arm) in zip(heights, found, strict=True):
        yield at - shift, label, arm


def fluid(chart: Chart) -> str:
    """Draw the lines of a chart as the inside of an SVG element of 1000 x 400 units that is stretched to its place."""
    parts = [_rule(y) for y, _ in chart.y_ticks()]
    if chart.level is not None:
        parts.append(f'<path class="level" d="M0 {_y(chart, chart.level)}H{_WIDE}"/>')
    for area in chart.areas:
        there, back = _points(chart, area.x, area.high), _points(chart, area.x[::-1], area.low[::-1])
        parts.append(f'<path class="area arm-{arm_slot(area.arm)}" d="M{there}L{back}Z"/>')
    for line in chart.lines:
        if line.x.size:
            dashes = f' stroke-dasharray="{dash_array(line.dash)}"' if line.dash else ""
            points = _points(chart, line.x, line.y)
            parts.append(f'<path class="{line.weight} arm-{arm_slot(line.arm)}"{dashes} d="M{points}"/>')
    for x, y, arm in chart.ends:
        place = f"{_x(chart, x)} {_y(chart, y)}"
        parts.append(f'<path class="end arm-{arm_slot(arm)}" d="M{place}h0"/>')
    return "".join(parts)


def _rule(height: float) -> str:
    return f'<path class="rule" d="M0 {_HIGH * (1.0 - height):.0f}H{_WIDE}"/>'


def _x(chart: Chart, step: float) -> str:
    return f"{_WIDE * step / chart.last:.0f}"


def _y(chart: Chart, value: float) -> str:
    height = min(max(chart.height(value), -1.0), 2.0)  # far outside is outside
    return f"{_HIGH * (1.0 - height):.1f}".removesuffix(".0")


def _points(chart: Chart, x: np.ndarray, y: np.ndarray) -> str:
    known = np.isfinite(y)
    return " ".join(f"{_x(chart, a)} {_y(chart, b)}" for a, b in zip(x[known], y[known], strict=True))


def chart_panel(chart: Chart) -> Panel:
    """Return the panel that draws a chart with matplotlib."""

    def draw(axes: Axes) -> None:
        style(axes, x="updates", y=chart.y)
        style_steps(axes, chart.last)
        if chart.log:
            axes.set_yscale("log")
        axes.set_ylim(chart.low, chart.high)
        if chart.level is not None:
            axes.axhline(chart.level, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for area in chart.areas:
            axes.fill_between(area.x, area.low, area.high, color=arm_colour(area.arm), alpha=0.16, linewidth=0)
        for line in chart.lines:
            width, alpha = _WEIGHTS[line.weight]
            style_of = {"color": arm_colour(line.arm), "linewidth": width, "alpha": alpha}
            axes.plot(line.x, line.y, linestyle=dash(line.dash), **style_of)
        for x, y, arm in chart.ends:
            axes.plot(x, y, color=arm_colour(arm), marker="o", markersize=3.5)
        for height, words, arm in chart.labels:
            at = {"transform": axes.transAxes, "va": "center", "fontsize": SMALL}
            axes.text(1.015, height, words, color=arm_colour(arm), **at)
        if chart.log:
            axes.yaxis.set_major_locator(LogLocator(numticks=6))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

    return Panel(chart.title, 4.6, 2.5, draw)


def panels(charts: Iterable[Chart]) -> tuple[Panel, ...]:
    """Return the panels of some charts."""
    return tuple(chart_panel(chart) for chart in charts)
