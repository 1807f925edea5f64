"""What a gradient is made of: the parts of memory that noise goes onto, and where they stand in the stream.

Noise belongs to an element of the parameter, whatever its gradient's storage: dense with any strides, a
DTensor's shard, the rows of a sparse gradient, the two reals of a complex number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from gradnoise.noise.gaussian import Part, add_parts_, add_whole_, stream_key

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Placement

Rows: TypeAlias = Literal["present", "all"]
"""Rows of a sparse gradient that get noise: those that are present, or all, which makes all of them present."""


class Stream(NamedTuple):
    """A parameter and the noise stream of its gradient."""

    parameter: Tensor
    name: str
    key: int
    trained: bool = True
    """Whether it is a model's parameter, or has required a gradient: then it gets no noise while it requires none."""

    @classmethod
    def of(cls, p: Tensor, name: str, seed: int) -> Stream:
        """Return the stream that a parameter's name and the seed decide."""
        if getattr(p, "_fsdp_flattened", False):
            raise NotImplementedError(
                f"parameter {name!r} belongs to FullyShardedDataParallel (FSDP1), whose shards do not tell their"
                " place in the parameter; use torch.distributed.fsdp.fully_shard (FSDP2)"
            )
        return cls(p, name, stream_key(seed, name), p.requires_grad or isinstance(p, torch.nn.Parameter))


def check_rows(rows: str) -> None:
    """Refuse what is not a choice of rows."""
    if rows not in ("present", "all"):
        raise ValueError(f"rows must be 'present' or 'all', got {rows!r}")


def refuse_shared(streams: Sequence[Stream]) -> None:
    """Refuse gradients that are one tensor, or begin in the same memory: it would get the noise of each parameter.

    Raises:
        ValueError: two parameters share one.
    """
    seen: dict[tuple[str, int], str] = {}
    for stream in streams:
        grad = stream.parameter.grad
        plain = type(grad) is Tensor and grad.layout == torch.strided and grad.numel()
        place = ("memory", grad.data_ptr()) if plain else ("object", id(grad))  # pyright: ignore[reportOptionalMemberAccess]
        other = seen.setdefault(place, stream.name)
        if other != stream.name:
            raise ValueError(
                f"parameters {other!r} and {stream.name!r} share one gradient tensor, which would get noise twice; give"
                " each a gradient of its own (p.grad = p.grad.clone()), or leave one out with `where`"
            )


def add_noise_(
    streams: Sequence[Stream],
    gradients: Sequence[Any],
    t: int,
    sigma_t: float,
    rows: Rows = "present",
    scale: Tensor | None = None,
) -> bool:
    """Add noise to the gradients of parameters, each given with its name and key.

    Args:
        streams: where noise goes and which.
        gradients: those of the streams' parameters, which are slow to ask for.
        t: update.
        sigma_t: standard deviation of the noise; 0 touches nothing.
        rows: of sparse gradients.
        scale: loss scale that the gradients still carry, a 0-dim tensor.

    Returns:
        Whether gradients were replaced by others: sparse ones by coalesced ones.
    """
    if sigma_t == 0:
        return False
    keys = tuple([stream.key for stream in streams])
    if gradients and add_whole_(gradients, keys, t=t, sigma=sigma_t, scale=scale):  # nearly always
        return False
    reals: list[Part] = []
    halves: list[Part] = []
    replaced = False
    for p, name, key, _ in streams:
        grad = p.grad
        if grad is None:
            continue
        if type(grad) is Tensor and grad.layout is torch.strided and grad.dtype.is_floating_point:
            reals.append(Part(grad, key))
            continue
        if grad.layout == torch.sparse_coo or grad.is_conj():
            p.grad = grad = resolved(grad, rows)
            replaced = True
        (halves if grad.is_complex() else reals).append(part_of(grad, name, key))
    if reals:
        add_parts_(reals, t=t, sigma=sigma_t, scale=scale)
    if halves:  # of complex numbers: sigma^2 is the variance of both together
        add_parts_(halves, t=t, sigma=sigma_t / math.sqrt(2), scale=scale)
    return replaced


def part_of(grad: Tensor, name: str, key: int) -> Part:
    """Return the part of the stream that a gradient's memory holds; a complex number is two elements.

    Raises:
        NotImplementedError: the gradient is of a kind that noise has no meaning for.
    """
    first: Tensor | None = None
    if type(grad) is not Tensor and type(grad) is not torch.nn.Parameter:
        grad, first = _local(grad, name)
    if grad.layout == torch.sparse_coo:
        grad, first = grad.values(), _row_starts(grad)
    if grad.layout != torch.strided or not (grad.dtype.is_floating_point or grad.is_complex()):
        raise NotImplementedError(
            f"the gradient of {name!r} is {grad.dtype} with layout {grad.layout}; noise goes onto real and complex"
            " floating-point gradients that are dense or sparse COO; leave this parameter out with `where`"
        )
    if grad.is_complex():
        return Part(torch.view_as_real(grad), key, None if first is None else 2 * first)
    return Part(grad, key, first)


def resolved(grad: Tensor, rows: Rows) -> Tensor:
    """Return a sparse gradient without repeated rows, which would get noise twice; resolve a lazy conjugate."""
    if grad.layout != torch.sparse_coo:
        return grad.resolve_conj()
    if rows == "all":
        lead = grad.shape[: grad.sparse_dim()]
        indices = torch.ones(lead, device=grad.device).nonzero().T
        zeros = grad._values().new_zeros(indices.shape[1], *grad.shape[grad.sparse_dim() :])
        grad = grad + torch.sparse_coo_tensor(indices, zeros, grad.shape, check_invariants=False)
    return grad.coalesce()


def _row_starts(grad: Tensor) -> Tensor:
    """Return where each row of a coalesced sparse gradient begins in the dense one."""
    place = torch.zeros_like(grad.indices()[0])
    for index, size in zip(grad.indices(), grad.shape, strict=False):
        place = place * size + index
    return place * math.prod(grad.shape[grad.sparse_dim() :])


def _local(grad: Tensor, name: str) -> tuple[Tensor, Tensor | None]:
    """Return this rank's piece of a DTensor, and where its runs begin in the whole."""
    from torch.distributed._functional_collectives import AsyncCollectiveTensor
    from torch.distributed.tensor import DTensor

    if not isinstance(grad, DTensor):
        raise NotImplementedError(
            f"the gradient of {name!r} is a {type(grad).__name__}, a kind of tensor that noise is not defined for;"
            " leave this parameter out with `where`"
        )
    if any(placement.is_partial() for placement in grad.placements):
        raise NotImplementedError(
            f"the gradient of {name!r} is a DTensor that is not reduced yet (placements {grad.placements});"
            " redistribute it before the step"
        )
    with torch.no_grad():
        local = grad.to_local()
    if isinstance(local, AsyncCollectiveTensor):
        local = local.wait()  # the collective that makes it may be under way
    if not local.numel():
        return local, torch.zeros(0, dtype=torch.int64, device="cpu")
    shape, first = _place(grad.shape, grad.device_mesh, grad.placements)
    if type(local) is not Tensor or local.shape != shape:
        raise NotImplementedError(
            f"the gradient of {name!r} is a DTensor whose piece on this rank is a {type(local).__name__} of shape"
            f" {list(local.shape)}, where placements {grad.placements} make a Tensor of shape {list(shape)}; leave"
            " this parameter out with `where`"
        )
    return local, first


@functools.lru_cache(maxsize=4096)
def _place(
    whole: tuple[int, ...], mesh: DeviceMesh, placements: tuple[Placement, ...]
) -> tuple[tuple[int, ...], Tensor | None]:
    """Return the shape of this rank's piece of a DTensor and where its runs begin; indices are cut like it."""
    indices = [torch.arange(size, device="cpu") for size in whole]
    for placement, ranks, rank in zip(placements, mesh.shape, mesh.get_coordinate() or (), strict=True):
        if (dim := getattr(placement, "dim", None)) is not None:
            # FSDP2 over tensor parallelism cuts each of `split_factor` blocks, not the whole.
            blocks = indices[dim].chunk(getattr(placement, "split_factor", 1))
            indices[dim] = torch.cat([_chunk(block, ranks, rank) for block in blocks])
    return tuple(map(len, indices)), runs(indices, whole)


def _chunk(x: Tensor, count: int, i: int) -> Tensor:
    chunks = x.chunk(count)
    return chunks[i] if i < len(chunks) else x[:0]


def runs(indices: Sequence[Tensor], whole: tuple[int, ...]) -> Tensor | None:
    """Return where the runs of a block begin in the row-major order of the whole tensor.

    Args:
        indices: for each dimension those that the block has, ascending.
        whole: shape of the whole.

    Returns:
        int64 [R], or None where the block is the whole.
    """
    shape = tuple(map(len, indices))
    if shape == whole:
        return None
    if 0 in shape:
        return torch.zeros(0, dtype=torch.int64, device="cpu")
    d = len(shape) - 1  # from dimension d on the block is one run
    while d > 0 and shape[d] == whole[d]:
        d -= 1
    if indices[d][-1] - indices[d][0] >= shape[d]:
        d += 1
    first = torch.zeros(1, dtype=torch.int64, device="cpu")
    for i, index in enumerate(indices):
        begin = index if i < d else index[:1]
        first = (first[:, None] + begin * math.prod(whole[i + 1 :])).flatten()
    return first
