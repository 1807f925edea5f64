"""What the statistics accept: finite numbers, whole counts, levels between 0 and 1."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]

# Differences that agree to this part of the largest one are equal: they differ by rounding alone.
ROUNDING = 1e-12

# Random signs or indices that one test or interval draws at most: with more than 200 pairs fewer resamples do.
DRAWS = 20_000_000


def finite_vector(values: ArrayLike, name: str) -> Vector:
    """Return the values as a one-dimensional float64 array of finite numbers.

    Args:
        values: numbers, shape [n], n >= 0.
        name: what to call them in an error.

    Raises:
        ValueError: if there is another shape, a nan or an infinity; the first such element is named.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} has shape {vector.shape}; give one number per pair, shape [n].")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise ValueError(
            f"{name}[{bad[0]}] is {vector[bad[0]]}, and all must be finite; give a diverged run the value "
            "that the metric has for a broken model."
        )
    return vector


def mean_and_spread(differences: Vector) -> tuple[float, float] | None:
    """Return mean and standard deviation, bit for bit the same in any order; None where no spread is known.

    Args:
        differences: shape [n]; a spread needs two that differ by more than rounding.
    """
    largest = float(np.abs(differences).max(initial=0.0))
    if differences.size < 2 or np.ptp(differences) <= ROUNDING * largest:
        return None
    scaled = differences / largest  # so that no square overflows or vanishes
    mean = math.fsum(scaled / scaled.size)
    return largest * mean, largest * math.sqrt(math.fsum((scaled - mean) ** 2) / (scaled.size - 1))


def check_margin(margin: float) -> None:
    """Raise ValueError unless the margin is a finite number >= 0."""
    if not 0.0 <= margin < math.inf:
        raise ValueError(f"margin is {margin}; it must be a finite number >= 0, in the unit of the metric.")


def check_fraction(value: float, name: str) -> None:
    """Raise ValueError unless a level, an alpha or a power lies in (0, 1)."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} is {value}; it must lie between 0 and 1: 0.95 is a level, 0.05 an alpha.")


def check_resamples(resamples: int) -> None:
    """Raise ValueError unless there is at least one resample."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1.")


def affordable(resamples: int, n: int) -> int:
    """Return as many resamples of n values as stay within `DRAWS`, and never fewer than 1,000 of those asked for."""
    return min(resamples, max(1_000, DRAWS // max(n, 1)))


def check_counts(**counts: int) -> None:
    """Raise ValueError unless all counts are whole numbers >= 0."""
    for name, count in counts.items():
        if count < 0 or count != int(count):
            raise ValueError(f"{name} is {count}; it must be a whole number >= 0.")


def check_successes(successes: int, n: int, name: str = "successes") -> None:
    """Raise ValueError unless both are counts, and there are no more successes than trials."""
    check_counts(**{name: successes}, n=n)
    if successes > n:
        raise ValueError(f"{name} is {successes} of n = {n}; it must be 0 to n.")
