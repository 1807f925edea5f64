"""The norm of a gradient over all its tensors and all ranks, and how many numbers it has.

Squares are summed in float64 and the norm is rounded to the 24 bits of float32, whatever its size: in whatever order
and on however many ranks they are summed, the same norm comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from gradnoise.noise.gaussian import is_plain, square_sum
from gradnoise.noise.gradients import Rows, Stream, part_of, resolved

DROPPED = 29
"""Bits by which the significand of float64 is longer than that of float32."""


def count(streams: Iterable[Stream], rows: Rows) -> int:
    """Return N, how many elements of gradients get noise, of DTensors over all ranks; a complex number is one."""
    total = 0
    for stream in streams:
        grad = stream.parameter.grad
        if grad is not None:
            sparse = grad.layout == torch.sparse_coo
            total += resolved(grad, rows)._values().numel() if sparse else grad.numel()
    return total


@torch.no_grad()
def norm(streams: Sequence[Stream]) -> Tensor:
    """Return the L2 norm of the gradients of parameters together, of DTensors over all ranks.

    Under a process group every rank has to call it; one reduction for each mesh.

    Returns:
        0-dim, float64 rounded to 24 bits, on the device of the first gradient; nothing is waited for.
    """
    plain: list[Any] = [stream.parameter.grad for stream in streams if stream.parameter.grad is not None]
    if plain and is_plain(plain):  # nearly always
        return _root(square_sum(plain))
    pieces: dict[tuple[Any, tuple[int, ...]], dict[torch.device, list[Tensor]]] = {}
    for stream in streams:
        if (grad := stream.parameter.grad) is None:
            continue
        key = _shared_among(grad)
        if grad.layout == torch.sparse_coo:
            grad = grad.coalesce()
        x = part_of(grad.resolve_conj(), stream.name, stream.key).x
        pieces.setdefault(key, {}).setdefault(x.device, []).append(x)
    total: Tensor | None = None
    for (mesh, dims), by_device in pieces.items():  # in the order of parameters, which is that of all ranks
        squares = [square_sum(xs) for xs in by_device.values()]
        square = torch.stack([s.to(squares[0].device) for s in squares]).sum()
        for dim in dims:
            torch.distributed.all_reduce(square, group=mesh.get_group(dim))
        total = square if total is None else total + square.to(total.device)
    return torch.zeros((), dtype=torch.float64, device="cpu") if total is None else _root(total)


def _root(square: Tensor) -> Tensor:
    root = square.sqrt()
    if root.dtype != torch.float64:
        return root
    bits = root.view(torch.int64)  # as float32 would round, without its range
    even = bits >> DROPPED & 1
    return (bits + even + ((1 << DROPPED - 1) - 1) >> DROPPED << DROPPED).view(torch.float64)


def _shared_among(grad: Tensor) -> tuple[Any, tuple[int, ...]]:
    """Return the mesh of a DTensor and those of its dimensions along which it is cut; (None, ()) for other tensors."""
    placements = getattr(grad, "placements", None)
    if placements is None:
        return None, ()
    return getattr(grad, "device_mesh", None), tuple(i for i, p in enumerate(placements) if not p.is_replicate())
