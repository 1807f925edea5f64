"""Adam's rule for rows of parameters: by torch's operations, and on a CPU in one pass over memory instead of nine."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian import split
from gradnoise.population.kernels import kernel, on_cpu_in


def correction(beta: float, t: Tensor) -> Tensor:
    """Return 1 - beta^(t + 1), what a mean of t + 1 values that began at 0 is divided by; 0-dim, float64."""
    return 1 - torch.pow(beta, (t + 1).to(torch.float64))


def adam(
    theta: Tensor, g: Tensor, m: Tensor, v: Tensor, lr: Tensor, t: Tensor, beta1: float, beta2: float, eps: float
) -> None:
    """Update theta and the moments m and v [P, N] by Adam's rule, see `Optimizer.update`; g is overwritten."""
    rate, root = lr / correction(beta1, t).to(lr.dtype), _root(correction(beta2, t)).to(v.dtype)
    laid = [theta, g, m, v]
    compiled = kernel("adam_kernel", "rows") if theta.numel() and all(map(_is_compiled_for, laid)) else None
    if compiled is None:
        _by_operations(theta, g, m, v, rate, root, beta1, beta2, eps)
        return
    arrays = [_memory(x) for x in laid]
    numbers = np.array([1 - beta1, beta2, 1 - beta2, root.item(), eps], arrays[0].dtype)
    strides = np.array([x.stride(0) for x in laid])
    rates = rate.expand(len(theta), 1)[:, 0].contiguous().numpy()
    work = functools.partial(compiled, *arrays, strides, rates, numbers, theta.shape[1])
    split(work, theta.numel(), torch.get_num_threads())
    torch.autograd.graph.increment_version((theta, m, v))  # torch cannot see what is written here


def _is_compiled_for(x: Tensor) -> bool:
    return on_cpu_in(x) and x.stride(1) == 1


def _memory(x: Tensor) -> NDArray[Any]:
    """Return the memory of rows from the first to the last element; between them may lie what belongs to others."""
    return x.detach().as_strided(((len(x) - 1) * x.stride(0) + x.shape[1],), (1,)).numpy()


def _root(x: Tensor) -> Tensor:
    """Return sqrt(x) of a 0-dim tensor, rounded as Python's x ** 0.5; `sqrt` and `pow(x, 0.5)` may differ in a bit."""
    return torch.pow(x, torch.full_like(x, 0.5))


def _by_operations(
    theta: Tensor, g: Tensor, m: Tensor, v: Tensor, rate: Tensor, root: Tensor, beta1: float, beta2: float, eps: float
) -> None:
    m.lerp_(g, 1 - beta1)
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    # what follows is made in g's memory: new memory of this size costs as much as the arithmetic
    scale = torch.sqrt(v, out=g).div_(root).add_(eps)
    theta.sub_(torch.div(m, scale, out=g).mul_(rate))
