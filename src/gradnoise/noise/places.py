"""What noise is added to: gradients before an update, or weights after it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from gradnoise.noise.dosing import Group
from gradnoise.noise.schedule import Relative, Schedule, until_share

Place: TypeAlias = Literal["gradients", "weights"]
"""What noise is added to."""


def check_place(on: str, schedule: Schedule) -> None:
    """Refuse what is no place for noise, or no schedule for it.

    Raises:
        ValueError: it is not.
    """
    if on not in ("gradients", "weights"):
        raise ValueError(f"on must be 'gradients' or 'weights', got {on!r}")
    if on == "weights" and (isinstance(schedule, Relative) or until_share(schedule) is not None):
        raise ValueError(
            f"noise on weights has no gradient to be compared with, as {schedule!r} asks for; give a schedule such as"
            " Annealed(1e-6)"
        )


def weights_of(group: Group) -> Group:
    """Return stand-ins for the parameters of a group, whose gradients are the parameters' own memory."""
    streams = []
    for stream in group.streams:
        stand_in = stream.parameter.detach()
        stand_in.grad = stream.parameter.detach()
        streams.append(stream._replace(parameter=stand_in))
    return group._replace(streams=streams, gradients=[s.parameter.grad for s in streams])
