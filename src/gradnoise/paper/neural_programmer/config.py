"""The settings of a Neural Programmer and its training."""

from __future__ import annotations

from dataclasses import dataclass

from gradnoise.errors import nearest
from gradnoise.paper.neural_programmer.problems.tasks import task_of
from gradnoise.population import PopulationError

PIVOT_GRADIENTS = ("none", "ste")


@dataclass(frozen=True)
class Config:
    """Settings of a Neural Programmer and its training.

    Args:
        task: "single", "five" or "text", see `TASKS`.
        dim, encoder: see `NeuralProgrammer`.
        dropout_keep: share of values that dropout keeps; 1 for no dropout.
        pivot_grad: "none", or "ste" for a straight-through gradient of comparisons, see `compare`.
        delta: where Huber's loss becomes linear.
        lookup_weight: lambda, weight of the loss of lookups.
        batch_size: B, questions in a minibatch.
        examples: questions in an epoch.
        tables: R, tables that each test question is asked about; None for the task's own number.
        word_word: whether both conditions of a question may be about words.
        empty_pairs: whether no row need meet two comparisons joined by "and", see `problems.examples`.
    """

    task: str = "single"
    dim: int = 256
    encoder: str | None = None
    dropout_keep: float = 1.0
    pivot_grad: str = "none"
    delta: float = 10.0
    lookup_weight: float = 50.0
    batch_size: int = 50
    examples: int = 50_000
    tables: int | None = None
    word_word: bool = True
    empty_pairs: bool = True

    def __post_init__(self) -> None:
        """Check ranges."""
        task_of(self.task)
        if self.pivot_grad not in PIVOT_GRADIENTS:
            raise PopulationError(
                f"pivot_grad = {self.pivot_grad!r}: allowed are {' and '.join(PIVOT_GRADIENTS)}"
                f"{nearest(self.pivot_grad, PIVOT_GRADIENTS)}"
            )
        for name in ("delta", "lookup_weight"):
            if not 0 < getattr(self, name) < float("inf"):
                raise PopulationError(f"{name} = {getattr(self, name)}: a finite number > 0 is needed")
        if not 1 <= self.batch_size <= self.examples:
            raise PopulationError(
                f"batch_size B = {self.batch_size} of {self.examples} examples: at least 1 and at most all are needed"
            )
        if self.tables is not None and self.tables < 1:
            raise PopulationError(f"tables R = {self.tables}: at least 1 is needed")
