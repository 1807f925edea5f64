"""Programs written by hand that answer every question: what a network could choose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradnoise.paper.neural_programmer.problems.grammar import COMPARISONS, Template
from gradnoise.paper.neural_programmer.problems.tasks import CELL_WORDS, TEXT_MATCH, Task

OPERATION = {"sum": "sum", "count": "count", "print": "assign", "word": TEXT_MATCH}


@dataclass(frozen=True)
class Program:
    """Four steps, and what comparisons and text_match mean.

    Args:
        steps: operation and column of each step; no column where it does not matter.
        numbers: by which number "greater" and "lesser" compare, its place in the question.
        words: words that text_match is to find.
    """

    steps: tuple[tuple[str, str | None], ...]
    numbers: tuple[int, int]
    words: frozenset[str]


def program(template: Template) -> Program:
    """Return the program of a question.

    Both conditions of a question about two words would need a text_match of their own; there is one. It finds both:
    "or" is then right, and for "and" of different words, which no row meets, the third step writes no rows.
    """
    conditions = [(OPERATION.get(c.kind, c.kind), c.column) for c in template.conditions]
    targets = [(OPERATION[t.kind], t.column) for t in template.targets]
    words = [c.word for c in template.conditions if c.word is not None]
    reset = ("reset", None)
    if len(targets) == 2:
        steps = (targets[0], reset, targets[1], ("difference", None))
    elif len(conditions) == 2:
        empty = template.connective == "and" and len(set(words)) == 2
        steps = (*conditions, ("count" if empty else str(template.connective), None), *targets)
    else:
        steps = (*[reset] * (3 - len(conditions)), *conditions, *targets)
    compared = [c.kind for c in template.conditions if c.kind in COMPARISONS]
    greater, lesser = (compared.index(kind) if kind in compared else 0 for kind in COMPARISONS)
    return Program(steps, (greater, lesser), frozenset(words))


def as_choices(task: Task, programs: list[Program]) -> tuple[Tensor, Tensor, Tensor]:
    """Return programs as zeros and ones in float64: alpha_op [K, T, O], alpha_col [K, T, L], beta [K, 2, 2].

    A step without a column gets the first numeric one.
    """
    a = torch.zeros(len(programs), 4, len(task.operations), dtype=torch.float64)
    b = torch.zeros(len(programs), 4, len(task.columns), dtype=torch.float64)
    beta = torch.zeros(len(programs), 2, 2, dtype=torch.float64)
    for k, one in enumerate(programs):
        for t, (operation, column) in enumerate(one.steps):
            a[k, t, task.operations.index(operation)] = 1
            b[k, t, task.columns.index(column or task.numeric[0])] = 1
        for i, place in enumerate(one.numbers):
            beta[k, i, place] = 1
    return a, b, beta


def found_words(programs: list[Program]) -> Tensor:
    """Return which words text_match is to find, bool [K, 10]."""
    return torch.tensor([[word in one.words for word in CELL_WORDS] for one in programs])
