"""How the words of a sentence are weighted by their position: bag of words, and two forms of position encoding.

Every weight here has rank two over (dimension k, position j): l_kj = alpha_j + g_k h_j. A sentence is then
sum_j alpha_j E[x_j] + g * sum_j h_j E[x_j], two weighted sums of embeddings instead of one for every dimension.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ENCODINGS = ("code", "paper", "bow")


def dimension_weights(encoding: str, dim: int) -> Tensor:
    """g [D]: how strongly each dimension k = 1..D depends on the position.

    Args:
        encoding: "code", what the authors' program computes: l_kj = 1 + 4 (k - (D+1)/2) (j - (J+1)/2) / (D J);
            "paper", as printed: l_kj = (1 - j/J) - (k/D) (1 - 2j/J) (Sukhbaatar et al. 2015, section 4.1);
            "bow", bag of words: l_kj = 1.
        dim: D.
    """
    k = torch.arange(1, dim + 1, dtype=torch.float64)
    match encoding:
        case "code":
            return 4 * (k - (dim + 1) / 2) / dim
        case "paper":
            return 2 * (k / dim - 1 / 2)
        case "bow":
            return torch.zeros(dim, dtype=torch.float64)
    raise ValueError(f"encoding = {encoding!r}: allowed are {', '.join(map(repr, ENCODINGS))}")


def position_weights(encoding: str, lengths: NDArray[np.int64], longest: int) -> NDArray[np.float64]:
    """alpha and h of each word of sentences: [2, U, L]; 0 behind the end of a sentence.

    Args:
        encoding: see `dimension_weights`.
        lengths: [U] words of each sentence.
        longest: L. The "code" form counts positions against J = L + 1, with the time word at the end;
            the "paper" form against a sentence's own length.
    """
    j = np.arange(1, longest + 1)
    present = j <= lengths[:, None]
    shape = present.shape
    if encoding == "code":
        whole = longest + 1
        alpha, h = np.ones(shape), np.broadcast_to((j - (whole + 1) / 2) / whole, shape)
    elif encoding == "paper":
        alpha, h = np.full(shape, 0.5), j / np.maximum(lengths, 1)[:, None] - 0.5
    else:
        alpha, h = np.ones(shape), np.zeros(shape)
    return np.stack([alpha, h]) * present


def time_weights(encoding: str, longest: int) -> tuple[float, float]:
    """alpha and h of the word that stands for the time of a sentence: the last position in "code", else 1."""
    return (1.0, longest / (2 * (longest + 1))) if encoding == "code" else (1.0, 0.0)
