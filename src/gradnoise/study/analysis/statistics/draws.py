"""Random signs and resamples, drawn once for all samples of a size: a study has many cells of as many seeds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradnoise.study.analysis.statistics.arguments import DRAWS

#: Numbers of a batch: 8 MB of float64.
BATCH = 1_000_000


class Rows:
    """Random rows in batches of about a million numbers; the same seed gives the same rows, however many are taken.

    What was drawn is kept for the next sample of the size as long as it stays within `DRAWS`.

    Args:
        seed: seed of the rows.
        n: numbers in a row, >= 1.
    """

    def __init__(self, seed: int, n: int) -> None:
        self.n, self._seed, self._height = n, seed, max(1, BATCH // n)
        self._rng, self._kept = self._generator(), list[NDArray[Any]]()

    def _generator(self) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(self._seed))

    def draw(self, rng: np.random.Generator, height: int) -> NDArray[Any]:
        """Draw so many rows."""
        return rng.integers(0, 2, size=(height, self.n), dtype=np.int8)

    def batches(self, rows: int) -> Iterator[NDArray[Any]]:
        """Yield the first `rows` rows in batches, [<= a million / n, n]; the arrays are not to be written to."""
        keeps = rows * self.n <= DRAWS
        rng = self._rng if keeps else self._generator()
        for i, start in enumerate(range(0, rows, self._height)):
            if not keeps:
                yield self.draw(rng, min(self._height, rows - start))
                continue
            if i == len(self._kept):
                self._kept.append(self.draw(rng, self._height))
            yield self._kept[i][: rows - start]


class Places(Rows):
    """Resamples with replacement: each row has n places in 0..n-1, sorted."""

    def draw(self, rng: np.random.Generator, height: int) -> NDArray[Any]:
        """Draw so many rows."""
        drawn = rng.integers(0, self.n, size=(height, self.n))
        small = np.int16 if self.n <= 1 << 15 else np.int32  # of many, many are kept
        return np.sort(drawn.astype(small), axis=1)


@lru_cache(maxsize=2)
def signs(seed: int, n: int) -> Rows:
    """Return rows of n signs, each 0 or 1."""
    return Rows(seed, n)


@lru_cache(maxsize=1)
def places(seed: int, n: int) -> Places:
    """Return resamples of n values by their sorted places."""
    return Places(seed, n)
