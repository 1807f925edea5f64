"""Grading programs in which every choice is the most likely one, run in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from gradnoise.paper.neural_programmer.machine.choices import Choices
from gradnoise.paper.neural_programmer.machine.executor import run
from gradnoise.paper.neural_programmer.machine.model import NeuralProgrammer
from gradnoise.paper.neural_programmer.machine.tables import prepared, wanted_cells
from gradnoise.paper.neural_programmer.problems.examples import HUNDREDTHS, Examples
from gradnoise.paper.neural_programmer.problems.grammar import CATEGORIES
from gradnoise.paper.neural_programmer.problems.questions import Questions

#: All T questions in their order, R times, each on another table; in chunks.
Part: TypeAlias = Sequence[Examples]
#: A number is right up to its first decimal.
CLOSE = 0.05
#: A text cell matches where text_match is above this.
MATCHES = 0.5


def right(model: NeuralProgrammer, questions: Questions, chosen: Choices, part: Part) -> Tensor:
    """Say which questions are answered rightly, bool [R, T].

    Args:
        model: whose programs.
        questions: T of them.
        chosen: its choices; the most likely ones are run.
        part: the questions' tables.
    """
    hard = Choices(*(x.double() for x in chosen.hardened()))
    return torch.cat([_right(model, questions.given, hard, examples) for examples in part])


def _right(model: NeuralProgrammer, count: Tensor, hard: Choices, examples: Examples) -> Tensor:
    times = len(examples.rows) // len(count)
    count, hard = count.repeat(times), Choices(*(x.repeat(times, *[1] * (x.dim() - 1)) for x in hard))
    tables, compared = prepared(model, hard, examples, count, "none")
    tables = tables._replace(match=(tables.match > MATCHES).to(tables.match.dtype))
    last = run(hard.operations, hard.columns, tables, compared)
    written = hard.operations[:, -1].argmax(-1)
    names = model.task.operations
    look = hard.columns[:, -1, :, None] * last.lookup[:, None]
    cells = ((look > 0) == wanted_cells(examples)).all(-1).all(-1) & (written == names.index("assign"))
    error = (last.scalar - examples.scalar.double() / HUNDREDTHS).abs()
    number = (error < CLOSE) & (written <= names.index("difference"))
    return torch.where(examples.lookup, cells, number).unflatten(0, (times, -1))


def with_categories(found: Tensor, categories: Tensor) -> dict[str, Tensor]:
    """Return accuracies in %: of all, of one table for each question, and of each category.

    Args:
        found: which answers are right, bool [R, T].
        categories: of the questions, int64 [T].
    """
    share = 100 * found.double()
    metrics = {"test_accuracy": share.mean(), "test_accuracy_one": share[0].mean()}
    for i, name in enumerate(CATEGORIES):
        mine = (categories == i).to(share.dtype)
        metrics[f"test_{name}"] = (share.mean(0) * mine).sum() / mine.sum()
    return metrics
