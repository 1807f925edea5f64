"""Which parameters get gradient noise, where patterns of their names say so."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradnoise.errors import PopulationError, nearest
from gradnoise.population.patterns import idle, named
from gradnoise.population.replica import Replica
from gradnoise.population.training import NOT
from gradnoise.population.turns import Turn


class Run(NamedTuple):
    """Parameters side by side that get noise in the same rows: the first, the last and one more, and their columns."""

    first: int
    end: int
    start: int
    stop: int


@dataclass(frozen=True)
class Noisy:
    """Where rows get noise.

    Args:
        runs: of parameters.
        spans: columns of each parameter.
        rows: float64 [R, P], 1 where a row gets noise on the parameters of a run, else 0.
        each: float64 [S, P], the same for each parameter.
        size: float64 [P], elements of each row that get noise.
    """

    runs: tuple[Run, ...]
    spans: tuple[tuple[int, int], ...]
    rows: Tensor
    each: Tensor
    size: Tensor

    def norms(self, g: Tensor) -> Tensor:
        """Return the norm of what gets noise of each row: g [P, N] -> [P] in float64.

        It is summed by parameters, which are the same in any company; runs are not.
        """
        squares = [torch.linalg.vector_norm(g[:, a:b], dim=1).to(torch.float64).square() for a, b in self.spans]
        return (torch.stack(squares) * self.each).nan_to_num(nan=torch.inf).sum(0).sqrt()


pytree.register_pytree_node(
    Noisy,
    lambda noisy: ([noisy.rows, noisy.each, noisy.size], (noisy.runs, noisy.spans)),
    lambda values, context: Noisy(*context, *values),
    serialized_type_name=f"{__name__}.Noisy",
)


def has_noise(noise_on: str | tuple[str, ...], name: str) -> bool:
    """Say whether a parameter gets noise: a pattern names it, or all of them are exceptions, and no exception does."""
    if isinstance(noise_on, str):
        return True
    wanted = [p for p in noise_on if not p.startswith(NOT)]
    excepted = [p.removeprefix(NOT) for p in noise_on if p.startswith(NOT)]
    return not named(name, excepted) and (not wanted or named(name, wanted))


def check_noise_on(replicas: Sequence[Replica], names: Sequence[str], turns: Sequence[Turn]) -> None:
    """Refuse patterns that name none of a model's parameters, or leave none of a turn that has noise with it.

    Raises:
        PopulationError: they do.
    """
    for noise_on in dict.fromkeys(r.training.noise_on for r in replicas):
        if isinstance(noise_on, str):
            continue
        if (pattern := idle([p.removeprefix(NOT) for p in noise_on], names)) is not None:
            raise PopulationError(
                f"noise_on has the pattern {pattern if pattern in noise_on else NOT + pattern!r}, and no parameter is"
                f" called so{nearest(pattern, names)}; there are {', '.join(names)}"
            )
        if not any(has_noise(noise_on, name) for name in names):
            raise PopulationError(f"noise_on = {noise_on!r} leaves no parameter with noise")
    for turn in turns:
        own = [name for name in names if turn.has(name)]
        noises = (r.during(turn).training for r in replicas)
        for noise_on in dict.fromkeys(training.noise_on for training in noises if training.noise is not None):
            if not any(has_noise(noise_on, name) for name in own):
                others = " and ".join(repr(other.name) for other in turns if other is not turn)
                raise PopulationError(
                    f"noise_on = {noise_on!r} leaves no parameter of turn {turn.name!r} with noise; where that is"
                    f" meant, give the noise to {others} alone, as noise={{name of a turn: schedule}}"
                )


def noisy(
    replicas: Sequence[Replica], names: Sequence[str], offsets: Sequence[int], device: torch.device
) -> Noisy | None:
    """Return where rows get noise; None for everywhere.

    Args:
        replicas: the rows.
        names: of the parameters.
        offsets: where they lie in a row, [S + 1].
        device: of the rows.
    """
    each = [tuple(has_noise(r.training.noise_on, name) for r in replicas) for name in names]
    if all(map(all, each)):
        return None
    runs, rows = [], []
    for row, members in itertools.groupby(range(len(names)), key=each.__getitem__):
        first, *rest = members
        end = first + len(rest) + 1
        runs.append(Run(first, end, offsets[first], offsets[end]))
        rows.append(row)
    table = torch.tensor(rows, dtype=torch.float64)
    sizes = torch.tensor([run.stop - run.start for run in runs], dtype=torch.float64)
    spans = tuple(itertools.pairwise(offsets))
    parameters = torch.tensor(each, dtype=torch.float64)
    return Noisy(tuple(runs), spans, table.to(device), parameters.to(device), (sizes @ table).to(device))
