"""How functions with a gradient written by hand for many replicas run for a single one."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def alone(apply: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Run a function of tensors [P, ...] for one replica: inputs and outputs without the leading [P]."""
    return tuple(y.squeeze(0) for y in apply(*(x[None] for x in inputs)))
