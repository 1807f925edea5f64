"""Work on a CUDA device that is recorded and replayed: no operation waits for Python to launch it."""

from __future__ import annotations

import gc
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradnoise.population.memory import is_out_of_memory

#: Graphs that are kept, one for each tuple of shapes; that of the shapes not seen for longest goes first.
MOST_GRAPHS = 32

#: (inputs that are new in every call, inputs that change now and then) -> tensors, or what it changes in place
Work = Callable[[Any, Any], Any]


class CudaGraphs:
    """Runs work, and on a CUDA device replays it where shapes repeat.

    With new shapes it runs as it is, which also compiles and tunes what it uses; the second time it is recorded. What
    it reads or changes beside its inputs must stay where it is until `forget`.

    Args:
        device: of all tensors.
        enabled: False runs everything as it is, as any device but a CUDA device does.
    """

    def __init__(self, device: torch.device, enabled: bool = True) -> None:
        self._enabled = enabled and device.type == "cuda"
        self._known: OrderedDict[object, _Graph | None] = OrderedDict()  # None: seen once
        self._pool: Any = None

    def __call__(self, work: Work, fresh: Any, lasting: Any = ()) -> Any:
        """Return `work(fresh, lasting)`; the next call may overwrite it.

        Args:
            work: always the same.
            fresh: tensors in tuples, lists and dicts; copied to where the graph reads them.
            lasting: likewise; copied only when it is another object than last time.
        """
        if not self._enabled:
            return work(fresh, lasting)
        key = _shapes((fresh, lasting))
        graph = self._known.get(key)
        if graph is None and key in self._known:
            graph = self._record(work, fresh, lasting)
        self._remember(key, graph)
        return work(fresh, lasting) if graph is None else graph.replay(fresh, lasting)

    def forget(self) -> None:
        """Drop all graphs: the tensors that they read are no longer where they were."""
        self._known.clear()
        self._pool = None

    def _remember(self, key: object, graph: _Graph | None) -> None:
        self._known[key] = graph
        self._known.move_to_end(key)
        while len(self._known) > MOST_GRAPHS:
            self._known.popitem(last=False)

    def _record(self, work: Work, fresh: Any, lasting: Any) -> _Graph | None:
        """Record without running; None where that cannot be."""
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        mine = pytree.tree_map_only(Tensor, torch.clone, (fresh, lasting))
        graph = torch.cuda.CUDAGraph()
        gc.collect()  # memory that the collector frees in the middle would break the recording
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                outputs = work(*mine)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._enabled = False
            torch.cuda.synchronize()
            reason = str(error).strip().splitlines()[0]
            warnings.warn(
                f"work on the device is launched operation by operation, which is slower: it cannot be recorded as a"
                f" CUDA graph ({reason})",
                stacklevel=3,
            )
            return None
        return _Graph(graph, mine[0], mine[1], lasting, outputs)


@dataclass
class _Graph:
    """What was recorded, where it reads its inputs, the lasting ones that it has read, and where outputs appear."""

    graph: torch.cuda.CUDAGraph
    fresh: Any
    lasting: Any
    seen: Any
    outputs: Any

    def replay(self, fresh: Any, lasting: Any) -> Any:
        """Read the inputs and return the outputs."""
        _copy(self.fresh, fresh)
        if lasting is not self.seen:
            _copy(self.lasting, lasting)
            self.seen = lasting
        self.graph.replay()
        return self.outputs


def _copy(mine: Any, theirs: Any) -> None:
    for x, y in zip(pytree.tree_leaves(mine), pytree.tree_leaves(theirs), strict=True):
        if isinstance(x, Tensor):
            x.copy_(y)


def _shapes(inputs: Any) -> object:
    """Return what inputs of one graph have in common; what is not a tensor is part of the graph."""
    leaves, spec = pytree.tree_flatten(inputs)
    return spec, tuple((x.shape, x.stride(), x.dtype) if isinstance(x, Tensor) else x for x in leaves)
