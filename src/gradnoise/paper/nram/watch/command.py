"""What `gradnoise trace` does: find or train a machine, run it on a problem, print its circuit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from gradnoise.paper.nram.machine.checks import check_integers, check_list
from gradnoise.paper.nram.problems.tasks import TASKS, ListK, Problems, Task
from gradnoise.paper.nram.watch.oracles import LISTK_REGISTERS, PROGRAMS, listk_machine
from gradnoise.paper.nram.watch.retrain import choose, machine, train
from gradnoise.paper.nram.watch.show import legend, show
from gradnoise.paper.nram.watch.trace import trace_hard, trace_program, trace_soft
from gradnoise.population import Draws, checkpoint
from gradnoise.study import StudyError

#: Size of the problems that programs written by hand are shown on.
NODES = 3


def trace_oracle(name: str, n: int | None, number: int, console: Console) -> None:
    """Show the program that solves a task by hand.

    Args:
        name: of a task.
        n: size of the problem; None for a small one.
        number: which problem.
        console: where to print.

    Raises:
        StudyError: there is no program for it.
    """
    known = [*PROGRAMS, ListK.name]
    if name not in known:
        raise StudyError(f"no program for {name!r}: there are {', '.join(known)}")
    n = n or NODES
    task = TASKS[name](max(8, 2 * n + 3), n)
    problem = _problem(task, n, number)
    if name == ListK.name:
        oracle, steps = listk_machine(), n + 2
        soft = trace_soft(oracle, problem.memory, steps, LISTK_REGISTERS)
        show(task, problem, soft, trace_hard(oracle, problem.memory, steps, LISTK_REGISTERS), console)
    else:
        names, program = PROGRAMS[name]
        show(task, problem, None, trace_program(program, names, problem.memory, n), console)
    console.print(legend(), style="dim")


def trace_run(
    folder: Path,
    row: str | None,
    arm: str | None,
    seed: int | None,
    weights: Path | None,
    n: int | None,
    number: int,
    memory: Sequence[int],
    console: Console,
) -> None:
    """Show what a run of a study has learned; it is trained once more where its weights are not at hand.

    Args:
        folder: of the study.
        row, arm, seed: which run; None for any, preferably one that reached zero error.
        weights: file to keep them in; None for one in the folder.
        n: size of the problem; None for the largest of training.
        number: which problem.
        memory: a problem of one's own, in place of n and number.
        console: where to print.

    Raises:
        StudyError: there is no such run.
        ValueError: there is no such problem.
    """
    study, trial, steps = choose(folder, row, arm, seed)
    path = weights or folder / "weights" / f"{trial.id}.pt"
    console.print(Text(f"{study.title}: row {trial.row}, {trial.arm}, seed {trial.seed}, {steps:,} updates"))
    if not path.exists():
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
            bar = bars.add_task("training it once more", total=steps)
            checkpoint.write(path, train(study, trial, steps, lambda done, _: bars.update(bar, completed=done)))
    pupil = machine(study, trial, checkpoint.read(path))
    task, time = pupil.lesson.task, pupil.lesson.steps
    if n is not None and not task.fewest <= n <= task.most:
        raise ValueError(f"n = {n}: this run learned problems of sizes {task.fewest}..{task.most}")
    problem = _own(task, memory) if memory else _problem(task, n or task.most, number)
    soft = trace_soft(pupil, problem.memory, time)
    show(task, problem, soft, trace_hard(pupil, problem.memory, time), console)
    console.print(legend(), style="dim")


def _problem(task: Task, n: int, number: int) -> Problems:
    draws = Draws([number], 0)
    made = task.make(torch.tensor([n]), lambda name, count: draws.uniform(f"shown {name}", 1, count)[0])
    return Problems(made.memory[0], made.target[0], made.mask[0], made.kind[0])


def _own(task: Task, cells: Sequence[int]) -> Problems:
    """A problem of one's own, without a known answer but in ListK."""
    memory = torch.tensor(cells)
    check_integers(memory, task.cells)
    target, mask = memory.clone(), torch.zeros(task.cells, dtype=torch.bool)
    if isinstance(task, ListK):
        check_list(memory)
        node = cells[0]
        for _ in range(cells[1]):
            node = cells[node]
        target[2], mask[2] = cells[node + 1], True
    return Problems(memory, target, mask, memory[1])
