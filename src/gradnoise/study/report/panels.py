"""Panels for files and how they look: axes, legends. Nothing here uses pyplot, and nothing is drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gradnoise.study.report.svg import ARMS, MUTED, RULE, arm_slot

#: Line styles of the settings of a row, in turn.
DASHES = ("solid", (0, (4, 1.6)), (0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)))

SMALL = 9  # points of text
#: Inches that a letter of a legend takes on average, and what stands before and behind a label.
_LETTER, _LINE = 0.07, 0.6


@dataclass(frozen=True)
class Panel:
    """One set of axes: its title, its size in inches, and how to draw it."""

    title: str
    width: float
    height: float
    draw: Callable[[Axes], None]


def arm_colour(index: int) -> str:
    """Return the colour of the arm with this index."""
    return ARMS[arm_slot(index)]


def dash(index: int) -> str | tuple[int, tuple[float, ...]]:
    """Return the line style of the setting with this index."""
    return DASHES[index % len(DASHES)]


def dash_array(index: int) -> str:
    """Return the line style of the setting with this index as an SVG dash array; "" for a solid line."""
    style = dash(index)
    return "" if isinstance(style, str) else " ".join(f"{2.0 * length:g}" for length in style[1])


def legend(figure: Figure, lines: Sequence[Line2D], *, columns: int = 4, colour: str | None = None) -> None:
    """Draw a legend below the axes of a figure.

    Args:
        figure: with constrained layout, which makes room.
        lines: what to explain; each has a label.
        columns: how many columns at most; fewer where labels are too long for the figure's width.
        colour: of the text; None for black, which a page shows in the colour of its own text.
    """
    width = _LINE + _LETTER * max((len(str(line.get_label())) for line in lines), default=0)
    fitting = max(1, min(columns, int(figure.get_figwidth() / width)))
    figure.legend(
        handles=lines, loc="outside lower left", ncols=fitting, frameon=False, fontsize=SMALL, labelcolor=colour
    )


def plain_text() -> AbstractContextManager[None]:
    """Take text as it is within a block."""
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
