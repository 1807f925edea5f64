"""The settings of an NRAM and its training."""

from __future__ import annotations

from dataclasses import dataclass

from gradnoise.population import PopulationError


@dataclass(frozen=True)
class Config:
    """Settings of an NRAM and its training.

    Args:
        registers, units, controller, passes, gain, stop_bias: see `NRAM`.
        lesson: name of what is learned; None for the experiment's first lesson.
        batch_size: B, problems in a minibatch.
        value_clip: C1, bound on the gradients of intermediate values; None for none.
        entropy: lambda_0, weight of the entropy bonus at the beginning.
        half_life: updates in which the bonus halves.
        curriculum: False for problems of any size from the first update.
    """

    registers: int = 5
    units: int = 32
    controller: str = "lstm"
    passes: int = 1
    gain: float = 1.0
    stop_bias: float = 0.0
    lesson: str | None = None
    batch_size: int = 50
    value_clip: float | None = None
    entropy: float = 0.0
    half_life: float = 1000
    curriculum: bool = True

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.value_clip is not None and not self.value_clip > 0:
            raise PopulationError(f"value_clip C1 = {self.value_clip}: a limit is > 0, or None for none")
        if self.entropy < 0 or self.half_life <= 0:
            raise PopulationError(f"entropy = {self.entropy} and half_life = {self.half_life}: need >= 0 and > 0")
        if self.batch_size < 1:
            raise PopulationError(f"batch_size B = {self.batch_size}: at least 1 is needed")
