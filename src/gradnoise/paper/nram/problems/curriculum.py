"""The curriculum: how difficult the next problems are, and when they become harder (RL-NTM paper, section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]

#: Shares of problems of any difficulty up to the largest, up to about the level, and of about the level.
ANY, UP_TO_LEVEL = 0.10, 0.25


@dataclass(frozen=True)
class Curriculum:
    """Level D starts at 1 and rises by 1 when the running error falls below a threshold.

    10 % of the problems have difficulty uniform on 1..n_max, 25 % uniform on 1..D + e, the others D + e, where
    P(e = k) = 2^-k for k = 1, 2, ..., all cut at n_max, the largest difficulty.

    Args:
        threshold: in (0, 1], of the running error.
        gap: updates between two rises, >= 1.
        decay: of the running error, which starts at 1.

    Raises:
        ValueError: an argument is out of range.
    """

    threshold: float = 0.2
    gap: int = 100
    decay: float = 0.95

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold = {self.threshold} is outside (0, 1]")
        if self.gap < 1:
            raise ValueError(f"gap = {self.gap}: at least 1 update lies between two rises")

    def start(self, most: int, on: bool = True) -> State:
        """Return what one replica keeps: level, running error, update of the last rise, n_max, share of any difficulty.

        Args:
            most: n_max.
            on: False for no curriculum: problems of any difficulty from the first update.
        """
        return {
            "level": torch.tensor(1),
            "running_error": torch.tensor(1.0),
            "rise": torch.tensor(0),
            "most": torch.tensor(most),
            "any": torch.tensor(ANY if on else 1.0),
        }

    def difficulties(self, state: State, kind: Tensor, place: Tensor, extra: Tensor) -> Tensor:
        """Return difficulties [P, B] for states [P], from three sets of uniform numbers in (0, 1) [P, B]."""
        level, most = state["level"][:, None], state["most"][:, None]
        e = (-extra.log2()).ceil().clamp(min=1)  # P(e > k) = P(u < 2^-k)
        near = (level + e).minimum(most)
        of_any = kind < state["any"][:, None]
        spread = (1 + (place * torch.where(of_any, most, near)).floor()).minimum(most)
        return torch.where(of_any | (kind < ANY + UP_TO_LEVEL), spread, near).long()

    def updated(self, state: State, error: Tensor, t: Tensor) -> State:
        """Return the state after update t, whose minibatch had these errors [P]."""
        running = self.decay * state["running_error"] + (1 - self.decay) * error
        rises = (running < self.threshold) & (t + 1 - state["rise"] >= self.gap) & (state["level"] < state["most"])
        return state | {
            "level": state["level"] + rises,
            "running_error": running,
            "rise": torch.where(rises, t + 1, state["rise"]),
        }
