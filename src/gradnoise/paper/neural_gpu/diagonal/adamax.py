"""The update rule of diagonal Neural GPUs: AdaMax that cuts every element of the gradient to what it has been."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradnoise.population import PopulationError

State = dict[str, Tensor]


@dataclass(frozen=True)
class BoundedAdaMax:
    """theta <- theta - lr m / (v + eps), with g cut to +-(growth v + least) before the noise is added.

    m <- beta1 m + (1 - beta1) g without correction of its bias; v <- max(beta2 v, |g|) with
    beta2 = 1 - max(slowest, fastest 2^(-t / half)). With noise, v follows the noise, too.

    Args:
        beta1: of the mean, in [0, 1).
        fastest, slowest: 1 - beta2 at first and in the end, in [0, 1].
        half: updates after which it has halved, > 0.
        growth, least: of the bound, >= 0.
        eps: >= 0.

    Raises:
        PopulationError: a setting is out of range.

    Source: the program of Freivalds & Liepins 2017 (arXiv 1702.08727), but for the place of the noise: its own is
    added before the cut, which would take most of it away.
    """

    tag: ClassVar[str] = "gradnoise.paper.neural_gpu:BoundedAdaMax"  # in the ids of trials: never to be changed
    beta1: float = 0.9
    fastest: float = 0.01
    slowest: float = 5e-4
    half: float = 2000.0
    growth: float = 1.2
    least: float = 1e-4
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Check the ranges of the settings."""
        if not (0 <= self.beta1 < 1 and 0 <= self.slowest <= self.fastest <= 1 and self.half > 0):
            raise PopulationError(f"{self!r}: beta1 is in [0, 1), 0 <= slowest <= fastest <= 1, and half > 0")
        if min(self.growth, self.least, self.eps) < 0:
            raise PopulationError(f"{self!r}: growth, least and eps are >= 0")

    def init(self, theta: Tensor) -> State:
        """Return the running mean and the running largest size of gradients."""
        return {"m": torch.zeros_like(theta), "v": torch.zeros_like(theta)}

    def before_noise(self, g: Tensor, state: State, t: Tensor) -> None:
        """Cut gradients in place before their noise is added, see `Optimizer`."""
        bound = state["v"].mul(self.growth).add_(self.least)
        torch.minimum(g, bound, out=g)
        torch.maximum(g, bound.neg_(), out=g)

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Do one update, see `Optimizer.update`."""
        decay = torch.pow(0.5, t.to(torch.float64) / self.half).mul(self.fastest).clamp(min=self.slowest)
        m = state["m"].lerp_(g, 1 - self.beta1)
        v = state["v"].mul_((1 - decay).to(g.dtype))
        torch.maximum(v, g.abs_(), out=v)
        theta.sub_(torch.add(v, self.eps, out=g).reciprocal_().mul_(m).mul_(lr))
