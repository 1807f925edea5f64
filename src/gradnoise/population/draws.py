"""Random numbers for data that is made while training: a row for each replica, whoever its neighbours are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from gradnoise.noise.gaussian import stream_key, word_rows

_key = lru_cache(maxsize=1 << 16)(stream_key)


class Draws:
    """Random numbers of one update for P replicas, a pure function of (seed, name, t) in each row.

    Args:
        seeds: one for each replica; rows of equal seeds are equal.
        t: the update.
        device: where the numbers are wanted.

    Example:
        >>> Draws([0, 1, 0], t=5).uniform("bits", 4).shape
        torch.Size([3, 4])
    """

    def __init__(self, seeds: Sequence[int], t: int, device: torch.device | str = "cpu") -> None:
        self.t = t
        self.device = torch.device(device)
        self._distinct = list(dict.fromkeys(seeds))
        place = {seed: row for row, seed in enumerate(self._distinct)}
        self._rows = torch.tensor([place[seed] for seed in seeds], device=self.device)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Draw numbers in (0, 1], float32 [P, ...]; another name gives others."""
        keys = [_key(seed, name) for seed in self._distinct]
        words = word_rows(keys, self.t, math.prod(shape), self.device)
        return ((words.to(torch.float32) + 0.5) * 2.0**-32).unflatten(1, shape)[self._rows]

    def integers(self, name: str, high: int | Tensor, *shape: int) -> Tensor:
        """Draw integers in 0..high - 1, int64 [P, ...]; `high` may be a tensor that broadcasts with the result."""
        most = torch.as_tensor(high, device=self.device) - 1
        return (self.uniform(name, *shape) * high).long().minimum(most)  # a number may round to 1
