"""What Python code puts into a recorded training step: numbers, and tensors made from them, which a replay repeats."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

#: Larger tensors that come from outside are compared by their sum alone.
MOST_NUMBERS = 4096
#: Arguments of operations that are compared by what they are called.
NAMED = (torch.dtype, torch.device, torch.layout, torch.memory_format)

#: The operations of one call, in order, each with its numbers.
Path = list[tuple[Any, ...]]


class Transcript(TorchDispatchMode):
    """Writes down, within a block, every operation with its numbers and with tensors that come from outside.

    Args:
        inputs: tensors that the block is given, in any nesting. They and what is computed from them may have other
            values in another call.

    Attributes:
        path: what was written down.
    """

    def __init__(self, inputs: Any) -> None:
        super().__init__()
        self.path: Path = []
        self._known = set(_storages(pytree.tree_leaves(inputs)))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an operation and do it."""
        leaves = pytree.tree_leaves((args, kwargs or {}))
        fresh = "lift_fresh" in str(func)  # a tensor that Python makes of numbers
        self.path.append((str(func), *(self._seen(x, fresh) for x in leaves)))
        made = func(*args, **(kwargs or {}))
        self._known.update(_storages(pytree.tree_leaves(made)))
        return made

    def _seen(self, x: Any, fresh: bool) -> Any:
        if isinstance(x, Tensor):
            return None if not fresh and set(_storages([x])) <= self._known else " ".join(map(_values, _parts(x)))
        if isinstance(x, float) and x != x:
            return "nan"
        if isinstance(x, int | float | complex | bool | str | None):
            return x
        return str(x) if isinstance(x, NAMED) else type(x).__name__


def _storages(leaves: Iterable[Any]) -> Iterable[StorageWeakRef]:
    # an address would be used again, by a tensor from outside, once what lay there is freed; these refs never are
    return (StorageWeakRef(part.untyped_storage()) for x in leaves if isinstance(x, Tensor) for part in _parts(x))


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors with memory of their own that a tensor is made of: itself, unless it is sparse."""
    if x.layout == torch.sparse_coo:
        return x._indices(), x._values()
    if x.layout in (torch.sparse_csr, torch.sparse_bsr):
        return x.crow_indices(), x.col_indices(), x.values()
    if x.layout in (torch.sparse_csc, torch.sparse_bsc):
        return x.ccol_indices(), x.row_indices(), x.values()
    return (x,)


def _values(x: Tensor) -> str:
    return f"{tuple(x.shape)} {x.tolist() if x.numel() <= MOST_NUMBERS else float(x.double().sum())}"


def difference(before: Path, after: Path) -> str:
    """Say where two paths differ first; "" where they do not."""
    for x, y in zip(before, after, strict=False):
        if x[0] != y[0]:
            return f"{_name(x)} became {_name(y)}"
        if x != y:
            old, new = next(((a, b) for a, b in zip(x, y, strict=False) if a != b), (len(x), len(y)))
            return f"{_name(x)} had {old} and now has {new}"
    return "" if len(before) == len(after) else f"{len(before)} operations became {len(after)}"


def _name(call: tuple[Any, ...]) -> str:
    return str(call[0]).removesuffix(".default")
