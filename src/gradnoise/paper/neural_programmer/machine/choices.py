"""What the network chooses for a question: operations and columns of each step, which number is meant."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Choices(NamedTuple):
    """Programs of K questions, probabilities or, hard, zeros and ones.

    Args:
        operations: alpha_op [K, T, O].
        columns: alpha_col [K, T, L].
        numbers: beta [K, 2, 2], by which number "greater" and "lesser" mean.
        question: q [K, d], and 0 columns where the task has no text.
        states: z [K, Q, d] and which are real tokens [K, Q], likewise.
        real: 1 for real tokens [K, Q].
    """

    operations: Tensor
    columns: Tensor
    numbers: Tensor
    question: Tensor
    states: Tensor
    real: Tensor

    def hardened(self) -> Choices:
        """Return the most likely choices; of equal ones the first."""
        return self._replace(
            operations=most_likely(self.operations),
            columns=most_likely(self.columns),
            numbers=most_likely(self.numbers),
        )

    def gathered(self, index: Tensor) -> Choices:
        """Return the choices of B examples, whose questions are `index`, int64 [B].

        A product with zeros and ones: its gradient is a product, too, the same on every device.
        """
        k = len(self.operations)
        one_hot = (index[:, None] == torch.arange(k, device=index.device)).to(self.operations.dtype)
        parts = [x.flatten(1) for x in self]
        together = one_hot @ torch.cat(parts, 1)
        found = together.split([p.shape[1] for p in parts], 1)
        return Choices(*(y.reshape(len(index), *x.shape[1:]) for x, y in zip(self, found, strict=True)))


def most_likely(p: Tensor) -> Tensor:
    """Return 1 for the largest entry along the last axis, the first of equal ones, and 0 for all others."""
    return (p.argmax(-1, keepdim=True) == torch.arange(p.shape[-1], device=p.device)).to(p.dtype)


def softmax(logits: Tensor, present: Tensor) -> Tensor:
    """Return probabilities along the last axis; what is not present (bool) has none."""
    return logits.masked_fill(~present, -torch.inf).softmax(-1)


def number_logits(by_token: Tensor, left: Tensor) -> Tensor:
    """Pick logits [K, 2, N] of each number from those of the token to its left.

    Args:
        by_token: z U(op) of every token for "greater" and "lesser" [K, Q, 2].
        left: int64 [K, N].
    """
    at = left[..., None] == torch.arange(by_token.shape[1], device=left.device)
    return (at.to(by_token.dtype) @ by_token).mT


def number_probabilities(logits: Tensor, count: Tensor) -> Tensor:
    """Return beta [K, 2, N]: a number that is missing has no probability; the first always may have one.

    Args:
        logits: [K, 2, N].
        count: of numbers, int64 [K].
    """
    place = torch.arange(logits.shape[-1], device=count.device)
    return softmax(logits, ((place < count[:, None]) | (place == 0))[:, None])
