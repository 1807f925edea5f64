"""What two ranks tell each other of their parameters and noise, and what is wrong with it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradnoise.noise.gradients import Stream

FEW = 8
"""Elements of a parameter that tell it from another one."""


class Told(NamedTuple):
    """A parameter: the group it is in, whether it gets noise, and what tells it from other parameters.

    `mark` is a number that others are unlikely to have, of DTensors a text of their place in the whole. `common` is
    one whose first elements are all equal, as those of new biases are.
    """

    group: int
    noisy: bool
    size: int
    mark: float | str
    common: bool

    @property
    def body(self) -> tuple[int, float | str, bool]:
        """Return what is the same on two ranks that hold the same parameter."""
        return self[2:]


class Round(NamedTuple):
    """Settings in one update that ranks with equal parameters have alike, and the strength of each group's noise."""

    settings: dict[str, Any]
    strengths: list[float]


def same_noise_elsewhere(mine: Mapping[str, Told], theirs: Mapping[str, Told]) -> str | None:
    """Return the key of a stream that two ranks add to parameters of which each has its own."""
    for key, here in mine.items():
        there = theirs.get(key, here)
        numbers = isinstance(here.mark, float) and isinstance(there.mark, float)
        if numbers and here.noisy and there.noisy and here.body != there.body:
            return key
    return None


def shared(mine: Mapping[str, Told], theirs: Mapping[str, Told]) -> list[str]:
    """Return the keys of parameters that are the same on two ranks, with or without noise."""
    return [key for key, here in mine.items() if key in theirs and here.body == theirs[key].body]


def other_streams(mine: Mapping[str, Told], theirs: Mapping[str, Told]) -> bool:
    """Tell whether two ranks add noise of other streams to the same parameters."""
    here = [told.body for key, told in mine.items() if told.noisy and key not in theirs]
    there = [told.body for key, told in theirs.items() if told.noisy and key not in mine]
    if here == there:
        return bool(here)
    rare = [Counter(body for body in bodies if not body[2] and isinstance(body[1], float)) for bodies in (here, there)]
    return all(rare) and (rare[0] <= rare[1] or rare[1] <= rare[0])


def differing(mine: Round, theirs: Round, groups: Iterable[tuple[int, int]]) -> str | None:
    """Return what is not the same in an update of two ranks.

    Args:
        mine: settings and strengths here.
        theirs: those there.
        groups: indices of groups, here and there, that have parameters in common.
    """
    for name, value in mine.settings.items():
        if (other := theirs.settings.get(name)) != value:
            return f"{name} is {value!r} here and {other!r} there"
    for i, j in sorted(groups):
        a, b = mine.strengths[i], theirs.strengths[j]
        if not math.isclose(a, b, rel_tol=1e-9):
            return f"sigma is {a:.6g} here and {b:.6g} there, at t = {mine.settings['t']} in group {i}"
    return None


def told(streams: Sequence[tuple[int, Stream]], noisy: frozenset[int]) -> dict[str, Told]:
    """Return what to tell of parameters, by the keys of their streams.

    Args:
        streams: with the indices of their groups.
        noisy: keys of those that get noise.
    """
    plain = [s for _, s in streams if type(s.parameter) in (Tensor, torch.nn.Parameter) and s.parameter.numel()]
    marks = dict(zip([s.key for s in plain], _marks(plain), strict=True)) if plain else {}
    meshes: dict[Any, list[int]] = {}
    for _, s in streams:
        if (mesh := getattr(s.parameter, "device_mesh", None)) is not None:
            ranks = meshes.setdefault(mesh, mesh.mesh.tolist())
            place = f"{list(s.parameter.shape)} {getattr(s.parameter, 'placements', ())} {ranks}"
            marks[s.key] = hashlib.blake2b(place.encode(), digest_size=8).hexdigest(), False
    there = [(i, s) for i, s in streams if s.key in marks]
    return {str(s.key): Told(i, s.key in noisy, s.parameter.numel(), *marks[s.key]) for i, s in there}


@torch.no_grad()
def _marks(streams: Sequence[Stream]) -> list[tuple[float | str, bool]]:
    """Return marks of parameters, and whether they are common; one copy off a device."""
    device = streams[0].parameter.device
    firsts = _on_cpu([s.parameter.detach().flatten()[:FEW] for s in streams], device)
    weights = torch.arange(1, FEW + 1, dtype=torch.float64, device="cpu")
    padded = torch.zeros(len(firsts), FEW, dtype=torch.float64, device="cpu")
    for row, first in zip(padded, firsts, strict=True):
        row[: len(first)] = first
    common = [bool((first == first[0]).all()) for first in firsts]
    return list(zip((padded @ weights).tolist(), common, strict=True))


def _on_cpu(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    if device.type == "cpu":
        return [_real(x).double().cpu() for x in tensors]
    sizes = [len(_real(x)) for x in tensors]
    return list(torch.cat([_real(x).float().to(device) for x in tensors]).cpu().double().split(sizes))


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()).flatten()[:FEW] if x.is_complex() else x
