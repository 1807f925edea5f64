"""Rows of an embedding table by index, for P replicas at once; the gradient is one addition into a table of zeros."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradnoise.paper.lstm_lm.replicated import alone
from gradnoise.population import side_by_side


def lookup(table: Tensor, rows: Tensor) -> Tensor:
    """Return rows [N, H] of a table [V, H], given int64 [N]; vmap adds a leading [P].

    vmap has rules for torch's own ways, too; they copy the gradient [P, V, H] once more, or transpose it.
    """
    (found,) = alone(_Lookup.apply, table, rows)
    return found


class _Lookup(torch.autograd.Function):
    """`lookup` of tensors with a leading [P]."""

    @staticmethod
    def forward(table: Tensor, rows: Tensor) -> tuple[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = table.flatten(0, 1).index_select(0, _flat(rows, table.shape[1]))
        return (found.unflatten(0, rows.shape),)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor]) -> None:
        ctx.shape = inputs[0].shape
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        by_table = grads[0].new_zeros(ctx.shape)
        by_table.flatten(0, 1).index_add_(0, _flat(rows, ctx.shape[1]), grads[0].flatten(0, 1))
        return by_table, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Any, Any]:
        return side_by_side(_Lookup.apply, info.batch_size, in_dims, inputs)


def _flat(rows: Tensor, words: int) -> Tensor:
    """Return where rows [P, N] of tables [P, V, H] stand among all P * V, int64 [P * N]."""
    first = torch.arange(0, len(rows) * words, words, device=rows.device)
    return (first[:, None] + rows).flatten()
