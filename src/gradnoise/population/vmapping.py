"""How vmap runs operations that are written for many replicas: replicas of replicas are replicas side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from gradnoise.errors import PopulationError


def check_interpreter() -> None:
    """Check that torch.func.vmap has all its rules: without asserts torch leaves many out, and takes slower paths.

    Raises:
        PopulationError: Python was started with -O, or with PYTORCH_JIT=0; sums would be rounded otherwise, in silence.
    """
    if not __debug__:
        raise PopulationError(
            "python -O (or PYTHONOPTIMIZE) makes torch.func.vmap round otherwise and run slower; run without it"
        )
    if os.environ.get("PYTORCH_JIT", "1") != "1":
        raise PopulationError(
            f"PYTORCH_JIT={os.environ['PYTORCH_JIT']} makes torch.func.vmap round otherwise and run slower; unset it"
        )


def side_by_side(
    apply: Callable[..., Any], size: int, in_dims: Sequence[int | None], inputs: Sequence[Tensor], *rest: Any
) -> tuple[Any, Any]:
    """Run an operation whose tensors all have a leading [P] under vmap.

    Args:
        apply: the operation, of tensors [P, ...] and `rest`.
        size: of the axis that vmap adds.
        in_dims: where it stands in each input; None where it does not.
        inputs: tensors with P and that axis.
        rest: what else the operation takes.

    Returns:
        Outputs [size, P, ...], and where the axis stands in each: first.
    """
    moved = [
        x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0) for x, dim in zip(inputs, in_dims, strict=True)
    ]
    outputs = apply(*(x.flatten(0, 1) for x in moved), *rest)
    if isinstance(outputs, Tensor):
        return outputs.unflatten(0, (size, -1)), 0
    return tuple(y.unflatten(0, (size, -1)) for y in outputs), (0,) * len(outputs)


def vmap_rule(operator: Callable[..., Any], tensors: int) -> Callable[..., tuple[Any, Any]]:
    """Return the rule for `register_vmap` of an operator whose first arguments are so many tensors [P, ...]."""

    def rule(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> tuple[Any, Any]:
        given = arguments[:tensors]
        return side_by_side(operator, info.batch_size, in_dims[:tensors], given, *arguments[tensors:])

    return rule
