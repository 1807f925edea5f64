"""Optimizers as row operations: each row of theta [P, N] is one replica with its own learning rate.

torch.optim refuses per-replica learning rates; these follow its formulas and are tested against it.
Every optimizer is a frozen dataclass of settings; its state is a dict of tensors [P, ...] that the
population owns, so that checkpoints and leaving replicas need no special case.

No update reads a tensor on the host or moves one to another address, so that a CUDA graph can replay it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from gradnoise.population.adam import adam, correction

State = dict[str, Tensor]


#: (g, state, t) -> None; see `Optimizer`.
BeforeNoise = Callable[[Tensor, State, Tensor], None]


class Optimizer(Protocol):
    """Settings of an update rule.

    A rule that clips gradients by its own state may have a third method `before_noise(g, state, t)`, which changes g
    in place and nothing else. It is called after the clipping of `Training` and before the noise is added, so that
    noise is not clipped.
    """

    def init(self, theta: Tensor) -> State:
        """Return the state before the first update: tensors [P, ...], one row a replica, on theta's device."""
        ...

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Update theta [P, N] in place from gradients g [P, N], which may be overwritten.

        No step may mix rows, read a tensor on the host (`.item()`, `if tensor`) or replace a tensor of `state`.
        With lr 0 and a gradient of zeros the theta of a row must stay as it is (the sign of a zero may change): that
        is how the population skips the update of a replica.

        Args:
            theta: parameters, one replica a row.
            g: gradients, clipped and with noise.
            state: what `init` returned, updated in place.
            lr: learning rates [P, 1], of theta's dtype.
            t: number of updates done before this one, a 0-dim int64 tensor on theta's device.
        """
        ...


def before_noise_of(optimizer: Optimizer) -> BeforeNoise | None:
    """Return the method `before_noise` of an update rule; None for none."""
    return getattr(optimizer, "before_noise", None)


def _check(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside [low, high)."""
    if not low <= value < high:
        raise ValueError(f"{name} = {value} is outside [{low}, {high})")


@dataclass(frozen=True)
class SGD:
    """theta <- theta - lr * v with v <- momentum * v + g (heavy ball), or Nesterov's form of it."""

    tag: ClassVar[str] = "gradnoise.population.optimizers:SGD"  # in the ids of trials: never to be changed
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Check the ranges of the settings."""
        _check("momentum", self.momentum, 0, 1)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum > 0")

    def init(self, theta: Tensor) -> State:
        """Return one velocity per parameter, none without momentum."""
        return {"velocity": torch.zeros_like(theta)} if self.momentum else {}

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Do one update, see `Optimizer.update`."""
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

    def __post_init__(self) -> None:
        """Check the ranges of the settings."""
        _check("eps", self.eps, 0, math.inf)
        _check("initial", self.initial, 0, math.inf)

    def init(self, theta: Tensor) -> State:
        """Return the sums of squared gradients."""
        return {"sum": torch.full_like(theta, self.initial)}

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Do one update, see `Optimizer.update`."""
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
        """Check the ranges of the settings."""
        _check("alpha", self.alpha, 0, 1)
        _check("eps", self.eps, 0, math.inf)
        _check("momentum", self.momentum, 0, 1)

    def init(self, theta: Tensor) -> State:
        """Return the running means of squared gradients, and velocities where there is momentum."""
        state = {"square": torch.zeros_like(theta)}
        return state | ({"velocity": torch.zeros_like(theta)} if self.momentum else {})

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Do one update, see `Optimizer.update`."""
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
        """Check the ranges of the settings."""
        _check("beta1", self.beta1, 0, 1)
        _check("beta2", self.beta2, 0, 1)
        _check("eps", self.eps, 0, math.inf)

    def init(self, theta: Tensor) -> State:
        """Return the running means of gradients and of their squares."""
        return {"m": torch.zeros_like(theta), "v": torch.zeros_like(theta)}

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Do one update, see `Optimizer.update`."""
        adam(theta, g, state["m"], state["v"], lr, t, self.beta1, self.beta2, self.eps)


@dataclass(frozen=True)
class AdamW:
    """Adam after theta <- (1 - lr * weight_decay) theta, weight decay apart from the gradient.

    Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    """

    tag: ClassVar[str] = "gradnoise.population.optimizers:AdamW"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        """Check the ranges of the settings."""
        _check("beta1", self.beta1, 0, 1)
        _check("beta2", self.beta2, 0, 1)
        _check("eps", self.eps, 0, math.inf)
        _check("weight_decay", self.weight_decay, 0, math.inf)

    def init(self, theta: Tensor) -> State:
        """Return the running means of gradients and of their squares."""
        return {"m": torch.zeros_like(theta), "v": torch.zeros_like(theta)}

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Do one update, see `Optimizer.update`."""
        theta.mul_(1 - lr * self.weight_decay)
        adam(theta, g, state["m"], state["v"], lr, t, self.beta1, self.beta2, self.eps)


@dataclass(frozen=True)
class NAdam:
    """Adam with Nesterov's momentum, which grows from half of beta1 to beta1 as t does.

    With n = t + 1, mu_n = beta1 * (1 - 0.96^(n * momentum_decay) / 2) and M_n = mu_1 mu_2 ... mu_n:
    theta <- theta - lr * m_hat / (sqrt(v_hat) + eps), m_hat = mu_(n+1) m / (1 - M_(n+1)) + (1 - mu_n) g / (1 - M_n).

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam", algorithm 2 in the form of torch.optim.
    """

    tag: ClassVar[str] = "gradnoise.population.optimizers:NAdam"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    momentum_decay: float = 0.004

    def __post_init__(self) -> None:
        """Check the ranges of the settings."""
        _check("beta1", self.beta1, 0, 1)
        _check("beta2", self.beta2, 0, 1)
        _check("eps", self.eps, 0, math.inf)
        _check("momentum_decay", self.momentum_decay, 0, math.inf)

    def init(self, theta: Tensor) -> State:
        """Return the running means of gradients and of their squares, and the product of the mu so far, [P, 1]."""
        product = theta.new_ones(len(theta), 1, dtype=torch.float64)  # each replica's own, so that rows can leave
        return {"m": torch.zeros_like(theta), "v": torch.zeros_like(theta), "product": product}

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Do one update, see `Optimizer.update`."""
        mu, after = self._mu(t + 1), self._mu(t + 2)
        product = state["product"].mul_(mu)
        m = state["m"].lerp_(g, 1 - self.beta1)
        v = state["v"].mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        root = v.div(correction(self.beta2, t).to(v.dtype)).sqrt_().add_(self.eps)
        theta.sub_(g.div_(root).mul_(lr * ((1 - mu) / (1 - product)).to(lr.dtype)))
        theta.sub_(m.div(root).mul_(lr * (after / (1 - product * after)).to(lr.dtype)))

    def _mu(self, n: Tensor) -> Tensor:
        """Return the momentum of update n, counted from 1; 0-dim, float64."""
        return self.beta1 * (1 - 0.5 * torch.pow(0.96, n.to(torch.float64) * self.momentum_decay))


@dataclass(frozen=True)
class L2:
    """An optimizer with g <- g + weight_decay * theta first: an L2 penalty, what torch.optim calls weight_decay.

    As in torch.optim, clipping and noise come before it. `L2(SGD(momentum=0.9), 5e-4)`; see AdamW for decay that
    does not pass through the optimizer's state.
    """

    tag: ClassVar[str] = "gradnoise.population.optimizers:L2"
    optimizer: Optimizer
    weight_decay: float

    def __post_init__(self) -> None:
        """Check the ranges of the settings."""
        if isinstance(self.optimizer, type) or not (
            hasattr(self.optimizer, "init") and hasattr(self.optimizer, "update")
        ):
            raise ValueError(
                f"L2({self.optimizer!r}, ...): give an optimizer of populations, as in L2(SGD(momentum=0.9), 5e-4)"
            )
        _check("weight_decay", self.weight_decay, 0, math.inf)

    @property
    def before_noise(self) -> BeforeNoise | None:
        """The method of the optimizer inside, see `Optimizer`."""
        return before_noise_of(self.optimizer)

    def init(self, theta: Tensor) -> State:
        """Return the state of the optimizer inside."""
        return self.optimizer.init(theta)

    def update(self, theta: Tensor, g: Tensor, state: State, lr: Tensor, t: Tensor) -> None:
        """Do one update, see `Optimizer.update`."""
        self.optimizer.update(theta, g.add_(theta, alpha=self.weight_decay), state, lr, t)
