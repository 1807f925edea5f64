"""The loss: Huber for numbers, cross-entropy over cells for lookups; each example trains the branch of its answer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradnoise.paper.neural_programmer.machine.executor import State

EPS = 1e-7


class LossOptions(NamedTuple):
    """What a configuration says of the loss.

    Args:
        pivot_grad: see `executor.compare`.
        delta: where Huber's loss becomes linear, 0-dim.
        weight: lambda of lookups, 0-dim.
    """

    pivot_grad: str
    delta: Tensor
    weight: Tensor


def huber(error: Tensor, delta: Tensor) -> Tensor:
    """Return a^2 / 2 where a = |error| <= delta, else delta a - delta^2 / 2."""
    a = error.abs()
    return torch.where(a <= delta, a.square() / 2, delta * a - delta.square() / 2)


def cell_loss(lookup: Tensor, columns: Tensor, wanted: Tensor, cells: Tensor) -> Tensor:
    """Return the mean cross-entropy over the cells of each table [B].

    Logarithms get 1e-7 added, so that gradients stay finite and are not cut off.

    Args:
        lookup: a(assign) r [B, M]; look of column j is this times the column's probability.
        columns: alpha_col of the last step [B, L].
        wanted: y, 1 for the cells asked for [B, L, M].
        cells: 1 for real cells, 0 for padding [B, L, M].
    """
    look = columns[..., None] * lookup[:, None]
    inside, outside = (look + EPS).log(), ((1 - look).clamp(min=0) + EPS).log()
    # y is 0 or 1: y log look + (1 - y) log(1 - look) is one of the two
    return -(torch.where(wanted > 0, inside, outside) * cells).sum((1, 2)) / cells.sum((1, 2))


def losses(
    last: State,
    columns: Tensor,
    lookup: Tensor,
    scalar: Tensor,
    wanted: Tensor,
    cells: Tensor,
    delta: Tensor,
    weight: Tensor,
) -> Tensor:
    """Return the loss of each example [B].

    Args:
        last: variables after the last step.
        columns, wanted, cells: see `cell_loss`.
        lookup: which examples ask for cells, bool [B].
        scalar: the numbers that the others ask for [B].
        delta: where Huber's loss becomes linear, 0-dim.
        weight: lambda of lookups, 0-dim.
    """
    return torch.where(
        lookup,
        weight * cell_loss(last.lookup, columns, wanted, cells),
        huber(torch.where(lookup, 0, last.scalar - scalar), delta),
    )
