"""Remembers how many small tensors lie in memory, where a step finds the tensors of the step before.

So it is with `zero_grad(set_to_none=False)`, with gradients that are views of buckets, and with graphs that are reused.
Looking at five hundred tensors anew takes as long as their noise.
"""

from __future__ import annotations

import operator
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MANY = 32
"""Fewer tensors are not worth it."""

KEPT = 16
"""Optimizers whose tensors are remembered."""


class Plan(NamedTuple):
    """Tensors that are alive, their precision when they were looked at, and what the kernel takes."""

    tensors: list[weakref.ref[Tensor]]
    dtype: torch.dtype
    runs: NDArray[np.uint64]


_first: OrderedDict[tuple[int, ...], weakref.ref[Tensor]] = OrderedDict()
_plans: dict[tuple[int, ...], Plan] = {}


def recall(tensors: Sequence[Tensor], keys: tuple[int, ...]) -> NDArray[np.uint64] | None:
    """Return what the kernel takes, if these very tensors lie as they lay; None if they have to be looked at."""
    plan = _plans.get(keys)
    if plan is None or len(plan.tensors) != len(tensors) or plan.tensors[0]() is not tensors[0]:
        return None
    alive: Any = map(operator.call, plan.tensors)
    if not all(map(operator.is_, alive, tensors)):
        return None
    # The same tensor may have got other data, or its own in another shape (p.grad.data = ..., p.grad.t_()).
    same = np.array_equal(addresses_of(tensors), plan.runs[:, 0]) and np.array_equal(sizes_of(tensors), plan.runs[:, 1])
    if not (same and all(map(Tensor.is_contiguous, tensors))):
        return None
    return plan.runs if {x.dtype for x in tensors} == {plan.dtype} else None


def remember(tensors: Sequence[Tensor], keys: tuple[int, ...], runs: NDArray[np.uint64]) -> None:
    """Keep what the kernel takes, once the same tensors come twice."""
    if len(tensors) < MANY:
        return
    before = _first.get(keys)
    if before is not None and before() is tensors[0]:
        _plans[keys] = Plan(list(map(weakref.ref, tensors)), tensors[0].dtype, runs)
        return
    _plans.pop(keys, None)
    _first[keys] = weakref.ref(tensors[0])
    _first.move_to_end(keys)
    while len(_first) > KEPT:
        _plans.pop(_first.popitem(last=False)[0], None)


def addresses_of(tensors: Sequence[Tensor]) -> NDArray[np.uint64]:
    """Return where tensors begin in memory, uint64 [S]."""
    return np.fromiter(map(Tensor.data_ptr, tensors), np.uint64, len(tensors))


def sizes_of(tensors: Sequence[Tensor]) -> NDArray[np.uint64]:
    """Return how many elements tensors have, uint64 [S]."""
    return np.fromiter(map(Tensor.numel, tensors), np.uint64, len(tensors))
