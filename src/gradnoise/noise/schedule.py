"""Noise schedules: the variance sigma_t^2 of the gradient noise as a function of the update t."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

Schedule: TypeAlias = Callable[[Any], Any]
"""Any callable t -> sigma_t^2. It gets t = 0, 1, 2, ..., the number of updates done before, and returns a
VARIANCE: a finite number >= 0. The schedules here also take an array of t and return one of float64."""


def _require(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")


@dataclass(frozen=True)
class Annealed:
    """Annealed gradient noise: sigma_t^2 = eta / (1 + t)^gamma.

    t counts from 0, so the first update has sigma^2 = eta.

    Args:
        eta: variance of the first update's noise, >= 0; 0 is no noise. The paper uses 0.01, 0.3 and 1.0.
        gamma: how fast the variance decays, >= 0; 0 keeps it at eta.

    Raises:
        ValueError: eta or gamma is negative, infinite or nan.

    Example:
        >>> Annealed(eta=0.01)(0)
        0.01

    Source: Neelakantan et al. 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks", eq. 1.
    """

    tag: ClassVar[str] = "gradnoise.schedule:Annealed"  # in the ids of trials: never to be changed
    eta: float
    gamma: float = 0.55

    def __post_init__(self) -> None:
        _require("eta", self.eta)
        _require("gamma", self.gamma)

    def __call__(self, t: Any) -> Any:
        """Return sigma_t^2 in float64, for an int or an array of t >= 0."""
        return np.float64(self.eta) / (1.0 + np.asarray(t, dtype=np.float64)) ** self.gamma


@dataclass(frozen=True)
class Fixed:
    """Noise of one standard deviation throughout: sigma_t^2 = sigma^2.

    Args:
        sigma: standard deviation (not variance), >= 0.

    Raises:
        ValueError: sigma is negative, infinite or nan.

    Source: Neelakantan et al. 2015, section 4 (the fixed-noise comparison).
    """

    tag: ClassVar[str] = "gradnoise.schedule:Fixed"
    sigma: float

    def __post_init__(self) -> None:
        _require("sigma", self.sigma)

    def __call__(self, t: Any) -> Any:
        """Return sigma^2 in float64, of the shape of t."""
        return np.full(np.shape(t), self.sigma, dtype=np.float64)[()] ** 2


def sigma(schedule: Schedule, t: int) -> float:
    """Return the standard deviation of the noise at update t: sqrt(schedule(t)).

    Args:
        schedule: callable t -> variance.
        t: update, counted from 0.

    Returns:
        sigma_t >= 0.

    Raises:
        ValueError: the schedule returned something other than one finite number >= 0.
    """
    variance = schedule(t)
    try:
        value = float(variance)
    except (TypeError, ValueError, RuntimeError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"the schedule must return a variance, one finite number >= 0, but at t = {t} it returned {variance!r}"
        )
    return math.sqrt(value)
