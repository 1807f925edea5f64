"""Which text cells a question means (section 3.6 of the specification of Neelakantan et al. 2016, text entries)."""

from __future__ import annotations

import torch
from torch import Tensor

from gradnoise.paper.neural_programmer.machine.choices import Choices


def text_match(names: Tensor, cell_words: Tensor, chosen: Choices, words: Tensor, rows: Tensor) -> Tensor:
    """Return text_match of every cell [B, K, M], between 0 and 1; padding has 0.

    A = V(cell), B = sigmoid(A q), D = mean over rows of B A, E = D + P_column, G = sum_i softmax_i(E z_i) z_i over the
    tokens, text_match = sigmoid(A G). There are only ten words: products are made for each word and then looked up.

    Args:
        names: P of the text columns [K, d].
        cell_words: V of what cells may hold [10, d].
        chosen: q, z and which tokens are real, for B examples.
        words: which word each cell holds, [B, K, M].
        rows: rm, 1 for real rows [B, M].
    """
    holds = (words[..., None] == torch.arange(len(cell_words), device=words.device)).to(rows.dtype)
    holds = holds * rows[:, None, :, None]
    share = holds.sum(2) / rows.sum(1)[:, None, None]  # of each word in its column [B, K, 10]
    attended = (chosen.question @ cell_words.mT).sigmoid()[:, None]
    e = (share * attended) @ cell_words + names
    logits = (e @ chosen.states.mT).masked_fill(chosen.real[:, None] == 0, -torch.inf)
    g = logits.softmax(-1) @ chosen.states
    by_word = (g @ cell_words.mT).sigmoid()
    return (holds * by_word[:, :, None]).sum(-1)
