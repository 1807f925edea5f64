"""Sizes of the noise and of the gradient: the numbers that help to choose eta."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnoise.noise import gaussian
from gradnoise.noise.anticorrelated import AllLeft, taking
from gradnoise.noise.dosing import Dose, Group, add_doses_, doses
from gradnoise.noise.gradients import Rows, Stream
from gradnoise.noise.norms import norm
from gradnoise.noise.schedule import end_of
from gradnoise.noise.until import Endings


@dataclass(frozen=True)
class GroupDiagnostics:
    """Noise and gradient of one parameter group at one update.

    Args:
        group: index in `optimizer.param_groups`.
        t: update, counted from 0.
        sigma: standard deviation of the noise.
        gradient_norm: L2 norm of the gradients of the group that get noise.
        noise_norm: L2 norm of the very noise that the update adds to them.
        ended: first update without noise, where `until` has ended it; None while it goes on.
    """

    group: int
    t: int
    sigma: float
    gradient_norm: float
    noise_norm: float
    ended: int | None = None

    @property
    def ratio(self) -> float:
        """Return noise to gradient; nan where both are 0. Around 1 the noise drowns the gradient of this minibatch."""
        if self.gradient_norm == 0:
            return math.inf if self.noise_norm else math.nan
        return self.noise_norm / self.gradient_norm


@torch.no_grad()
def diagnose(group: Group, t: int, rows: Rows, endings: Endings | None, left: AllLeft | None) -> GroupDiagnostics:
    """Return the norms of gradients and of the noise that update t adds to them; gradients stay as they are.

    Args:
        group: its streams have gradients.
        t: update.
        rows: of sparse gradients.
        endings: what knows which groups' noise has ended; None where no schedule asks for it.
        left: of anticorrelated noise, what the update takes away; None for other noise.
    """
    found = doses([group], t, rows, None, endings)
    if left is not None:
        found += taking([group], left, None, rows)
    now = next((dose.sigma * float(1.0 if dose.scale is None else dose.scale) for dose in found if dose.t == t), 0.0)
    noise_norm = _norm(_noise(stream, found, rows) for stream in group.streams)
    return GroupDiagnostics(group.place, t, now, float(norm(group.streams)), noise_norm, _ended(group, t, endings))


def _ended(group: Group, t: int, endings: Endings | None) -> int | None:
    """Return the first update without noise, if that is not after t."""
    by_share = None if endings is None else endings.at(group.place)
    end = end_of(group.schedule) if by_share is None else by_share
    return int(end) if end <= t else None


def _noise(stream: Stream, found: Sequence[Dose], rows: Rows) -> Tensor:
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
    there = [stream._replace(parameter=shadow)]
    own = [dose for dose in found if any(stream.key == other.key for other in dose.streams)]
    add_doses_([dose._replace(streams=there, gradients=[zeros]) for dose in own], rows)
    return shadow.grad


def _norm(tensors: Iterable[Tensor]) -> float:
    """Return the L2 norm of all tensors together, of DTensors over all ranks."""
    total = 0.0
    for x in tensors:
        values = x.coalesce().values() if x.layout == torch.sparse_coo else x
        size = torch.linalg.vector_norm(values, dtype=torch.promote_types(values.dtype, torch.float32))
        total += float(getattr(size, "full_tensor", lambda size=size: size)()) ** 2
    return math.sqrt(total)


def draw(stream: Stream, t: int, sigma: float) -> Tensor:
    """Return the noise of a whole parameter, in its shape, on the CPU."""
    p = stream.parameter
    real = torch.float64 if p.dtype in (torch.float64, torch.complex128) else torch.float32
    count = p.numel() * (2 if p.is_complex() else 1)
    z = gaussian.normal(stream.key, t, count).to(real)
    if p.is_complex():
        return torch.view_as_complex(torch.tensor(sigma / 2**0.5, dtype=real) * z.view(*p.shape, 2))
    return torch.tensor(sigma, dtype=real) * z.view(p.shape)
