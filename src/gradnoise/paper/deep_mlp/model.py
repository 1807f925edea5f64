"""The very deep fully-connected network of the paper's section 4.1 and its four initialisations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

PIXELS, CLASSES = 784, 10


class DeepMLP(nn.Module):
    """x [B, 784] -> [Linear -> ReLU -> dropout] x depth -> Linear -> logits [B, 10].

    Args:
        depth: hidden layers; the paper has 20, and 5 for the net on which noise does not help.
        width: units of each, 50 in the paper.
        init: "simple", "sussillo", "he" or "zero", see `weight_sd`.
        dropout: rate on each hidden layer's output; 0 leaves dropout out.
    """

    def __init__(self, depth: int = 20, width: int = 50, init: str = "simple", dropout: float = 0.0) -> None:
        super().__init__()
        for name, value in (("depth", depth), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} = {value}: a network needs at least 1")
        layers: list[nn.Module] = []
        for fan_in in [PIXELS] + [width] * (depth - 1):
            layers += [nn.Linear(fan_in, width), nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
        self.layers = nn.Sequential(*layers, nn.Linear(width, CLASSES))
        initialise_(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, 10] of images x [B, 784]."""
        return self.layers(x)


def weight_sd(init: str, n: int) -> float:
    """Standard deviation of a weight for fan-in n.

    - "simple": 0.1, the paper's Simple Init.
    - "sussillo": g / sqrt(n) with g = sqrt(2) exp(1.2 / (max(n, 6) - 2.4)), the random-walk
      initialisation for ReLU (Sussillo & Abbott, arXiv 1412.6558): the paper's Good Init 1.
    - "he": sqrt(2 / n) (He et al. 2015): Good Init 2.
    - "zero": 0, the paper's Bad Init.
    """
    match init:
        case "simple":
            return 0.1
        case "sussillo":
            return math.sqrt(2 / n) * math.exp(1.2 / (max(n, 6) - 2.4))
        case "he":
            return math.sqrt(2 / n)
        case "zero":
            return 0.0
    raise ValueError(f"init = {init!r}: allowed are 'simple', 'sussillo', 'he' and 'zero'")


@torch.no_grad()
def initialise_(model: nn.Module, init: str) -> None:
    """Draw every weight matrix from N(0, weight_sd^2) with its own fan-in; biases are 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.normal_(0, weight_sd(init, layer.in_features))
            layer.bias.zero_()
