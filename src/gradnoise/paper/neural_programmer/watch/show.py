"""A program in a terminal: its steps, the table with the rows that each step selects, the answer."""

from __future__ import annotations

from fractions import Fraction

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from gradnoise.paper.neural_programmer.problems.brute_force import Lookup
from gradnoise.paper.neural_programmer.problems.checks import Table
from gradnoise.paper.neural_programmer.watch.trace import Step, Trace

SELECTED = "●"
#: Of a cell that is the answer.
MARKED = "bold bright_white on blue"


def show(question: str, table: Table, traced: Trace, console: Console) -> None:
    """Print the program, the table and the answer.

    Args:
        question: as it was asked.
        table: what it was asked about.
        traced: what the program did.
        console: where to print.
    """
    console.print(Text.assemble(("question  ", "dim"), (question, "bold")))
    console.print()
    steps = Grid(box=None, padding=(0, 2, 0, 0), show_header=False)
    for t, step in enumerate(traced.steps):
        steps.add_row(*_step(t + 1, step))
    console.print(steps)
    console.print()
    console.print(_grid(table, traced))
    console.print()
    mark = {True: ("right", "green"), False: ("wrong", "red"), None: ("no question of the grammar", "yellow")}
    console.print(Text.assemble(("answer    ", "dim"), (_said(traced.found), "bold"), "   ", mark[traced.right]))
    if traced.right is False:
        console.print(Text.assemble(("truth     ", "dim"), _said(traced.truth)))
    console.print(
        Text(f"{SELECTED} marks rows that are selected after a step; a step that writes a number selects none.", "dim")
    )


def _step(t: int, step: Step) -> tuple[Text, ...]:
    what = step.operation if step.column is None else f"{step.operation} {step.column}"
    if step.pivot is not None:
        what += f" than {step.pivot:g}"
    sure = f"{100 * step.sure:.0f} %"
    if step.column is not None:
        sure += f", column {100 * step.sure_column:.0f} %"
    if step.scalar is not None:
        did = f"writes {step.scalar:g}"
    elif step.operation == "assign":
        did = "writes cells"
    else:
        did = f"selects {sum(step.rows)} of {len(step.rows)} rows"
    return Text(f"step {t}", "dim"), Text(what, "bold cyan"), Text(did), Text(sure, "dim")


def _grid(table: Table, traced: Trace) -> Grid:
    grid = Grid(box=None, padding=(0, 2, 0, 0))
    grid.add_column(Text("row", "dim"), justify="right")
    for letter in table:
        grid.add_column(Text(letter, "dim"), justify="right")
    for t in range(len(traced.steps)):
        grid.add_column(Text(f"step {t + 1}", "dim"), justify="center")
    found = traced.found
    for i in range(len(next(iter(table.values())))):
        cells = [
            Text(_cell(cells[i]), MARKED if isinstance(found, Lookup) and (letter, i) in _cells(found) else "")
            for letter, cells in table.items()
        ]
        marks = [Text(SELECTED if step.rows[i] else "", "cyan") for step in traced.steps]
        grid.add_row(Text(str(i + 1), "dim"), *cells, *marks)
    return grid


def _cells(found: Lookup) -> set[tuple[str, int]]:
    return {(found.column, row) for row in found.rows}


def _cell(x: Fraction | str) -> str:
    return x if isinstance(x, str) else f"{float(x):g}"


def _said(found: float | Fraction | Lookup | None) -> str:
    if found is None:
        return "none: the last step writes no answer"
    if isinstance(found, Lookup):
        rows = ", ".join(str(i + 1) for i in found.rows)
        return f"column {found.column}, rows {rows}" if rows else f"column {found.column}, no row"
    return f"{float(found):.6g}"
