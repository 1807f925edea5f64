"""How functions with a gradient written by hand run for many replicas: all their tensors have a leading [P]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor


def side_by_side(
    apply: Callable[..., tuple[Tensor, ...]], size: int, in_dims: Sequence[int | None], inputs: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Run such a function under vmap: replicas of replicas are replicas side by side.

    Args:
        apply: the function, of tensors [P, ...].
        size: of the axis that vmap adds.
        in_dims: where it stands in each input; None where it does not.
        inputs: tensors with P and that axis.

    Returns:
        Outputs [size, P, ...], and where the axis stands in each: first.
    """
    moved = [
        x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0) for x, dim in zip(inputs, in_dims, strict=True)
    ]
    outputs = apply(*(x.flatten(0, 1) for x in moved))
    return tuple(y.unflatten(0, (size, -1)) for y in outputs), (0,) * len(outputs)


def alone(apply: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Run such a function for one replica: inputs and outputs without the leading [P]."""
    return tuple(y.squeeze(0) for y in apply(*(x[None] for x in inputs)))
