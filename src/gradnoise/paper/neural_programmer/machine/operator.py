"""The losses of a minibatch as one torch operator: compiled code for float32 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradnoise.noise import backend
from gradnoise.paper.neural_programmer.machine.choices import Choices
from gradnoise.paper.neural_programmer.machine.loss import LossOptions
from gradnoise.paper.neural_programmer.problems.examples import Examples
from gradnoise.population import vmap_rule

#: How many tensors the operator takes, of P replicas each.
TENSORS = 15


def available(x: Tensor) -> bool:
    """Return whether there is compiled code for choices like x."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and backend() == "numba"


def losses(chosen: Choices, match: Tensor, examples: Examples, count: Tensor, settings: LossOptions) -> Tensor:
    """Return the loss of each of B examples of one replica, see `training_loss.example_losses`.

    Args:
        chosen: for each example.
        match: text_match of the text columns [B, K, M].
        examples: B of them.
        count: of numbers in each question, int64 [B].
        settings: of the loss.
    """
    e, like = examples, chosen.operations
    given = (e.cells, e.rows, e.numbers, count, e.present, e.lookup, e.scalar, e.selected, e.column)
    sizes = (x.to(like.dtype).expand(len(like)) for x in (settings.delta, settings.weight))
    tensors = (chosen.operations, chosen.columns, chosen.numbers, match, *sizes, *given)
    return _losses(*(x[None] for x in tensors), settings.pivot_grad == "ste")[0][0]


@torch.library.custom_op("gradnoise::neural_programmer", mutates_args=())
def _losses(
    operations: Tensor,
    columns: Tensor,
    numbers: Tensor,
    match: Tensor,
    delta: Tensor,
    weight: Tensor,
    cells: Tensor,
    rows: Tensor,
    asked: Tensor,
    count: Tensor,
    present: Tensor,
    lookup: Tensor,
    scalar: Tensor,
    selected: Tensor,
    column: Tensor,
    smooth: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the losses [P, B] of P replicas, and the gradients of each by its operations, columns, numbers, match."""
    from gradnoise.paper.neural_programmer.machine import kernel

    chosen = (operations, columns, numbers, match)
    programs = kernel.Programs(*_arrays(*chosen))
    given = kernel.Given(*_arrays(cells, rows, asked, count, present, lookup, scalar, selected, column))
    out, a, b, beta, by_match = (torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (delta, *chosen))
    found, space = kernel.Programs(*_arrays(a, b, beta, by_match)), kernel.space(programs, given)
    kernel.losses_and_gradients(programs, given, *_arrays(delta, weight), smooth, space, *_arrays(out), found)
    return out, a, b, beta, by_match


def _arrays(*tensors: Tensor) -> list[Any]:
    """Return tensors [P, B, ...] as arrays [P B, ...]."""
    return [x.detach().contiguous().flatten(0, 1).numpy() for x in tensors]


# --- autograd and vmap --------------------------------------------------------------------------------


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    g, by = grads[0], ctx.saved_tensors
    found = [None if g is None else x * g.view(*g.shape, *[1] * (x.dim() - g.dim())) for x in by]
    return (*found, *[None] * (TENSORS + 1 - len(by)))


_losses.register_autograd(_gradient, setup_context=_setup)
_losses.register_vmap(vmap_rule(_losses, TENSORS))
