"""The loss of a minibatch in training, by its definition or by compiled code."""

from __future__ import annotations

from torch import Tensor

from gradnoise.paper.neural_programmer.machine import operator
from gradnoise.paper.neural_programmer.machine.choices import Choices
from gradnoise.paper.neural_programmer.machine.executor import run
from gradnoise.paper.neural_programmer.machine.loss import LossOptions, losses
from gradnoise.paper.neural_programmer.machine.model import NeuralProgrammer
from gradnoise.paper.neural_programmer.machine.tables import matched, prepared, real_rows, wanted_cells
from gradnoise.paper.neural_programmer.problems.examples import HUNDREDTHS, Examples


def example_losses(
    model: NeuralProgrammer, chosen: Choices, examples: Examples, count: Tensor, settings: LossOptions
) -> Tensor:
    """Return the loss of each of B examples under the programs that were chosen for them.

    Args:
        model: whose words text is matched with.
        chosen: for each example.
        examples: B of them.
        count: of numbers in each question, int64 [B].
        settings: of the loss.
    """
    if operator.available(chosen.operations):
        match = matched(model, chosen, examples, real_rows(examples).to(chosen.operations.dtype))
        return operator.losses(chosen, match, examples, count, settings)
    return losses_by_definition(model, chosen, examples, count, settings)


def losses_by_definition(
    model: NeuralProgrammer, chosen: Choices, examples: Examples, count: Tensor, settings: LossOptions
) -> Tensor:
    """Do the same in plain torch."""
    tables, compared = prepared(model, chosen, examples, count, settings.pivot_grad)
    last = run(chosen.operations, chosen.columns, tables, compared)
    scalar = examples.scalar.to(last.scalar.dtype) / HUNDREDTHS
    cells = examples.present[..., None] * tables.rows[:, None]
    columns, wanted = chosen.columns[:, -1], wanted_cells(examples)
    return losses(last, columns, examples.lookup, scalar, wanted, cells, settings.delta, settings.weight)
