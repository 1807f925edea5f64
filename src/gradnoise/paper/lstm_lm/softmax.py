"""The softmax over the vocabulary and its loss, for P replicas at once, in one block of memory.

A block of logits [N, V] is by far the largest tensor of a language model. Here it is written by the product, turned in
place into what the gradient needs (probabilities, less 1 at the right word), and read by two products on the way back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradnoise.paper.lstm_lm.replicated import alone
from gradnoise.population import side_by_side


def softmax_loss(x: Tensor, w: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Return the sum over N positions of -log softmax(x W^T + b)[y]; vmap adds a leading [P].

    Args:
        x: features [N, H].
        w, b: weights W [V, H] and biases [V].
        y: right words, int64 [N].
    """
    loss, _ = alone(_Loss.apply, x, w, b, y)
    return loss


class _Loss(torch.autograd.Function):
    """`softmax_loss` of tensors with a leading [P], and the gradient by the logits."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _forward(x, w, b, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        x, w, _, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # the second would be zeros as large as the logits
        ctx.save_for_backward(x, w, output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads[0] is None:
            return (None,) * 4
        return (*_backward(grads[0], *ctx.saved_tensors), None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Any, Any]:
        return side_by_side(_Loss.apply, info.batch_size, in_dims, inputs)


def _forward(x: Tensor, w: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return losses [P] and gradients by the logits [P, N, V], given x [P, N, H], w [P, V, H], b [P, V], y [P, N]."""
    logits = torch.baddbmm(b[:, None, :], x, w.mT)
    right, largest = logits.gather(-1, y[..., None]), logits.amax(-1, keepdim=True)
    torch.softmax(logits, -1, out=logits)
    # the largest probability is 1 / the softmax's denominator; that of the right word may be 0 in floating point
    loss = largest - logits.amax(-1, keepdim=True).log() - right
    logits.scatter_add_(-1, y[..., None], torch.full_like(right, -1))
    return loss.sum((1, 2)), logits


def _backward(g: Tensor, x: Tensor, w: Tensor, residual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, w and b for a gradient g [P] of the loss."""
    by_x = torch.bmm(residual, w).mul_(g[:, None, None])
    by_w = torch.bmm(residual.mT, x * g[:, None, None])
    return by_x, by_w, residual.sum(1) * g[:, None]
