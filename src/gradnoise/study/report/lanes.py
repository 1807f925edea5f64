"""Strip charts as figures for files: the values of `strips`, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from gradnoise.study.report.panels import SMALL, Panel, arm_colour, style
from gradnoise.study.report.strips import Strip, Strips
from gradnoise.study.report.svg import BAND, INK, MUTED, PAGE, RULE
from gradnoise.study.report.text import SYMBOLS

#: Inches from lane to lane.
_SPACING = 0.21


def lane_panel(chart: Strips, labels: Mapping[str, str], arms: Mapping[str, int]) -> Panel:
    """Make the panel of a strip chart: each row's title above its strips, arms to the left, numbers to the right.

    Args:
        chart: what to draw.
        labels: arm -> what it is called.
        arms: arm -> its place in the study.
    """
    lanes: list[str | Strip] = [lane for title, strips in chart.groups for lane in (title, *strips)]

    def draw(axes: Axes) -> None:
        _frame(axes, chart)
        across = axes.get_yaxis_transform()
        for y, lane in enumerate(lanes):
            if isinstance(lane, str):  # over the grid and under what the lanes draw
                back = {"facecolor": PAGE, "edgecolor": "none", "pad": 1.5}
                words = {"fontsize": SMALL, "color": INK, "va": "center", "bbox": back, "zorder": 1.5}
                axes.text(0, y, lane, transform=across, **words)
                continue
            colour = arm_colour(arms[lane.arm])
            _strip(axes, lane, y, colour)
            words = {"transform": across, "fontsize": SMALL, "va": "center"}
            axes.text(-0.015, y, labels[lane.arm], ha="right", color=colour, **words)
            symbol = SYMBOLS.get(lane.verdict, "")
            beside = f"{lane.value} {symbol}".rstrip() if symbol else f"{lane.value} {lane.detail}".rstrip()
            axes.text(1.015, y, beside.replace("-", "−"), color=MUTED, **words)
        axes.set_ylim(len(lanes) - 0.4, -0.6)

    return Panel("", 6.4, 0.5 + _SPACING * len(lanes), draw)


def _frame(axes: Axes, chart: Strips) -> None:
    towards = "" if chart.zero is None else (" (better →)" if chart.better == "right" else " (← better)")
    style(axes, x=f"{chart.axis}{towards}")
    axes.grid(False, axis="y")
    axes.grid(True, axis="x", color=RULE, linewidth=0.7)
    axes.spines["bottom"].set_visible(False)
    axes.set_yticks([])
    axes.set_xticks([place for place, _ in chart.ticks], [words for _, words in chart.ticks])
    axes.set_xlim(-1.0, 101.0)
    if chart.band:
        axes.axvspan(*chart.band, color=BAND, linewidth=0, zorder=0.5)
    if chart.zero is not None:
        axes.axvline(chart.zero, color=MUTED, linewidth=0.8, zorder=1)


def _strip(axes: Axes, strip: Strip, y: float, colour: str) -> None:
    if strip.dots:
        places, heights = zip(*strip.dots, strict=True)
        lower = [y + (height - 50.0) / 110.0 for height in heights]
        axes.scatter(places, lower, s=9, color=colour, alpha=0.4, linewidths=0)
    if strip.middle:
        axes.plot(strip.middle, [y, y], color=colour, linewidth=6, alpha=0.25, solid_capstyle="butt")
    if strip.low is not None and strip.high is not None:
        axes.plot([strip.low, strip.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
    marker = {"<": "<", ">": ">"}.get(strip.beyond, "|" if strip.verdict else "o")
    size = {"markersize": 9 if marker == "|" else 5, "markeredgewidth": 2.2 if marker == "|" else 0}
    axes.plot(strip.place, y, color=colour, marker=marker, clip_on=False, **size)
    if strip.published is not None:
        axes.plot(strip.published, y - 0.42, color=INK, marker="v", markersize=5, markerfacecolor="none")
