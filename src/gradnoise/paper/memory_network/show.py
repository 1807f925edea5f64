"""A reading in a terminal and as a picture: the story, the question, and how strongly each hop looks at a sentence."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradnoise.paper.memory_network.reader import Reader, Reading
from gradnoise.study import StudyError

BAR = 8
#: From hardly looked at to looked at most.
SHADES = ("dim", "", "cyan", "bold cyan", "bold bright_white on blue")
EMPTY = "(empty memories)"
SUPPORT = "•"
FORMATS = (".svg", ".png", ".pdf")


def print_reading(reader: Reader, reading: Reading, console: Console) -> None:
    """Print the story with the attention of each hop, the question and the answer.

    Args:
        reader: the network.
        reading: what it read.
        console: where to; without a terminal the bars stand in plain text.
    """
    errors = ", ".join(f"{part} {error:.1f}%" for part, error in reader.errors.items())
    heading = f"Task {reader.task}, test question {reading.number}"
    console.print(Text.assemble((heading, "bold"), f"  {reader.data.title}"))
    console.print(Text(f"A network of {len(reading.attention)} hops: {reader.description}; errors: {errors}", "dim"))
    console.print()
    console.print(_story(reading))
    console.print()
    console.print(Text.assemble(("question  ", "dim"), (reading.question, "bold")))
    best, *others = (f"{word} {100 * p:.0f}%" for word, p in reading.answers)
    mark = ("right", "green") if reading.right else ("wrong", "red")
    console.print(Text.assemble(("answer    ", "dim"), (best, "bold"), (f"   then {', '.join(others)}", "dim")))
    console.print(Text.assemble(("truth     ", "dim"), (reading.truth, "bold"), "   ", mark))
    console.print()
    console.print(
        Text(
            "Each hop spreads a weight of 1 over the memories, adds what they say to the question, and looks again."
            f" {SUPPORT} marks the sentences that the answer follows from; the network is never told.",
            "dim",
        )
    )


def _story(reading: Reading) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for k in range(len(reading.attention)):
        table.add_column(Text(f"hop {k + 1}", "dim"), no_wrap=True)
    table.add_column("")
    table.add_column(Text("story", "dim"))
    lines = zip(zip(*reading.attention, strict=True), reading.support, reading.story, strict=True)
    for weights, support, sentence in lines:
        table.add_row(*map(_bar, weights), SUPPORT if support else " ", Text(sentence, _shade(max(weights))))
    if max(reading.empty) >= 0.005:
        table.add_row(*map(_bar, reading.empty), " ", Text(EMPTY, "dim italic"))
    return table


def _bar(weight: float) -> Text:
    return Text(f"{'█' * round(BAR * weight):·<{BAR}} {100 * weight:3.0f}%", _shade(weight))


def _shade(weight: float) -> str:
    return SHADES[min(int(weight * len(SHADES)), len(SHADES) - 1)]


def check_figure(path: Path) -> None:
    """Raise StudyError unless pictures of this kind can be made."""
    if path.suffix.lower() not in FORMATS:
        raise StudyError(f"--figure {path}: a picture ends in {', '.join(FORMATS)}")


def save_figure(reading: Reading, path: Path) -> None:
    """Save the attention as a picture, one column for each hop."""
    shown = np.array([*zip(*reading.attention, strict=True), reading.empty])
    labels = [f"{s} {SUPPORT}" if own else s for s, own in zip(reading.story, reading.support, strict=True)] + [EMPTY]
    hops, lines = len(reading.attention), len(labels)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "reading"}):
        figure = Figure(figsize=(3.6 + 0.6 * hops, 1.1 + 0.27 * lines), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(hops), [f"hop {k + 1}" for k in range(hops)])
        axes.set_yticks(range(lines), labels)
        axes.tick_params(length=0, labelsize=9, labeltop=True, labelbottom=False)
        for (y, x), p in np.ndenumerate(shown):
            ink = "white" if p > 0.5 else "black"
            axes.text(x, y, f"{100 * p:.0f}", ha="center", va="center", fontsize=8, color=ink)
        for side in axes.spines.values():
            side.set_visible(False)
        truth = "" if reading.right else f" (truth: {reading.truth})"
        figure.suptitle(f"{reading.question}  {reading.answers[0][0]}{truth}", fontsize=10, x=0.02, ha="left")
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
