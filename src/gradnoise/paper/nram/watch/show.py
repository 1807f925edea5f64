"""A trace on the terminal: circuit, registers and memory of every step, soft and hard side by side."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import zip_longest

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradnoise.paper.nram.problems.tasks import Problems, Task
from gradnoise.paper.nram.watch.trace import Step, Trace, Values, live, source_names, taken

#: From this probability on a value is shown without it.
SURE = 0.995
NAME, CHANGED, READ, WRITTEN, UNSURE = "cyan", "bold green", "underline", "bold reverse green", "yellow"


def show(task: Task, problem: Problems, soft: Trace | None, hard: Trace, console: Console) -> None:
    """Print a problem and what machines make of it.

    Args:
        task: which one.
        problem: a single one, tensors [M].
        soft: of the machine as it was trained; None where there is none.
        hard: of the hard machine or of a program.
        console: where to print.
    """
    about = (inspect.getdoc(task) or "").partition("\n")[0]
    console.print(Text.assemble((f"{task.name}, M = {task.cells}", "bold"), f"  {about}"))
    console.print(Text.assemble(("start  ", "dim"), _memory([(v, 1.0) for v in hard.before], hard.before)))
    both, headings = ([soft, hard], ["soft", "hard"]) if soft else ([hard], ["hard"])
    longest = zip_longest(*(trace.steps for trace in both))
    before: list[Sequence[int]] = [trace.before for trace in both]
    for t, steps in enumerate(longest):
        table = Table(box=None, padding=(0, 4, 0, 0), expand=True, show_header=len(both) > 1, header_style="dim")
        for heading in headings:
            table.add_column(heading, ratio=1)
        table.add_row(*(_step(*x) for x in zip(both, steps, before, strict=True)))
        console.print(Text(f"\nstep {t + 1}", style="bold"))
        console.print(table)
        before = [[v for v, _ in s.memory] if s else b for s, b in zip(steps, before, strict=True)]
    console.print()
    target = [v if m else None for v, m in zip(problem.target.tolist(), problem.mask.tolist(), strict=True)]
    for heading, trace in zip(headings, both, strict=True):
        where = f" after {len(trace.steps)} steps" if trace is hard else " (average over the time of stop)"
        console.print(
            Text.assemble(
                (f"{heading}  ", "dim"), _answer(trace.answer, target), "  ", _verdict(trace.answer, target), where
            )
        )


def legend() -> Text:
    """Return a line that says what the colours mean."""
    return Text.assemble(
        ("underlined", READ), ": the cell that is read; ", ("reversed", WRITTEN), ": the cell that is written; ",
        ("green", CHANGED), ": a value that changed; ", ("p", UNSURE), f": probability, where it is below {SURE:g}.",
        " Modules whose output goes nowhere are left out.",
    )  # fmt: skip


def _step(trace: Trace, step: Step | None, before: Sequence[int]) -> Text:
    if step is None:
        return Text("stopped", style="dim")
    text, names, size = Text(), source_names(trace), trace.wiring.registers
    for place in live(trace, step):
        if trace.wiring.sequence[place].constant is not None:
            continue  # its name says it
        inside = Text(", ").join(Text.assemble(names[s], _doubt(p)) for s, p in taken(trace, step, place))
        output = step.sources[size + place]
        text.append_text(Text.assemble((names[size + place], NAME), "(", inside, ") = ", _value(*output), "\n"))
    for name, (s, p), value in zip(
        trace.names, taken(trace, step, len(trace.wiring.sequence)), step.registers, strict=True
    ):
        text.append_text(Text.assemble((name, "magenta"), " ← ", names[s], _doubt(p), " = ", _value(*value), "\n"))
    text.append_text(Text.assemble(("memory ", "dim"), _memory(step.memory, before, _pointers(trace, step)), "\n"))
    return text.append(f"stops with {step.stop:.2f}" if 0 < step.stop < 1 else ("stops" if step.stop else "goes on"))


def _pointers(trace: Trace, step: Step) -> dict[int, str]:
    """Return the cells that a step reads and writes, and how they look."""
    looks = {"read": READ, "write": WRITTEN}
    found: dict[int, str] = {}
    for place in live(trace, step):
        if (name := trace.wiring.sequence[place].name) in looks:
            pointer, _ = step.sources[taken(trace, step, place)[0][0]]
            found[pointer] = looks[name]
    return found


def _memory(cells: Values, before: Sequence[int], marks: dict[int, str] | None = None) -> Text:
    parts = []
    for i, ((value, p), old) in enumerate(zip(cells, before, strict=True)):
        style = (marks or {}).get(i, CHANGED if value != old else "")
        parts.append(Text.assemble((str(value), style), _doubt(p)))
    return Text(" ").join(parts)


def _verdict(cells: Values, target: Sequence[int | None]) -> Text:
    """Say whether the cells that count hold what they must; say nothing where none counts."""
    right = [value == wanted for (value, _), wanted in zip(cells, target, strict=True) if wanted is not None]
    if all(right):
        return Text("right" if right else "", style="bold green")
    return Text(f"{right.count(False)} wrong", style="bold red")


def _answer(cells: Values, target: Sequence[int | None]) -> Text:
    parts = []
    for (value, p), wanted in zip(cells, target, strict=True):
        style = "dim" if wanted is None else "bold green" if value == wanted else "bold red"
        parts.append(Text.assemble((str(value), style), _doubt(p)))
    return Text(" ").join(parts)


def _value(value: int, p: float) -> Text:
    return Text.assemble((str(value), "bold"), _doubt(p))


def _doubt(p: float) -> Text:
    return Text("" if p >= SURE else f":{p:.2f}", style=UNSURE)
