"""The loss of a minibatch in training, by its definition or by compiled code."""

from __future__ import annotations

from torch import Tensor

from gradnoise.paper.neural_programmer.machine import operator
from gradnoise.paper.neural_programmer.machine.choices import Choices
from gradnoise.paper.neural_programmer.machine.executor import run
from gradnoise.paper.neural_programmer.machine.loss import losses
from gradnoise.paper.neural_programmer.machine.model import NeuralProgrammer
from gradnoise.paper.neural_programmer.machine.tables import matched, prepared, real_rows, wanted_cells
from gradnoise.paper.neural_programmer.problems.examples import HUNDREDTHS, Examples


def example_losses(
    model: NeuralProgrammer,
    chosen: Choices,
    examples: Examples,
    count: Tensor,
    pivot_grad: str,
    delta: Tensor,
    weight: Tensor,
) -> Tensor:
    """Return the loss of each of B examples under the programs that were chosen for them.

    Args:
        model: whose words text is matched with.
        chosen: for each example.
        examples: B of them.
        count: of numbers in each question, int64 [B].
        pivot_grad: see `executor.compare`.
        delta, weight: see `losses`.
    """
    if operator.available(chosen.operations):
        match = matched(model, chosen, examples, real_rows(examples).to(chosen.operations.dtype))
        return operator.losses(chosen, match, examples, count, pivot_grad, delta, weight)
    return losses_by_definition(model, chosen, examples, count, pivot_grad, delta, weight)


def losses_by_definition(
    model: NeuralProgrammer,
    chosen: Choices,
    examples: Examples,
    count: Tensor,
    pivot_grad: str,
    delta: Tensor,
    weight: Tensor,
) -> Tensor:
    """Do the same in plain torch."""
    tables, compared = prepared(model, chosen, examples, count, pivot_grad)
    last = run(chosen.operations, chosen.columns, tables, compared)
    scalar = examples.scalar.to(last.scalar.dtype) / HUNDREDTHS
    cells = examples.present[..., None] * tables.rows[:, None]
    columns, wanted = chosen.columns[:, -1], wanted_cells(examples)
    return losses(last, columns, examples.lookup, scalar, wanted, cells, delta, weight)
