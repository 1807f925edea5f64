"""Minibatches of a whole population: one for each distinct seed, placed, cast and put together once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakTensorKeyDictionary

from gradnoise.errors import PopulationError
from gradnoise.population.course import Batch, State
from gradnoise.population.draws import Draws
from gradnoise.population.experiment import Experiment
from gradnoise.population.minibatches import Examples, converted, fetch, fetched
from gradnoise.population.purity import Guard
from gradnoise.population.randomness import BATCHES
from gradnoise.population.replica import Replica


class Feed:
    """Makes the minibatch of an update for the replicas that are alive.

    Replicas of one seed share their minibatch; where all do, it has no replica axis.

    Args:
        experiment: where minibatches come from.
        config: what the replicas agree on.
        device, dtype: where minibatches are wanted, and the precision of their floating-point tensors.
    """

    def __init__(self, experiment: Experiment, config: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._experiment, self._config, self._device, self._dtype = experiment, config, device, dtype
        self._generates = experiment.course is not None and experiment.course.generates
        self._placed = WeakTensorKeyDictionary()  # a data set's tensor -> where it now is
        self._held_out: Batch = None
        self._guard = Guard(experiment.name)

    def select(self, replicas: Sequence[Replica]) -> None:
        """Feed these replicas from now on."""
        self._seeds = [r.seed_for(BATCHES) for r in replicas]
        if self._experiment.same_batches and not self._generates:
            self._seeds = [0] * len(replicas)
        self._distinct = list(dict.fromkeys(self._seeds))
        row_of = {seed: row for row, seed in enumerate(self._distinct)}
        rows = [row_of[seed] for seed in self._seeds]
        in_order = rows == list(range(len(rows)))
        self._rows = None if in_order else torch.tensor(rows, device=self._device)

    def __call__(self, t: int, state: State) -> tuple[Batch, bool]:
        """Return the minibatch of update t and whether all replicas share it, so that it has no replica axis.

        Args:
            t: the update.
            state: of the course, [P, ...] each.
        """
        if self._generates:
            assert self._experiment.course is not None
            draws = Draws(self._seeds, t, self._device)
            course = self._experiment.course
            return self._cast(self._guard(t, lambda: course.batch(draws, state, self._config))), False
        batches = self._guard(t, lambda: [self._experiment.batch(seed, t, self._config) for seed in self._distinct])
        self._check(batches[0])
        if len(batches) == 1:
            return self._alone(batches[0]), True
        stacked = self._stacked(batches)
        return stacked if self._rows is None else pytree.tree_map(lambda x: x[self._rows], stacked), False

    def held_out(self) -> Batch:
        """Return the data that is evaluated on; it is placed once."""
        if self._held_out is None:
            self._held_out = self._cast(self._experiment.held_out(self._config))
        return self._held_out

    def _check(self, batch: Batch) -> None:
        for x in pytree.tree_leaves(batch):
            if not isinstance(x, Tensor | Examples):
                raise PopulationError(
                    f"{self._experiment.name}.batch returned a {type(x).__name__}; a batch holds tensors only, such as"
                    " torch.tensor(x)"
                )

    def _alone(self, batch: Batch) -> Batch:
        if isinstance(batch, Examples):
            return tuple(x[0] for x in self._gathered([batch]))
        return self._cast(batch)

    def _stacked(self, batches: Sequence[Batch]) -> Batch:
        """Put minibatches of R seeds together, with a leading [R]."""
        if all(isinstance(b, Examples) and b.source.same(batches[0].source) for b in batches):
            return self._gathered(batches)
        return self._cast(self._experiment.stack([fetched(b) for b in batches]))

    def _gathered(self, batches: Sequence[Examples]) -> tuple[Tensor, ...]:
        """Fetch the examples of R seeds straight into tensors [R, B, ...]."""
        source, found = batches[0].source, []
        rows = torch.cat([b.rows for b in batches]).to(self._device)
        for tensor in source.tensors:
            x = self._place(tensor)
            floats = converted(x, source.bytes_over) or x.is_floating_point()
            shape = (len(batches), source.size, *x.shape[1:])
            out = torch.empty(shape, dtype=self._dtype if floats else x.dtype, device=self._device)
            fetch(x, rows, source.bytes_over, out.flatten(0, 1))
            found.append(out)
        return tuple(found)

    def _place(self, x: Tensor) -> Tensor:
        """Return a tensor of a data set on the device, moved there once."""
        if x.device == self._device:
            return x
        if x not in self._placed:
            self._placed[x] = x.to(self._device)
        return self._placed[x]

    def _cast(self, batch: Batch) -> Batch:
        def cast(x: Tensor) -> Tensor:
            return x.to(self._device, self._dtype if x.is_floating_point() else x.dtype)

        return pytree.tree_map(cast, fetched(batch))
