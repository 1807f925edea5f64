"""The noise of an update once more: as far as it follows from schedule and seed, or is remembered."""

from __future__ import annotations

import itertools

from torch import Tensor

from gradnoise.noise.anticorrelated import Added, Left
from gradnoise.noise.diagnostics import draw
from gradnoise.noise.options import Options
from gradnoise.noise.schedule import Relative, Schedule, deviation
from gradnoise.noise.streams import Streams
from gradnoise.noise.until import Endings


class Replay:
    """Computes what updates of an optimizer add to its parameters.

    Args:
        streams: of the parameters.
        options: schedules of the groups.
        endings: what knows which groups' noise has ended; None where no schedule asks for it.
        added: what is taken away again; None for noise that is not anticorrelated.
    """

    def __init__(self, streams: Streams, options: Options, endings: Endings | None, added: Added | None) -> None:
        self._streams, self._options, self._endings, self._added = streams, options, endings, added

    def __call__(self, name: str, t: int, step: int, known: float | None) -> Tensor:
        """Return the noise that update t adds to a parameter; see `Noise.replay`.

        Args:
            name: of the parameter.
            t: update.
            step: the coming one.
            known: standard deviation, where it is not a function of t.
        """
        group, stream = self._streams.named(name)
        noise = draw(stream, t, self._deviation(group, t, known))
        if self._added is None:
            return noise
        told, left = self._added.at(t, step, stream.key)
        if not told and t:
            schedule = self._options.schedule(group)
            if isinstance(schedule, Relative) and schedule.to == "gradient":
                raise ValueError(
                    f"anticorrelated noise that follows the gradient can be replayed for the last update and the coming"
                    f" one (t = {step}) alone, got t = {t}"
                )
            left = Left(t - 1, self._deviation(group, t - 1, None))
        return noise if left is None else noise - draw(stream, left.t, float(left.sigma))

    def _deviation(self, group: int, t: int, known: float | None) -> float:
        if self._endings is not None and self._endings.over(group, t):
            return 0.0
        schedule = self._options.schedule(group)
        return deviation(schedule, t, self._to_clip(schedule, group, t) if known is None else known)

    def sigma(self, schedule: Schedule, t: int) -> float:
        """Return sigma_t of a schedule that does not follow the gradient, in the first group that has it."""
        group = next(i for i in itertools.count() if self._options.schedule(i) == schedule)
        return deviation(schedule, t, self._to_clip(schedule, group, t))

    def _to_clip(self, schedule: Schedule, group: int, t: int) -> float | None:
        """Return sigma_t of noise relative to the clip if all parameters of a group have gradients; None for other."""
        if not (isinstance(schedule, Relative) and schedule.to == "clip"):
            return None
        count = sum(stream.parameter.numel() for stream in self._streams.by_group()[group])
        return schedule.sigma(t, 0.0, max(count, 1))
