"""Panels and how they look: axes, legends, sheets. Nothing here uses pyplot, and nothing is drawn at random.

The page shows panels one by one, so that they flow on a narrow screen; a file has all panels of a plot on one
sheet.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gradnoise.study.report.svg import ARMS, INK, MUTED, RULE, arm_slot

#: Line styles of the settings of a row, in turn.
DASHES = ("solid", (0, (4, 1.6)), (0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)))

SMALL = 9  # points of text


@dataclass(frozen=True)
class Panel:
    """One set of axes: its title, its size in inches, and how to draw it."""

    title: str
    width: float
    height: float
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Plot:
    """Panels that belong together."""

    name: str
    """File name without suffix."""
    title: str
    caption: str
    panels: tuple[Panel, ...]
    arms: tuple[int, ...] = ()
    """Arms that are drawn, by their place in the study, for the legend."""
    settings: tuple[str, ...] = ()
    """Settings told apart by line style, in the order of `DASHES`, for the legend."""


def arm_colour(index: int) -> str:
    """Return the colour of the arm with this index."""
    return ARMS[arm_slot(index)]


def dash(index: int) -> str | tuple[int, tuple[float, ...]]:
    """Return the line style of the setting with this index."""
    return DASHES[index % len(DASHES)]


def panel_figure(panel: Panel) -> Figure:
    """Draw a panel as a separate figure, without title."""
    figure = Figure(figsize=(panel.width, panel.height), layout="constrained")
    with _plain_text():
        panel.draw(figure.add_subplot())
    return figure


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
    with _plain_text():
        heading = textwrap.fill(title, int(11 * width))  # some 12 characters an inch at this size
        figure.suptitle(heading, fontsize=10, color=INK, x=0.01, ha="left", linespacing=1.4)
        for i, panel in enumerate(plot.panels):
            axes = figure.add_subplot(rows, columns, i + 1)
            panel.draw(axes)
            if len(plot.panels) > 1:
                axes.set_title(panel.title, fontsize=9.5, color=INK, loc="left", pad=18)
        lines = [Line2D([], [], color=arm_colour(i), lw=2, label=arms[i]) for i in plot.arms]
        if len(plot.settings) > 1:
            lines += [Line2D([], [], color=INK, ls=dash(i), label=s) for i, s in enumerate(plot.settings)]
        legend(figure, lines, columns=3, colour=INK)
    return figure


def legend(figure: Figure, lines: Sequence[Line2D], *, columns: int = 4, colour: str | None = None) -> None:
    """Draw a legend below the axes of a figure.

    Args:
        figure: with constrained layout, which makes room.
        lines: what to explain; each has a label.
        columns: how many columns at most.
        colour: of the text; None for black, which a page shows in the colour of its own text.
    """
    figure.legend(
        handles=lines, loc="outside lower left", ncols=columns, frameon=False, fontsize=SMALL, labelcolor=colour
    )


def _plain_text() -> AbstractContextManager[None]:
    # Titles and labels come from users: a dollar sign in them is a dollar sign.
    return matplotlib.rc_context({"text.parse_math": False})


def style(axes: Axes, *, x: str = "", y: str = "") -> None:
    """Make axes calm: horizontal hairlines, no box, names of the axes in small type at their ends."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(color=MUTED, linewidth=0.7)
    axes.tick_params(colors=MUTED, labelsize=SMALL, length=0, pad=4)
    axes.grid(True, axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(x, fontsize=SMALL, color=MUTED, loc="right", labelpad=2)
    axes.text(0, 1.02, y, transform=axes.transAxes, fontsize=SMALL, color=MUTED, va="bottom")


def style_steps(axes: Axes, last: float) -> None:
    """Make the x axis that of training: updates from 0 to `last`."""
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
