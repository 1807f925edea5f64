"""Sizes of the noise and of the gradient: the numbers that help to choose eta."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnoise.noise.gradients import Rows, Stream, add_noise_


@dataclass(frozen=True)
class GroupDiagnostics:
    """Noise and gradient of one parameter group at one update.

    Args:
        group: index in `optimizer.param_groups`.
        t: update, counted from 0.
        sigma: standard deviation of the noise.
        gradient_norm: L2 norm of the gradients of the group that get noise.
        noise_norm: L2 norm of the very noise that the update adds to them.
        ratio: noise_norm / gradient_norm; nan where both are 0.
    """

    group: int
    t: int
    sigma: float
    gradient_norm: float
    noise_norm: float

    @property
    def ratio(self) -> float:
        """Return noise to gradient. Around 1 the noise drowns the gradient of this minibatch."""
        if self.gradient_norm == 0:
            return math.inf if self.noise_norm else math.nan
        return self.noise_norm / self.gradient_norm


@torch.no_grad()
def diagnose(group: int, streams: Sequence[Stream], t: int, sigma: float, rows: Rows) -> GroupDiagnostics:
    """Return the norms of gradients and of the noise that update t adds to them; gradients stay as they are."""
    streams = [s for s in streams if s.parameter.grad is not None]
    gradient_norm = _norm(s.parameter.grad for s in streams)
    return GroupDiagnostics(group, t, sigma, gradient_norm, _norm(_noise(s, t, sigma, rows) for s in streams))


def _noise(stream: Stream, t: int, sigma: float, rows: Rows) -> Tensor:
    """Return the noise on a gradient, in its own layout."""
    gradient = stream.parameter.grad
    assert gradient is not None
    if gradient.layout == torch.sparse_coo:
        gradient = gradient.coalesce()
        values = torch.zeros_like(gradient.values())
        zeros = torch.sparse_coo_tensor(gradient.indices(), values, gradient.shape, check_invariants=False)
    else:
        zeros = torch.zeros_like(gradient)
    shadow = torch.empty_like(stream.parameter)
    shadow.grad = zeros
    add_noise_([stream._replace(parameter=shadow)], t, sigma, rows)
    return shadow.grad


def _norm(tensors: Iterable[Tensor | None]) -> float:
    """Return the L2 norm of all tensors together, of DTensors over all ranks."""
    total = 0.0
    for x in tensors:
        assert x is not None
        values = x.coalesce().values() if x.layout == torch.sparse_coo else x
        norm = torch.linalg.vector_norm(values, dtype=torch.promote_types(values.dtype, torch.float32))
        total += float(getattr(norm, "full_tensor", lambda norm=norm: norm)()) ** 2
    return math.sqrt(total)
