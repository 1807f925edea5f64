"""The command `gradnoise nram trace`: find or train a machine, run it on a problem, print its circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, arg

from gradnoise.errors import nearest
from gradnoise.paper.nram.experiment import NRAMExperiment
from gradnoise.paper.nram.machine.checks import check_integers, check_list
from gradnoise.paper.nram.machine.model import NRAM
from gradnoise.paper.nram.problems.tasks import TASKS, ListK, Problems, Task
from gradnoise.paper.nram.watch.oracles import LISTK_REGISTERS, PROGRAMS, listk_machine
from gradnoise.paper.nram.watch.runs import difference, find_machine
from gradnoise.paper.nram.watch.show import legend, show
from gradnoise.paper.nram.watch.trace import trace_hard, trace_program, trace_soft
from gradnoise.paper.runs import Wanted
from gradnoise.paper.training import notice, training_bar, weights_cache
from gradnoise.population import Draws
from gradnoise.study import StudyError, trained_weights

#: Size of the problems that programs written by hand are shown on.
NODES = 3


@dataclass(frozen=True)
class Chosen:
    """Which problem is shown.

    Args:
        n: its size; None for the usual one.
        number: which of that size.
        memory: a problem of the user's instead: what each cell holds.
    """

    n: int | None = None
    number: int = 0
    memory: Sequence[int] = ()


@dataclass(frozen=True)
class Trace:
    """Watch a neural random-access machine run a program that it learned: its circuit step by step, soft and hard.

    Soft: each value the most likely one, with its probability. Hard: every choice replaced by its most likely one.
    A study keeps no weights: the first time the run is trained once more, and its weights are kept in the cache. Where
    the machine then ends with another error than the stored run, that is said.

    Example: gradnoise nram trace runs/nram-quick --row pairs, or, with a program written by hand, gradnoise nram
    trace --oracle listk
    """

    folder: Positional[Path] = Path("runs/nram-quick")
    """Folder of a `gradnoise run nram`."""
    oracle: Annotated[str | None, arg(help_behavior_hint="(default: none)")] = None
    """A task whose program written by hand is shown instead: access, increment, copy, reverse, swap, permutation or
    listk."""
    row: Annotated[str | None, arg(help_behavior_hint="(default: any)")] = None
    """Row of the run. Of all runs that fit one is shown that reached zero error, if there is one."""
    arm: Annotated[str | None, arg(help_behavior_hint="(default: any)")] = None
    """Arm of the run."""
    seed: Annotated[int | None, arg(help_behavior_hint="(default: any)")] = None
    """Seed of the run."""
    n: Annotated[int | None, arg(help_behavior_hint="(default: the largest that was learned)")] = None
    """Size of the problem."""
    problem: int = 0
    """Which problem of that size: 0, 1, 2, ..."""
    memory: Annotated[tuple[int, ...], arg(help_behavior_hint="(default: none)")] = ()
    """A problem of your own instead: what each cell holds."""

    def __call__(self, console: Console) -> None:
        """Train or load, run, print."""
        chosen = Chosen(self.n, self.problem, self.memory)
        if self.oracle:
            trace_oracle(self.oracle, chosen, console)
        else:
            trace_run(self.folder, Wanted(self.row, self.arm, self.seed), chosen, console)


def trace_oracle(name: str, chosen: Chosen, console: Console) -> None:
    """Show the program that solves a task by hand.

    Args:
        name: of a task.
        chosen: which problem; a small one unless it says otherwise.
        console: where to print.

    Raises:
        StudyError: there is no program for it, or no problem of that size.
    """
    known = [*PROGRAMS, ListK.name]
    if name not in known:
        raise StudyError(f"no program for {name!r}: there are {', '.join(known)}{nearest(name, known)}")
    n, fewest = NODES if chosen.n is None else chosen.n, TASKS[name].fewest
    if n < fewest:
        raise StudyError(f"--n {n}: problems of {name} have sizes from {fewest} on")
    task = TASKS[name](max(8, 2 * n + 3), n)
    problem = _problem(task, n, chosen.number)
    if name == ListK.name:
        oracle, steps = listk_machine(), n + 2
        soft = trace_soft(oracle, problem.memory, steps, LISTK_REGISTERS)
        show(task, problem, soft, trace_hard(oracle, problem.memory, steps, LISTK_REGISTERS), console)
    else:
        names, program = PROGRAMS[name]
        show(task, problem, None, trace_program(program, names, problem.memory, n), console)
    console.print(legend(), style="dim")


def trace_run(folder: Path, wanted: Wanted, chosen: Chosen, console: Console) -> None:
    """Show what a run of a study has learned; it is trained once more where its weights are not at hand.

    Args:
        folder: of the study.
        wanted: which run.
        chosen: which problem; one of the largest that were learned unless it says otherwise.
        console: where to print.

    Raises:
        StudyError: there is no such run or no such problem.
    """
    run = find_machine(folder, wanted)
    trial, steps = run.trial, run.run.step
    console.print(Text(f"{run.study.title}: row {trial.row}, {trial.arm}, seed {trial.seed}, {steps:,} updates"))
    experiment = run.study.experiment
    assert isinstance(experiment, NRAMExperiment)
    with training_bar(console) as progress:
        found = trained_weights(
            experiment, [trial], weights_cache(), steps=steps, progress=progress, notice=notice(console)
        )
    if differs := difference(run.run, found.metrics):
        notice(console)(differs)
    machine = found.model
    assert isinstance(machine, NRAM)
    lesson = experiment.lesson(experiment.configured(trial.config))
    task, time = lesson.task, lesson.steps
    if chosen.n is not None and not task.fewest <= chosen.n <= task.most:
        raise StudyError(f"--n {chosen.n}: this run learned problems of sizes {task.fewest}..{task.most}")
    n = task.most if chosen.n is None else chosen.n
    problem = _own(task, chosen.memory) if chosen.memory else _problem(task, n, chosen.number)
    soft = trace_soft(machine, problem.memory, time)
    show(task, problem, soft, trace_hard(machine, problem.memory, time), console)
    console.print(legend(), style="dim")


def _problem(task: Task, n: int, number: int) -> Problems:
    draws = Draws([number], 0)
    made = task.make(torch.tensor([n]), lambda name, count: draws.uniform(f"shown {name}", 1, count)[0])
    return Problems(made.memory[0], made.target[0], made.mask[0], made.kind[0])


def _own(task: Task, cells: Sequence[int]) -> Problems:
    """Make a problem of given cells; only in ListK its answer is known."""
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
