"""Running programs on tables: mixtures of operations in training; zeros and ones make them one program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

#: Both pivots of a question without numbers.
NO_PIVOT = -1.0
#: tau of the straight-through gradient, in units of the cells.
TAU = 10.0


class Tables(NamedTuple):
    """B tables and the numbers of their questions.

    Args:
        cells: x [B, C, M], numeric columns; 0 in padding.
        rows: rm, 1 for real rows and 0 for padding [B, M].
        numbers: [B, 2], 0 for those that are missing.
        given: how many numbers each question has, int64 [B].
        match: text_match of the text columns [B, K, M].
    """

    cells: Tensor
    rows: Tensor
    numbers: Tensor
    given: Tensor
    match: Tensor


class State(NamedTuple):
    """The variables after one step.

    Args:
        scalar: s_t [B].
        rows: r_t [B, M].
        lookup: a(assign) r_{t-1} [B, M]; look_t is this for each column, times the column's probability.
    """

    scalar: Tensor
    rows: Tensor
    lookup: Tensor


class Comparisons(NamedTuple):
    """x > pivot and x < pivot, zeros and ones [B, C, M]."""

    greater: Tensor
    lesser: Tensor


def pivots(beta: Tensor, tables: Tables) -> Tensor:
    """Return the numbers that "greater" and "lesser" compare with [B, 2]; -1 where the question has none."""
    mixed = (beta * tables.numbers[:, None]).sum(-1)
    return torch.where(tables.given[:, None] > 0, mixed, NO_PIVOT)


def compare(tables: Tables, pivot: Tensor, gradient: str) -> Comparisons:
    """Compare all cells with pivots [B, 2].

    Args:
        tables: whose cells.
        pivot: of both operations.
        gradient: "none", or "ste": backward through sigmoid((x - pivot) / tau).
    """
    x, real = tables.cells, tables.rows[:, None]
    found = []
    for above, at in zip((True, False), pivot.unbind(1), strict=True):
        at = at[:, None, None]
        step = (x > at if above else x < at).to(x.dtype)
        if gradient == "ste":
            smooth = ((x - at if above else at - x) / TAU).sigmoid()
            step = step + smooth - smooth.detach()
        found.append(step * real)
    return Comparisons(*found)


def states(a: Tensor, b: Tensor, tables: Tables, compared: Comparisons) -> Iterator[State]:
    """Run programs and yield the variables after each step.

    s_t and r_t are sums over the operations, each with its probability; nothing carries over by itself. s_0, s_{-1}
    and s_{-2} are 0, r_0 and r_{-1} are rm.

    Args:
        a: alpha_op [B, T, O], in the order of `Task.operations`.
        b: alpha_col [B, T, L], text columns first.
        tables: what they run on.
        compared: its cells with the pivots.
    """
    rm, zero = tables.rows, tables.rows.new_zeros(len(tables.rows))
    s, r = [zero, zero, zero], [rm, rm]
    text = tables.match.shape[1]
    for t in range(a.shape[1]):
        p = a[:, t].unbind(1)
        numeric = b[:, t, text:, None]
        column = (numeric * tables.cells).sum(1)
        total = (r[-1] * column).sum(1)
        s.append(p[0] * total + p[1] * r[-1].sum(1) + p[2] * (s[-3] - s[-1]))
        a_t = [x[:, None] for x in p]
        rows = a_t[5] * torch.minimum(r[-1], r[-2]) + a_t[6] * torch.maximum(r[-1], r[-2]) + a_t[8] * rm
        rows = rows + a_t[3] * (numeric * compared.greater).sum(1) + a_t[4] * (numeric * compared.lesser).sum(1)
        if text:
            rows = rows + a_t[9] * (b[:, t, :text, None] * tables.match).sum(1)
        r.append(rows)
        yield State(s[-1], rows, a_t[7] * r[-2])


def run(a: Tensor, b: Tensor, tables: Tables, compared: Comparisons) -> State:
    """Return the variables after the last step; the arguments are those of `states`."""
    return list(states(a, b, tables, compared))[-1]
