"""Optimizers as row operations: each row of theta [P, N] is one replica with its own learning rate.

torch.optim refuses per-replica learning rates; these follow its formulas and are tested against it.
Every optimizer is a frozen dataclass of settings; its state is a dict of [P, N] tensors that the
population owns, so that checkpoints and leaving replicas need no special case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]


class Optimizer(Protocol):
    """Settings of an update rule."""

    def init(self, theta: Tensor) -> State:
        """State before the first update: tensors shaped like theta [P, N]."""
        ...

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: int) -> None:
        """Update theta [P, N] in place from gradients g [P, N], which may be overwritten.

        Args:
            theta: parameters, one replica a row.
            g: gradients, clipped and with noise.
            state: what `init` returned, updated in place.
            lr: learning rates [P, 1].
            t: updates done before this one.
        """
        ...


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise ValueError(f"{name} = {value} is outside [{low}, {high})")


@dataclass(frozen=True)
class SGD:
    """theta <- theta - lr * v with v <- momentum * v + g (heavy ball), or Nesterov's form of it."""

    tag: ClassVar[str] = "gradnoise.population.optimizers:SGD"  # in the ids of trials: never to be changed
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Check ranges."""
        _check("momentum", self.momentum, 0, 1)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum > 0")

    def init(self, theta: Tensor) -> State:
        """One velocity per parameter, none without momentum."""
        return {"velocity": torch.zeros_like(theta)} if self.momentum else {}

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: int) -> None:
        """See `Optimizer.update`."""
        if self.momentum:
            v = state["velocity"].mul_(self.momentum).add_(g)
            g = g.add_(v, alpha=self.momentum) if self.nesterov else v
        theta.addcmul_(g, lr, value=-1)


@dataclass(frozen=True)
class AdaGrad:
    """theta <- theta - lr * g / (sqrt(sum of g^2) + eps) (Duchi et al. 2011)."""

    tag: ClassVar[str] = "gradnoise.population.optimizers:AdaGrad"
    eps: float = 1e-10
    initial: float = 0.0

    def init(self, theta: Tensor) -> State:
        """The sum of squared gradients."""
        return {"sum": torch.full_like(theta, self.initial)}

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: int) -> None:
        """See `Optimizer.update`."""
        state["sum"].addcmul_(g, g)
        theta.sub_(g.mul_(lr).div_(state["sum"].sqrt().add_(self.eps)))


@dataclass(frozen=True)
class RMSProp:
    """theta <- theta - lr * v, v <- momentum * v + g / (sqrt(mean of g^2) + eps) (Tieleman & Hinton 2012)."""

    tag: ClassVar[str] = "gradnoise.population.optimizers:RMSProp"
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges."""
        _check("alpha", self.alpha, 0, 1)
        _check("momentum", self.momentum, 0, 1)

    def init(self, theta: Tensor) -> State:
        """The running mean of squared gradients, and the velocity when there is momentum."""
        state = {"square": torch.zeros_like(theta)}
        return state | ({"velocity": torch.zeros_like(theta)} if self.momentum else {})

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: int) -> None:
        """See `Optimizer.update`."""
        square = state["square"].mul_(self.alpha).addcmul_(g, g, value=1 - self.alpha)
        g = g.div_(square.sqrt().add_(self.eps))
        if self.momentum:
            g = state["velocity"].mul_(self.momentum).add_(g)
        theta.addcmul_(g, lr, value=-1)


@dataclass(frozen=True)
class Adam:
    """theta <- theta - lr * m_hat / (sqrt(v_hat) + eps) (Kingma & Ba 2015, algorithm 1)."""

    tag: ClassVar[str] = "gradnoise.population.optimizers:Adam"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Check ranges."""
        _check("beta1", self.beta1, 0, 1)
        _check("beta2", self.beta2, 0, 1)

    def init(self, theta: Tensor) -> State:
        """First and second moment."""
        return {"m": torch.zeros_like(theta), "v": torch.zeros_like(theta)}

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: int) -> None:
        """See `Optimizer.update`."""
        m = state["m"].lerp_(g, 1 - self.beta1)
        v = state["v"].mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        root = v.sqrt().div_((1 - self.beta2 ** (t + 1)) ** 0.5).add_(self.eps)
        theta.sub_(m.div(root).mul_(lr / (1 - self.beta1 ** (t + 1))))
