"""Losses and gradients of all replicas, as a program that is traced once and then replayed.

`torch.func.vmap` interprets the model anew in every step, which for small layers costs more than the
arithmetic. The forward and backward pass of one step is therefore recorded as a graph of batched tensor
operations (`make_fx`), simplified, and replayed while shapes stay the same. Python code in a model or a
loss runs only while recording; `check` compares the replay with the interpreted step, so that code whose
path changes during training is found out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from gradnoise.errors import PopulationError
from gradnoise.population.frozen import Path, Transcript, difference
from gradnoise.population.simplified import simplify

#: Recorded graphs that are kept, one for each tuple of shapes; the oldest goes first.
MOST_GRAPHS = 128

#: What is wrong with a loss whose code does not stay what was recorded.
FROZEN = (
    "the model or loss takes another path through its Python code than when training began ({}): a counter or an"
    " attribute that changes would stay as it was recorded. Where the loss needs the update, ask for it as a tensor,"
    " loss(self, model, batch, config, t); keep other state in a Course or in the batch; or pass trace=False"
    " (--no-trace)"
)

#: (leaves, buffers by name, batch, whether all replicas share the batch) -> losses [P] and metrics [P] by name
Losses = Callable[[Sequence[Tensor], dict[str, Tensor], Any, bool], tuple[Tensor, dict[str, Tensor]]]


#: Of the leaves, those whose gradients are wanted.
ALL = slice(None)


def fresh(leaves: Sequence[Tensor], wanted: slice) -> list[Tensor]:
    """Return leaves without a history, of which the wanted ones get a gradient."""
    given = [leaf.detach() for leaf in leaves]
    for leaf in given[wanted]:
        leaf.requires_grad_()
    return given


def losses_and_gradients(
    losses: Losses,
    leaves: Sequence[Tensor],
    buffers: dict[str, Tensor],
    batch: Any,
    shared: bool,
    wanted: slice = ALL,
) -> tuple[Tensor, dict[str, Tensor], list[Tensor | None]]:
    """Return losses, metrics and gradients of wanted leaves [P, ...], interpreted; None for one without gradient."""
    with torch.enable_grad():
        given = fresh(leaves, wanted)
        tracked = given[wanted]
        values, metrics = losses(given, buffers, batch, shared)
        if values.is_complex():
            raise PopulationError("the loss is complex; return a real number, such as its absolute value")
        if not values.requires_grad:
            raise PopulationError("the loss has no gradient: it was detached, or computed under torch.no_grad()")
        # the sum over replicas, never the mean: a mean would scale each gradient by 1/P and so wreck clip and noise
        try:
            gradients = torch.autograd.grad(values.sum(), tracked, allow_unused=True)
        except RuntimeError as error:
            if "backward through the graph a second time" not in str(error):
                raise
            raise PopulationError(
                "the loss calls `backward` itself; return it, and the engine differentiates"
            ) from error
    return values.detach(), {n: x.detach() for n, x in metrics.items()}, list(gradients)


#: What torch says of a step that it cannot record, and what that means.
UNRECORDABLE = {
    "tracing tensor": "a value of a tensor is read in Python",
    "do not have strides": "a compressed sparse tensor has no strides",
}


class NotRecordableError(RuntimeError):
    """The step is one of those that `UNRECORDABLE` names."""


class Traced:
    """`losses_and_gradients`, recorded once per tuple of shapes and replayed.

    Args:
        losses: the losses of all replicas.
        compile: also compile the graph with torch.compile (slow to start, needs a C++ compiler on a CPU).
        wanted: the leaves whose gradients are wanted.
    """

    def __init__(self, losses: Losses, *, compile: bool = False, wanted: slice = ALL) -> None:
        self.losses = losses
        self.wanted = wanted
        self.compile = compile
        self._paths: dict[object, Path] = {}
        self._graphs: dict[object, Callable[..., tuple[Tensor, dict[str, Tensor], list[Tensor]]]] = {}

    def __call__(
        self, leaves: Sequence[Tensor], buffers: dict[str, Tensor], batch: Any, shared: bool
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Return losses, metrics and gradients, from the graph for these shapes."""
        flat, spec = pytree.tree_flatten((list(leaves), buffers, batch))
        key = (
            shared,
            spec,
            *((x.shape, x.stride(), x.dtype) for x in flat),
        )  # some recorded views need the strides
        if key not in self._graphs:
            if len(self._graphs) == MOST_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[key] = self._record(spec, flat, shared)
        with torch.no_grad():
            return self._graphs[key](*flat)

    def _record(
        self, spec: pytree.TreeSpec, flat: list[Tensor], shared: bool
    ) -> Callable[..., tuple[Tensor, dict[str, Tensor], list[Tensor]]]:
        def run(*flat: Tensor) -> tuple[Tensor, dict[str, Tensor], list[Tensor | None]]:
            leaves, buffers, batch = pytree.tree_unflatten(list(flat), spec)
            return losses_and_gradients(self.losses, leaves, buffers, batch, shared, self.wanted)

        # buffers are copied: recording runs the step once, and a BatchNorm would count it; the rest keeps its strides
        leaves, buffers, batch = pytree.tree_unflatten(flat, spec)
        graph = _recorded(run, pytree.tree_leaves((leaves, {n: x.clone() for n, x in buffers.items()}, batch)))
        simplify(graph)
        return torch.compile(graph) if self.compile else graph

    def check(self, leaves: Sequence[Tensor], buffers: dict[str, Tensor], batch: Any, shared: bool) -> None:
        """Compare the replay with the interpreted step, and the Python code of the loss with what it did before.

        Raises:
            PopulationError: they differ by more than rounding, or the code has other numbers.
        """
        replayed, *_ = self(leaves, {n: x.clone() for n, x in buffers.items()}, batch, shared)
        interpreted = self.watch(leaves, buffers, batch, shared)
        tolerance = 1e-3 if interpreted.dtype == torch.float32 else 1e-8
        finite = torch.isfinite(interpreted)
        if not torch.allclose(replayed[finite], interpreted[finite], rtol=tolerance, atol=tolerance):
            raise PopulationError(FROZEN.format("its result is another"))

    def forget(self) -> None:
        """Forget what the Python code of the losses did."""
        self._paths.clear()

    def watch(self, leaves: Sequence[Tensor], buffers: dict[str, Tensor], batch: Any, shared: bool) -> Tensor:
        """Compute the losses [P], interpreted, see `noted`; no buffer counts it."""
        copies = {n: x.clone() for n, x in buffers.items()}
        with torch.enable_grad():
            given = fresh(leaves, self.wanted)
            return self.noted(given, copies, batch, shared)[0].detach()

    def noted(
        self, leaves: Sequence[Tensor], buffers: dict[str, Tensor], batch: Any, shared: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the losses return, and compare their Python code with what it did before for these shapes.

        Raises:
            PopulationError: it does something else, if only by a last digit: what is recorded would go on as before.
        """
        flat, spec = pytree.tree_flatten((list(leaves), buffers, batch))
        with Transcript(flat) as seen:
            output = self.losses(leaves, buffers, batch, shared)
        before = self._paths.setdefault((shared, spec, *((x.shape, x.dtype) for x in flat)), seen.path)
        if what := difference(before, seen.path):
            raise PopulationError(FROZEN.format(what))
        return output


def _recorded(run: Callable[..., Any], inputs: Sequence[Tensor]) -> fx.GraphModule:
    # without a context every operation makes a mode of its own to note its shape, which is most of the time
    context = TracingContext(FakeTensorMode(allow_fallback_kernels=True))
    try:
        with tracing(context):
            return make_fx(run)(*inputs)
    except RuntimeError as error:
        why = next((why for sign, why in UNRECORDABLE.items() if sign in str(error)), None)
        if why is None:
            raise
        raise NotRecordableError(f"{why}, so that the step cannot be recorded") from error
