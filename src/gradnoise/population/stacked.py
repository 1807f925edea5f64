"""Many copies of one module as rows of one flat tensor, called as one program."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from gradnoise.errors import PopulationError
from gradnoise.population.course import Batch
from gradnoise.population.randomness import undrawn

RANDOM = (
    "the model's forward pass draws random numbers, which would depend on the replica's neighbours;"
    " use nn.Dropout layers, or draw in `batch`, which has a seed of its own"
)


class _Call(nn.Module):
    """`function(model, *args)` as a module, so that functional_call can hand it parameters."""

    def __init__(self, model: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(self.model, *args)


class StackedModules:
    """P modules of the same shapes: parameters as rows of `theta` [P, N], buffers as [P, ...] tensors.

    Functions of (model, batch) written for one replica run over all rows with `torch.func.vmap`; where vmap
    can't, they run in a loop over rows with the same result, and `loop_reasons` says why, by the function's role.
    """

    def __init__(self, modules: Sequence[nn.Module], *, dtype: torch.dtype, device: torch.device) -> None:
        self.module = modules[0].to(device=device, dtype=dtype)
        self.loop_reasons: dict[str, str] = {}
        named = self.module.named_parameters, self.module.named_buffers
        self._tied = any(len(list(n())) != len(list(n(remove_duplicate=False))) for n in named)
        trainable = [(n, p) for n, p in self.module.named_parameters() if p.requires_grad]
        if not trainable:
            raise PopulationError("the model has no trainable parameters")
        self.names = [name for name, _ in trainable]
        self.shapes = [p.shape for _, p in trainable]
        self.offsets = list(itertools.accumulate((p.numel() for _, p in trainable), initial=0))
        self._check_same_shapes(modules)
        rows = [torch.cat([dict(m.named_parameters())[n].detach().flatten() for n in self.names]) for m in modules]
        self.theta = torch.stack([row.to(device=device, dtype=dtype) for row in rows])
        self.fixed = self._stack_fixed(modules, dtype, device)
        self._buffers = [f"model.{n}" for n, _ in self.module.named_buffers()]

    def _check_same_shapes(self, modules: Sequence[nn.Module]) -> None:
        first = {n: p.shape for n, p in modules[0].named_parameters()}
        for i, module in enumerate(modules):
            other = {n: p.shape for n, p in module.named_parameters()}
            if other != first:
                differing = sorted(n for n in first.keys() | other.keys() if first.get(n) != other.get(n))
                raise PopulationError(
                    f"replica {i} has other parameter shapes than replica 0 (at {differing[0]!r});"
                    " replicas of one population share all tensor shapes"
                )

    def _stack_fixed(self, modules: Sequence[nn.Module], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """Stack buffers and frozen parameters: [P, ...] each."""
        trainable = set(self.names)
        per_module = []
        for module in modules:
            state = itertools.chain(module.named_parameters(), module.named_buffers())
            per_module.append({n: x.detach() for n, x in state if n not in trainable})
        return {
            name: torch.stack(
                [(x.to(dtype) if (x := state[name]).is_floating_point() else x).to(device) for state in per_module]
            )
            for name in per_module[0]
        }

    def __len__(self) -> int:
        return len(self.theta)

    def train(self, mode: bool) -> None:
        """Set training or evaluation mode of the module."""
        if self.module.training is not mode:  # walking through all submodules costs as much as running them
            self.module.train(mode)

    def views(self, flat: Tensor) -> list[Tensor]:
        """Cut a flat [P, N] tensor into the parameters: views of shape [P, *shape]."""
        bounds = itertools.pairwise(self.offsets)
        return [flat[:, a:b].view(len(flat), *shape) for (a, b), shape in zip(bounds, self.shapes, strict=True)]

    def select(self, rows: Tensor) -> None:
        """Keep the given rows only."""
        self.theta = self.theta[rows].contiguous()
        self.fixed = {name: x[rows].contiguous() for name, x in self.fixed.items()}

    def call(
        self,
        role: str,
        function: Callable[..., Any],
        batch: Batch,
        dims: Any = None,
        *,
        leaves: Sequence[Tensor] | None = None,
        buffers: dict[str, Tensor] | None = None,
    ) -> Any:
        """Return `function(model, batch)` of every replica; each output gets a leading [P].

        Args:
            role: what the function is to the population, such as "loss"; a role that once fell back to a loop stays
                with it.
            function: written for one replica.
            batch: its arguments.
            dims: where their replica axis is: None for no axis, all replicas share the batch; 0; or a tuple of these,
                one for each part of a batch that is a tuple.
            leaves: parameters [P, ...] in the order of `names`; None for those of theta.
            buffers: buffers [P, ...] by name; None for `fixed`.
        """
        call = _Call(self.module, function)
        leaves = self.views(self.theta) if leaves is None else leaves
        state = {f"model.{n}": x for n, x in zip(self.names, leaves, strict=True)}
        state |= {f"model.{n}": x for n, x in (self.fixed if buffers is None else buffers).items()}

        def one(state: dict[str, Tensor], batch: Batch) -> Any:
            given = dict(state)
            output = functional_call(call, state, (batch,), tie_weights=self._tied)
            for name in self._buffers:
                if state.get(name) is not given.get(name):  # assigned (self.n = self.n + 1) rather than written into
                    given[name].copy_(state[name].detach())
            return output

        if role not in self.loop_reasons:
            try:
                return vmap(one, in_dims=(0, dims))(state, batch)
            except RuntimeError as error:
                self._fall_back(role, error)
        return self._loop(one, state, batch, dims)

    def _fall_back(self, role: str, error: RuntimeError) -> None:
        """Decide whether a vmap failure is vmap's own limit (then loop) or the model's fault (then raise)."""
        message = str(error)
        if "random operation" in message:
            raise PopulationError(RANDOM) from error
        if isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in message:
            raise error  # no limit of vmap: a loop would only hide it
        self.loop_reasons[role] = message.strip().splitlines()[0]

    def _loop(self, one: Callable[..., Any], state: dict[str, Tensor], batch: Batch, dims: Any) -> Any:
        outputs = []
        with undrawn(self.theta.device, PopulationError(RANDOM)):  # vmap refuses by itself
            for p in range(len(next(iter(state.values())))):
                row = {name: x[p] for name, x in state.items()}
                outputs.append(one(row, _part(batch, dims, p)))
        return pytree.tree_map(lambda *xs: torch.stack(xs), *outputs)

    def named_rows(self, p: int) -> Iterator[tuple[str, Tensor]]:
        """Yield parameters and buffers of replica p by name, as a state dict of the original module holds them."""
        for name, view in zip(self.names, self.views(self.theta), strict=True):
            yield name, view[p]
        for name, x in self.fixed.items():
            yield name, x[p]


def _part(batch: Batch, dims: Any, p: int) -> Batch:
    """Return what replica p gets of a batch, see `StackedModules.call`."""
    if dims is None:
        return batch
    if isinstance(dims, tuple):
        return tuple(_part(x, d, p) for x, d in zip(batch, dims, strict=True))
    return pytree.tree_map(lambda x: x[p], batch)
