"""Refuse inputs that no machine can run on, before it starts."""

from __future__ import annotations

import torch
from torch import Tensor

from gradnoise.errors import PopulationError

#: How far the sum of a distribution may be from 1.
TOLERANCE = 1e-4


def check_integers(memory: Tensor, cells: int) -> None:
    """Check a memory of integers [..., M].

    Raises:
        PopulationError: it is not of an integer type, of another length, or holds something outside 0..M - 1.
    """
    if memory.dtype.is_floating_point or memory.dtype.is_complex or memory.dtype == torch.bool:
        raise PopulationError(f"memory holds {memory.dtype}; the cells of a problem are integers")
    if memory.shape[-1] != cells:
        raise PopulationError(f"memory has {memory.shape[-1]} cells; this machine has M = {cells}")
    if memory.numel() and not 0 <= memory.min() <= memory.max() < cells:
        raise PopulationError(
            f"memory holds {memory.min()}..{memory.max()}; with M = {cells} cells values are 0..{cells - 1}"
        )


def check_distributions(x: Tensor) -> None:
    """Check distributions [..., M], such as the rows of a soft memory.

    Raises:
        PopulationError: one has a negative or nan entry, or a sum that is not 1.
    """
    if not x.dtype.is_floating_point:
        raise PopulationError(f"distributions are of a floating type, not {x.dtype}")
    if x.isnan().any() or (x < 0).any():
        raise PopulationError("a distribution has negative or nan entries; probabilities are >= 0")
    if (off := (x.sum(-1) - 1).abs().max()) > TOLERANCE:
        raise PopulationError(f"a distribution sums to 1 only within {off:.2g}; divide it by its sum")


def check_list(memory: Tensor) -> None:
    """Check one ListK problem [M]: head, hops, out, nodes.

    Raises:
        PopulationError: a pointer leaves the nodes, the chain runs in a circle, or there are not so many hops.
    """
    check_integers(memory, memory.shape[-1])
    cells = memory.tolist()
    seen: list[int] = []
    node = cells[0]
    while node:
        if not (3 <= node < len(cells) - 1 and node % 2 == 1):
            raise PopulationError(
                f"pointer {node} is no node: nodes lie at odd addresses 3..{(len(cells) - 3) // 2 * 2 + 1}"
            )
        if node in seen:
            raise PopulationError(f"the list runs in a circle: node {node} comes twice")
        seen.append(node)
        node = cells[node]
    if not cells[1] < len(seen):
        raise PopulationError(f"k = {cells[1]} hops in a list of {len(seen)} nodes: k is 0..{len(seen) - 1}")


def check_precision(dtype: torch.dtype) -> None:
    """Check that numbers are exact enough for pointers that pass through hundreds of mixtures.

    Raises:
        PopulationError: parameters are neither float32 nor float64, or torch rounds products of matrices further.
    """
    if dtype not in (torch.float32, torch.float64):
        raise PopulationError(f"parameters are {dtype}; this machine needs float32 or float64")
    if (setting := torch.get_float32_matmul_precision()) != "highest":
        raise PopulationError(
            f"torch.set_float32_matmul_precision({setting!r}) blurs pointers; this machine needs 'highest'"
        )
