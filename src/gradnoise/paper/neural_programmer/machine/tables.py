"""Examples as the executor wants them."""

from __future__ import annotations

import torch
from torch import Tensor

from gradnoise.paper.neural_programmer.machine.choices import Choices
from gradnoise.paper.neural_programmer.machine.executor import Comparisons, Tables, compare, pivots
from gradnoise.paper.neural_programmer.machine.model import NeuralProgrammer
from gradnoise.paper.neural_programmer.machine.text_match import text_match
from gradnoise.paper.neural_programmer.problems.examples import HUNDREDTHS, Examples


def prepared(
    model: NeuralProgrammer, chosen: Choices, examples: Examples, count: Tensor, pivot_grad: str
) -> tuple[Tables, Comparisons]:
    """Return B tables in the dtype of the choices, and their cells compared with the pivots.

    Args:
        model: whose words text is matched with.
        chosen: for each example.
        examples: B of them.
        count: of numbers in each question, int64 [B].
        pivot_grad: see `compare`.
    """
    dtype = chosen.operations.dtype
    rows = real_rows(examples).to(dtype)
    match = matched(model, chosen, examples, rows)
    numbers = examples.numbers.to(dtype) / HUNDREDTHS
    tables = Tables(examples.cells.to(dtype) / HUNDREDTHS, rows, numbers, count, match)
    return tables, compare(tables, pivots(chosen.numbers, tables), pivot_grad)


def real_rows(examples: Examples) -> Tensor:
    """Return which rows are real and no padding, bool [B, M]."""
    return torch.arange(examples.selected.shape[1], device=examples.rows.device) < examples.rows[:, None]


def matched(model: NeuralProgrammer, chosen: Choices, examples: Examples, rows: Tensor) -> Tensor:
    """Return text_match of the text columns [B, K, M]; rows are those that are real, 1 or 0 [B, M]."""
    text = examples.words.shape[1]
    if not text:
        return rows[:, None].expand(-1, 0, -1)
    names, cell_words = model.column_names()[:text].to(rows.dtype), model.cell_words().to(rows.dtype)
    return text_match(names, cell_words, chosen, examples.words, rows)


def wanted_cells(examples: Examples) -> Tensor:
    """Return y, which cells are asked for, bool [B, L, M]; none where a number is asked for."""
    columns = torch.arange(examples.present.shape[1], device=examples.column.device)
    return (examples.column[:, None] == columns)[..., None] & examples.selected[:, None]
