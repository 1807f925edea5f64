"""Many copies of one module as rows of one flat tensor, called as one program."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from gradnoise.errors import PopulationError
from gradnoise.population.adapt import without_surprises
from gradnoise.population.course import Batch
from gradnoise.population.fallbacks import noting_slow
from gradnoise.population.memory import is_out_of_memory
from gradnoise.population.random_rows import RandomRows
from gradnoise.population.randomness import seeded_for
from gradnoise.population.reasons import reason_of

#: An operation that vmap runs on parts of a tensor, which then have other memory than the tensor.
SET = "aten::set_.source_Tensor"
#: Where `buffers` hold the keys of random numbers and the update, int64 [P, 2].
DRAWS = "random draws"


class _Call(nn.Module):
    """`function(model, *args)` as a module, so that functional_call can hand it parameters."""

    def __init__(self, model: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(self.model, *args)


@dataclass(frozen=True, eq=False)
class _Work:
    """A function of one replica and what it is called with in all of them.

    Args:
        role: what it is to the population.
        one: takes the state of a replica and its batch.
        state: parameters and buffers [P, ...] by name.
        batch: see `StackedModules.call`.
        dims: see there.
        draws: keys of random numbers and the update, [P, 2]; None where nothing may draw.
    """

    role: str
    one: Callable[..., Any]
    state: dict[str, Tensor]
    batch: Batch
    dims: Any
    draws: Tensor | None


class StackedModules:
    """P modules of the same shapes: parameters as rows of `theta` [P, N], buffers as [P, ...] tensors.

    Functions of (model, batch) written for one replica run over all rows with `torch.func.vmap`; where vmap
    can't, they run in a loop over rows with the same result, and `loop_reasons` says why, by the function's role.
    Random numbers belong to a replica in both: under vmap they are those of `RandomRows`, in a loop those of torch's
    generator, seeded for the replica and the update.
    `slow_operations` names by role the operations that vmap itself runs row by row, `written` the parameters that a
    loss was seen to write into; `random_roles` are those that draw.

    Args:
        modules: the modules; the first is kept.
        dtype: of their parameters.
        device: where they go.
        order: parameters lie in theta by this number of their name, and then as the module has them.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        *,
        dtype: torch.dtype,
        device: torch.device,
        order: Callable[[str], int] = lambda _: 0,
    ) -> None:
        _check_parameters(modules[0])
        self.module = modules[0].to(device=device, dtype=dtype)
        self.loop_reasons: dict[str, str] = {}
        self.random_roles: set[str] = set()
        self._seen: set[str] = set()
        self.slow_operations: dict[str, set[str]] = {}
        self.written: dict[str, list[str]] = {}
        named = self.module.named_parameters, self.module.named_buffers
        self._tied = any(len(list(n())) != len(list(n(remove_duplicate=False))) for n in named)
        trainable = [(n, p) for n, p in self.module.named_parameters() if p.requires_grad]
        if not trainable:
            raise PopulationError("the model has no trainable parameters")
        trainable.sort(key=lambda named: order(named[0]))
        self.names = [name for name, _ in trainable]
        self.shapes = [p.shape for _, p in trainable]
        self.offsets = list(itertools.accumulate((p.numel() for _, p in trainable), initial=0))
        self._check_same_shapes(modules)
        every = [dict(m.named_parameters()) for m in modules]
        rows = [torch.cat([own[n].detach().flatten() for n in self.names]) for own in every]
        self.theta = torch.stack([row.to(device=device, dtype=dtype) for row in rows])
        self.fixed = self._stack_fixed(modules, dtype, device)
        self._buffers = {f"model.{n}" for n, _ in self.module.named_buffers()}

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
        return cut(flat, self.offsets, self.shapes)

    def changed_since(self, theta: Tensor) -> list[str]:
        """Return the names of the parameters that have other bits than in a copy of theta [P, N]."""
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[theta.element_size()]  # nan is nan, too
        views = (self.views(x.view(bits)) for x in (theta, self.theta))
        return [name for name, x, y in zip(self.names, *views, strict=True) if not torch.equal(x, y)]

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
            buffers: buffers [P, ...] by name, and `DRAWS`; None for `fixed`.
        """
        call = _Call(self.module, function)
        leaves = self.views(self.theta) if leaves is None else leaves
        state = {f"model.{n}": x for n, x in zip(self.names, leaves, strict=True)}
        buffers = dict(self.fixed if buffers is None else buffers)
        draws = buffers.pop(DRAWS, None)
        state |= {f"model.{n}": x for n, x in buffers.items()}

        def one(state: dict[str, Tensor], batch: Batch) -> Any:
            given = dict(state)
            output = functional_call(call, state, (batch,), tie_weights=self._tied)
            for name, x in given.items():
                if state.get(name) is x:
                    continue
                if name not in self._buffers:
                    raise PopulationError(
                        f"the {role} assigns parameter {name.removeprefix('model.')!r} anew, which an optimizer would"
                        " not know; use the new tensor where it is needed, or write into the parameter"
                    )
                x.copy_(state[name].detach())  # assigned (self.n = self.n + 1) rather than written into
            return output

        work = _Work(role, one, state, batch, dims, draws)
        if role not in self._seen:
            self._seen.add(role)
            with without_surprises(f"the model or its {role}", lambda: role not in self.loop_reasons):
                return self._called(work)
        return self._called(work)

    def _called(self, work: _Work) -> Any:
        role = work.role
        if role not in self.loop_reasons:
            first, found = role not in self.slow_operations, self.slow_operations.setdefault(role, set())
            try:
                with noting_slow(role, found) if first or found else nullcontext():
                    output = self._vmapped(work)
                if SET not in found:
                    return output
                self.loop_reasons[role] = f"{SET} gives a tensor other memory"
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise  # no limit of vmap: a loop would only hide it
                self.loop_reasons[role] = reason_of(error)
        return self._loop(work)

    def _vmapped(self, work: _Work) -> Any:
        role, draws, axes = work.role, work.draws, (0, work.dims)
        if role not in self.random_roles:
            try:
                return vmap(work.one, in_dims=axes)(work.state, work.batch)
            except RuntimeError as error:
                if draws is None or "random operation" not in str(error):
                    raise
                self.random_roles.add(role)
        assert draws is not None
        with RandomRows(draws[:, 0], draws[0, 1]):
            return vmap(work.one, in_dims=axes, randomness="different")(work.state, work.batch)

    def _loop(self, work: _Work) -> Any:
        outputs = []
        for p in range(len(next(iter(work.state.values())))):
            row, part = {name: x[p] for name, x in work.state.items()}, _part(work.batch, work.dims, p)
            places = {name: (x, x.data_ptr()) for name, x in row.items()}
            outputs.append(self._alone(work.role, work.one, row, part, None if work.draws is None else work.draws[p]))
            for name, (x, place) in places.items():
                if x.data_ptr() != place:  # given other memory (x.data = ...)
                    work.state[name].data[p].copy_(x.detach())
        return pytree.tree_map(lambda *xs: torch.stack(xs), *outputs)

    def _alone(
        self, role: str, one: Callable[..., Any], row: dict[str, Tensor], part: Batch, draw: Tensor | None
    ) -> Any:
        """Run a function of one replica; once it has been seen to draw, its numbers are those that vmap would give."""
        if draw is None:
            return one(row, part)
        key, t = draw.tolist()
        if role not in self.random_roles:
            with seeded_for(key, t, self.theta.device) as drawn:
                output = one(row, part)
            if not drawn():
                return output
            self.random_roles.add(role)
        with seeded_for(key, t, self.theta.device), RandomRows(draw[:1], draw[1], alone=True):
            return one(row, part)

    def named_rows(self, p: int) -> Iterator[tuple[str, Tensor]]:
        """Yield parameters and buffers of replica p by name, as a state dict of the original module holds them."""
        for name, view in zip(self.names, self.views(self.theta), strict=True):
            yield name, view[p]
        for name, x in self.fixed.items():
            yield name, x[p]


def cut(flat: Tensor, offsets: Sequence[int], shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Cut a flat [P, N] tensor at its offsets, one more than shapes: views of shape [P, *shape]."""
    bounds = itertools.pairwise(offsets)
    return [flat[:, a:b].view(len(flat), *shape) for (a, b), shape in zip(bounds, shapes, strict=True)]


def _part(batch: Batch, dims: Any, p: int) -> Batch:
    """Return what replica p gets of a batch, see `StackedModules.call`."""
    if dims is None:
        return batch
    if isinstance(dims, tuple):
        return tuple(_part(x, d, p) for x, d in zip(batch, dims, strict=True))
    return pytree.tree_map(lambda x: x[p], batch)


def _check_parameters(module: nn.Module) -> None:
    for name, p in module.named_parameters():
        if p.is_meta:
            raise PopulationError(f"parameter {name!r} is on the device meta and holds no numbers; make it on the CPU")
        if not p.numel():
            raise PopulationError(f"parameter {name!r} is empty, of shape {tuple(p.shape)}; leave its layer out")
        if p.is_complex():
            raise PopulationError(f"parameter {name!r} is complex; keep its real and imaginary part as two")
