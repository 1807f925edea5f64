"""Gradient noise where a framework owns the optimizer: `integrations.lightning` and `integrations.transformers`."""

from collections.abc import Sequence

from gradnoise.noise.handle import Noise
from gradnoise.noise.warning import say


def warn_of_absence(noises: Sequence[Noise], before: Sequence[int], updates: int) -> None:
    """Warn at the end of a training that made updates of which none had noise.

    Args:
        noises: the handles.
        before: their clocks when the training began.
        updates: how many the framework counted.
    """
    if updates and noises and all(noise.step == t for noise, t in zip(noises, before, strict=True)):
        say(
            f"training made {updates} updates and none of them had noise: they did not come through the `step` of"
            f" {type(noises[0].optimizer).__name__} that noise is attached to"
        )
