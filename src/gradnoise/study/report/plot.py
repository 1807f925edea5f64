"""A figure of a report: what its page draws, and the panels that its files show on one sheet."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradnoise.study.report.chart import Chart
from gradnoise.study.report.panels import Panel, arm_colour, dash, legend, plain_text
from gradnoise.study.report.strips import Strips
from gradnoise.study.report.svg import INK


@dataclass(frozen=True)
class Plot:
    """Panels that belong together."""

    name: str
    """File name without suffix."""
    title: str
    caption: str
    panels: tuple[Panel, ...]
    """For files; a page draws `charts` or `strips`, which hold the same values."""
    arms: tuple[int, ...] = ()
    """Arms that are drawn, by their place in the study, for the legend."""
    settings: tuple[str, ...] = ()
    """Settings told apart by line style, in the order of `DASHES`, for the legend."""
    charts: tuple[Chart, ...] = ()
    strips: Strips | None = None

    @property
    def labelled(self) -> bool:
        """Whether arms have their names beside their lines, so that no legend has to tell."""
        return any(chart.labels for chart in self.charts)


def sheet(plot: Plot, arms: Sequence[str], title: str) -> Figure:
    """Draw all panels of a plot in one figure, with titles and a legend.

    Args:
        plot: what to draw.
        arms: labels of all arms of the study, baseline first.
        title: what stands above.
    """
    columns = min(len(plot.panels), 2)
    rows = math.ceil(len(plot.panels) / columns)
    width = plot.panels[0].width * columns
    height = sum(max(p.height for p in plot.panels[i * columns : (i + 1) * columns]) + 0.3 for i in range(rows))
    figure = Figure(figsize=(width, height + 0.9), layout="constrained")
    with plain_text():
        heading = textwrap.fill(title, int(11 * width))  # some 12 characters an inch at this size
        figure.suptitle(heading, fontsize=10, color=INK, x=0.01, ha="left", linespacing=1.4)
        for i, panel in enumerate(plot.panels):
            axes = figure.add_subplot(rows, columns, i + 1)
            panel.draw(axes)
            if len(plot.panels) > 1:
                axes.set_title(panel.title, fontsize=9.5, color=INK, loc="left", pad=18)
        lines = [
            Line2D([], [], color=arm_colour(i), lw=2, label=arms[i])
            for i in plot.arms
            if plot.charts and not plot.labelled
        ]
        if len(plot.settings) > 1:
            lines += [Line2D([], [], color=INK, ls=dash(i), label=s) for i, s in enumerate(plot.settings)]
        if lines:
            legend(figure, lines, columns=3, colour=INK)
    return figure
