"""Who takes turns in a benchmark, and how their time is taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .deep_mlp import synchronise

Seconds = Callable[[], float]
"""Measures seconds per replica-step."""


@dataclass(frozen=True)
class Contest:
    """Who takes turns.

    Args:
        rivals: who does the whole work; the first is "population".
        parts: of the population's work, timed alone.
        operations: floating-point operations of a replica-step, without those that a layout adds; None where the
            matrix products of the parts say enough.
    """

    rivals: dict[str, Seconds]
    parts: dict[str, Seconds] = field(default_factory=dict)
    operations: float | None = None


def timed(step: Callable[[], object], size: int, steps: int, device: str) -> Seconds:
    """Return what measures seconds per replica-step of a step of `size` replicas, after a first one to warm up."""
    for _ in range(3):
        step()

    def once() -> float:
        synchronise(device)
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronise(device)
        return (time.perf_counter() - start) / (size * steps)

    return once
