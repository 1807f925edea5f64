"""The ledger in a terminal: one block a statement, within 100 columns; colours only where there is a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradnoise.paper.ledger.book import Entry, Ledger, State, tally
from gradnoise.paper.ledger.check import Check, Direction, Size
from gradnoise.paper.ledger.statements import TITLES

WIDTH = 100
STYLES = {
    State.REPRODUCED: "bold green",
    State.DIRECTION: "green",
    State.NOT_REPRODUCED: "bold red",
    State.UNDECIDED: "yellow",
    State.UNTESTABLE: "magenta",
    State.NOT_RUN: "dim",
}
#: What stands before a state, so that none is told by colour alone.
SYMBOLS = {
    State.REPRODUCED: "✓",
    State.DIRECTION: "≈",
    State.NOT_REPRODUCED: "✗",
    State.UNDECIDED: "?",
    State.UNTESTABLE: "∅",
    State.NOT_RUN: "–",
}


def print_ledger(ledger: Ledger, console: Console) -> None:
    """Print every statement, section by section, then the deviations by number and the counts.

    Args:
        ledger: what `make_ledger` returned.
        console: where to print; a narrower one than 100 columns folds lines.
    """
    width = min(WIDTH, console.width)
    for section, title in TITLES.items():
        console.print(Text(f"\n{title}", style="bold"), width=width)
        for entry in ledger.entries:
            if entry.statement.section == section:
                _print_entry(entry, console, width)
    console.print(Text("\nWhat bears on them: departures of our studies from the paper's", style="bold"), width=width)
    for number, text in enumerate(ledger.departures, start=1):
        console.print(_hanging(f"{number:>4}.", text), width=width)
    for folder, reason in ledger.left_out:
        console.print(Text(f"Not counted: {folder} ({reason})", style="dim"), width=width)
    console.print(Text(f"\n{len(ledger.entries)} statements: {tally(ledger.entries)}.", style="bold"), width=width)


def _hanging(*cells: str | Text) -> Table:
    """Return cells beside each other; only the last one folds."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in cells[:-1]:
        table.add_column(no_wrap=True)
    table.add_column()
    table.add_row(*cells)
    return table


def _print_entry(entry: Entry, console: Console, width: int) -> None:
    state = Text(f"{SYMBOLS[entry.state]} {entry.state.value:<17}", STYLES[entry.state])
    name = Text(f"{entry.statement.id:<12}", "bold")
    console.print(_hanging(state, name, Text(entry.statement.text)), width=width)
    for line in lines(entry):
        console.print(Padding(Text(line, style="dim"), (0, 0, 0, 4), expand=False), width=width)


def lines(entry: Entry) -> Iterator[str]:
    """Yield what stands below a statement: published figures, ours, verdicts, what it rests on."""
    if entry.statement.figures:
        yield f"paper: {entry.statement.figures}"
    for check in entry.checks:
        yield f"{part(check) or 'ours'}: {check.ours}; {verdicts(check)}"
    if entry.why:
        yield entry.why
    if entry.checks:
        runs = ", ".join(f"{folder} ({count:,} runs)" for folder, count in entry.rests_on.items())
        numbers = ", ".join(map(str, entry.departures))
        yield f"rests on {runs}; see {numbers}" if numbers else f"rests on {runs}"


def part(check: Check) -> str:
    """Return which part or reading of a statement a check tests; "" where it tests all of it."""
    return ", ".join(check.id.split("/")[1:])


def verdicts(check: Check) -> str:
    """Write the two verdicts of a check in words."""
    direction = check.direction.value if check.direction is Direction.UNTESTABLE else f"direction {check.direction}"
    if check.size is Size.NONE:
        return direction
    inside = "within" if check.size is Size.HELD else "outside"
    return f"{direction}; published {check.published} lies {inside} our interval"
