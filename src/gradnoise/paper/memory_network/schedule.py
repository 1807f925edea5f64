"""The learning rate of memory networks: halved every so many epochs, after a stage at a constant rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Halving:
    """Learning rate lr / 2^k, where k counts the halvings so far.

    Epochs count from 1, and "halved at epoch e" means before its updates. Epochs of the warm-up stage are not
    counted and see lr.

    Args:
        lr: rate at the beginning.
        every: epochs between halvings: at epochs `every`, 2 `every`, ...
        epoch: updates in an epoch.
        warmup: epochs before the count begins.
        until: the last epoch that may halve; None halves to the end.

    Example:
        >>> rate = Halving(0.01, every=25, epoch=28, until=100)
        >>> rate(24 * 28 - 1), rate(24 * 28), rate(10_000)
        (0.01, 0.005, 0.000625)
    """

    tag: ClassVar[str] = "gradnoise.paper.memory_network.schedule:Halving"
    lr: float
    every: int
    epoch: int
    warmup: int = 0
    until: int | None = None

    def __call__(self, t: int) -> float:
        """The rate of update t = 0, 1, 2, ..."""
        epoch = t // self.epoch + 1 - self.warmup
        if self.until is not None:
            epoch = min(epoch, self.until)
        return self.lr / 2 ** max(epoch // self.every, 0)
