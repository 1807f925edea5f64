"""What an update needs to know of each row, as tensors: thresholds, noise keys, and tables over the coming updates.

Learning rates and schedules are callables of the user's; they are called on the host, for many updates at a time, so
that the update itself reads tensors only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradnoise.noise.gaussian import stream_key
from gradnoise.noise.schedule import Relative, Schedule, sigma, until_share
from gradnoise.population.noisy import Noisy, noisy
from gradnoise.population.randomness import NOISE, WEIGHT_NOISE
from gradnoise.population.replica import Replica

#: Updates that a table covers.
LENGTH = 64


@dataclass(frozen=True)
class RowConstants:
    """Constants of P rows for updates first .. first + K - 1.

    Args:
        first: the first update, 0-dim int64.
        lr: learning rates [K, P].
        limit: clip thresholds [P], inf for none; None where no row is clipped.
        offsets: int64 [S + 1], where the parameters lie in a row, on the host.
        noise_keys: uint64 [P, S], streams of the gradient noise.
        nonzero_only: bool [P], rows whose gradient noise leaves zeros of the gradient alone; None for no such row.
        before_clip, after_clip: sigma_t [K, P] in float64 of the noise before and after the clip; None for no noise.
            Where noise is `relative` it is the ratio rho_t instead.
        undone_before, undone_after: likewise of the noise of the update before, for rows that take it away again.
        anti_before, anti_after: bool [P], these rows; None for no such row.
        relative: float64 [P], what the noise is relative to: inf for the gradient, the threshold for the clip, 0 for
            noise that is not; None where no row's is.
        share: float64 [P], the noise of a row ends when it is under this share of the gradient; 0 for rows whose noise
            does not; None for no such row.
        weight_keys: uint64 [P, S], streams of the noise on the weights; None where no row has any.
        weights: sigma_t [K, P] of it; None for none.
        noisy: which parameters get gradient noise; None where all do in every row.
    """

    first: Tensor
    lr: Tensor
    limit: Tensor | None
    offsets: Tensor
    noise_keys: Tensor
    nonzero_only: Tensor | None
    before_clip: Tensor | None
    after_clip: Tensor | None
    undone_before: Tensor | None
    undone_after: Tensor | None
    anti_before: Tensor | None
    anti_after: Tensor | None
    relative: Tensor | None
    share: Tensor | None
    weight_keys: Tensor | None
    weights: Tensor | None
    noisy: Noisy | None

    def at(self, table: Tensor, t: Tensor) -> Tensor:
        """Return the row [P] of a table that belongs to update t, without reading t on the host."""
        return table.index_select(0, (t - self.first).reshape(1))[0]


pytree.register_pytree_node(
    RowConstants,
    lambda rows: (list(vars(rows).values()), None),
    lambda values, _: RowConstants(*values),
    serialized_type_name=f"{__name__}.RowConstants",
)


class Tables:
    """Makes `RowConstants` for the replicas that are alive, and anew when their updates run out.

    Args:
        replicas: those alive, in the order of the rows.
        names: of the parameters.
        offsets: where they lie in a row, [S + 1].
        like: a tensor with the dtype and device of the parameters.
    """

    def __init__(self, replicas: Sequence[Replica], names: Sequence[str], offsets: Sequence[int], like: Tensor) -> None:
        self._replicas, self._names, self._like = replicas, names, like
        self._offsets = torch.tensor(offsets, dtype=torch.int64)
        limits = [math.inf if r.training.clip is None else r.training.clip for r in replicas]
        clips = any(limit != math.inf for limit in limits)
        self._limit = torch.tensor(limits, dtype=like.dtype, device=like.device) if clips else None
        self._noise_keys = self._keys(NOISE)
        noisy_weights = any(r.training.weight_noise is not None for r in replicas)
        self._weight_keys = self._keys(WEIGHT_NOISE) if noisy_weights else None
        nonzero = [r.training.noise_on == "nonzero" for r in replicas]
        self._nonzero_only = torch.tensor(nonzero, device=like.device) if any(nonzero) else None
        self._noisy = noisy(replicas, names, offsets, like.device)
        relative = [_reference(r.training.noise) for r in replicas]
        shares = [0.0 if r.training.noise is None else until_share(r.training.noise) or 0.0 for r in replicas]
        self._relative = self._table(torch.tensor(relative, dtype=torch.float64))
        self._share = self._table(torch.tensor(shares, dtype=torch.float64))
        self._first = -1
        self._constants: RowConstants | None = None

    def noisy_sizes(self) -> list[float]:
        """Return how many elements of each row may get gradient noise."""
        if self._noisy is None:
            return [float(self._offsets[-1])] * len(self._replicas)
        return self._noisy.size.tolist()

    def at(self, t: int) -> RowConstants:
        """Return constants that cover update t.

        Raises:
            PopulationError: a learning rate of update t is out of range.
            ValueError: a schedule of noise returned no variance.
        """
        if self._constants is None or not self._first <= t < self._first + len(self._constants.lr):
            self._first, self._constants = t, self._made(t)
        return self._constants

    def _made(self, t: int) -> RowConstants:
        rates, noise, undone, weights = zip(*self._coming(t), strict=True)
        first = torch.tensor([r.training.noise_first for r in self._replicas])
        anti = torch.tensor([r.training.anti_pgd for r in self._replicas])
        sigmas = torch.tensor(noise, dtype=torch.float64)
        gone = torch.where(anti, torch.tensor(undone, dtype=torch.float64), 0)
        device = self._like.device
        return RowConstants(
            first=torch.tensor(t, dtype=torch.int64, device=device),
            lr=torch.tensor(rates, dtype=self._like.dtype, device=device),
            limit=self._limit,
            offsets=self._offsets,
            noise_keys=self._noise_keys,
            nonzero_only=self._nonzero_only,
            before_clip=self._table(torch.where(first, sigmas, 0)),
            after_clip=self._table(torch.where(first, 0, sigmas)),
            undone_before=self._table(torch.where(first, gone, 0)),
            undone_after=self._table(torch.where(first, 0, gone)),
            anti_before=self._table(anti & first),
            anti_after=self._table(anti & ~first),
            relative=self._relative,
            share=self._share,
            weight_keys=self._weight_keys,
            weights=self._table(torch.tensor(weights, dtype=torch.float64)),
            noisy=self._noisy,
        )

    def _coming(self, t: int) -> Iterator[tuple[list[float], list[float], list[float], list[float]]]:
        """Yield rates, sigma_t and sigma_{t-1} of noise on gradients, and sigma_t of that on weights, from t on.

        It ends before the first update whose values are out of range: the run may end before that, too.
        """
        for k in range(t, t + LENGTH):
            known: dict[int, float] = {}  # one call for all rows that have the same schedule
            before: dict[int, float] = {}
            try:
                yield (
                    [r.training.rate(k) for r in self._replicas],
                    [_sigma(r.training.noise, k, known) for r in self._replicas],
                    [
                        _sigma(r.training.noise, k - 1, before) if r.training.anti_pgd and k else 0.0
                        for r in self._replicas
                    ],
                    [_sigma(r.training.weight_noise, k, known) for r in self._replicas],
                )
            except Exception:  # whatever a user's schedule raises
                if k == t:
                    raise
                return

    def _table(self, sigmas: Tensor) -> Tensor | None:
        return sigmas.to(self._like.device) if sigmas.any() else None

    def _keys(self, purpose: str) -> Tensor:
        seeds = [r.seed_for(purpose) for r in self._replicas]
        keys = [[stream_key(seed, name) for name in self._names] for seed in seeds]
        return torch.tensor(keys, dtype=torch.uint64, device=self._like.device)


def _sigma(schedule: Schedule | None, t: int, known: dict[int, float]) -> float:
    """Return sigma_t of a schedule, or the ratio of one that is relative."""
    if schedule is None:
        return 0.0
    if id(schedule) not in known:
        known[id(schedule)] = schedule.ratio(t) if isinstance(schedule, Relative) else sigma(schedule, t)
    return known[id(schedule)]


def _reference(schedule: Schedule | None) -> float:
    """Return what noise is relative to, see `RowConstants`."""
    if not isinstance(schedule, Relative):
        return 0.0
    return math.inf if schedule.clip is None else schedule.clip
