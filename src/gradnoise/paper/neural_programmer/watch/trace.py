"""What a program does on one table, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from gradnoise.paper.neural_programmer.exam import CLOSE, MATCHES
from gradnoise.paper.neural_programmer.machine.choices import Choices
from gradnoise.paper.neural_programmer.machine.executor import Tables, compare, pivots, states
from gradnoise.paper.neural_programmer.machine.model import NeuralProgrammer
from gradnoise.paper.neural_programmer.machine.text_match import text_match
from gradnoise.paper.neural_programmer.problems.brute_force import Lookup, answer
from gradnoise.paper.neural_programmer.problems.checks import Asked, Table, check_columns
from gradnoise.paper.neural_programmer.problems.grammar import NUMBER
from gradnoise.paper.neural_programmer.problems.questions import all_templates, read
from gradnoise.paper.neural_programmer.problems.tasks import CELL_WORDS, TEXT_MATCH, Task

COLUMN_OPERATIONS = ("sum", "greater", "lesser", "assign", TEXT_MATCH)


@dataclass(frozen=True)
class Step:
    """One step of a program.

    Args:
        operation, column: chosen; no column where the operation has none.
        sure, sure_column: their probabilities.
        pivot: what cells are compared with, for comparisons.
        rows: which rows are selected after it.
        scalar: the number written, where the operation writes one.
    """

    operation: str
    column: str | None
    sure: float
    sure_column: float
    pivot: float | None
    rows: tuple[bool, ...]
    scalar: float | None


@dataclass(frozen=True)
class Trace:
    """A program at work.

    Args:
        steps: four.
        found: the answer; None where the last step writes none.
        truth: the right answer; None for a question that the grammar does not have.
    """

    steps: tuple[Step, ...]
    found: float | Lookup | None
    truth: Fraction | Lookup | None

    @property
    def right(self) -> bool | None:
        """Whether the answer is right; None where the truth is not known."""
        if self.truth is None:
            return None
        if isinstance(self.found, float) and isinstance(self.truth, Fraction):
            return abs(self.found - float(self.truth)) < CLOSE
        return self.found == self.truth


@torch.no_grad()
def trace(model: NeuralProgrammer, asked: Asked, table: Table, oracle: Choices | None = None) -> Trace:
    """Run the program that a network chooses for a question.

    Args:
        model: the network, in evaluation mode.
        asked: the question.
        table: what it is about.
        oracle: a program to run instead of the network's.

    Raises:
        PopulationError: the question names a column that the table lacks.
    """
    task = model.task
    check_columns(task, asked, table)
    present = torch.tensor([[letter in table for letter in task.columns]])
    question = read(task, [asked.tokens], present)
    soft = model(question, hard=True) if oracle is None else oracle
    hard = Choices(*(x.double() for x in soft.hardened()))
    tables = _tables(model, hard, asked, table, question.given)
    pivot = pivots(hard.numbers, tables)
    seen = list(states(hard.operations, hard.columns, tables, compare(tables, pivot, "none")))
    steps = []
    for t, state in enumerate(seen):
        operation, column = int(hard.operations[0, t].argmax()), int(hard.columns[0, t].argmax())
        name = task.operations[operation]
        steps.append(
            Step(
                name,
                task.columns[column] if name in COLUMN_OPERATIONS else None,
                float(soft.operations[0, t, operation]),
                float(soft.columns[0, t, column]),
                float(pivot[0, int(name == "lesser")]) if name in ("greater", "lesser") else None,
                tuple((state.rows[0] > 0).tolist()),
                float(state.scalar[0]) if name in ("sum", "count", "difference") else None,
            )
        )
    found = _answer(steps[-1], seen[-1].lookup)
    return Trace(tuple(steps), found, _truth(task, asked, table))


def _tables(model: NeuralProgrammer, hard: Choices, asked: Asked, table: Table, given: Tensor) -> Tables:
    """Make the executor's table, in float64."""
    task, m = model.task, len(next(iter(table.values())))
    rows = torch.ones(1, m, dtype=torch.float64)
    cells = torch.tensor(
        [[[float(x) for x in table[c]] if c in table else [0.0] * m for c in task.numeric]], dtype=torch.float64
    )
    match = rows[:, None].expand(-1, 0, -1)
    if task.text:
        words = torch.tensor([[[CELL_WORDS.index(str(x)) for x in table[c]] for c in task.text]])
        names = model.column_names()[: len(task.text)].double()
        match = (text_match(names, model.cell_words().double(), hard, words, rows) > MATCHES).double()
    numbers = torch.zeros(1, 2, dtype=torch.float64)
    for i, number in enumerate(asked.numbers):
        numbers[0, i] = float(number)
    return Tables(cells, rows, numbers, given, match)


def _answer(step: Step, lookup: Tensor) -> float | Lookup | None:
    if step.operation == "assign":
        assert step.column is not None
        return Lookup(step.column, tuple((lookup[0] > 0).nonzero().flatten().tolist()))
    return step.scalar


def _truth(task: Task, asked: Asked, table: Table) -> Fraction | Lookup | None:
    if asked.tokens not in {t.tokens for t in all_templates(task)}:
        return None
    numbers = iter(asked.numbers)
    words = [str(next(numbers)) if word == NUMBER else word for word in asked.tokens]
    return answer(words, table)
