"""What the studies of all systems share: the choice of a scale, and what a user who shortens it must be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from gradnoise.study import StudyError

S = TypeVar("S")


def scale_of(scales: Mapping[str, S], name: str) -> S:
    """A scale by name.

    Raises:
        StudyError: there is none of this name.
    """
    if name not in scales:
        raise StudyError(f"scale {name!r}: allowed are {', '.join(scales)}")
    return scales[name]


def resized(
    seeds: int | None, of_seeds: int, length: int | None, of_length: int, *, seed: str = "seeds", unit: str = "updates"
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Seeds of a study whose numbers the user may have changed, and how it then deviates from its scale.

    Args:
        seeds: number of seeds asked for; None for the scale's own.
        of_seeds: number of seeds of the scale.
        length: length of a run asked for; None for the scale's own.
        of_length: length of a run of the scale.
        seed: what seeds are called in this system.
        unit: what lengths are counted in.

    Raises:
        StudyError: the number of seeds is below 1.
    """
    count = of_seeds if seeds is None else seeds
    if count < 1:
        raise StudyError(f"--seeds {count}: a study needs at least one seed")
    deviations = []
    if length is not None and length != of_length:
        deviations.append(f"{length:,} {unit} a run instead of {of_length:,}.")
    if count < of_seeds:
        deviations.append(f"{count} {seed} instead of {of_seeds}.")
    return tuple(range(count)), tuple(deviations)
