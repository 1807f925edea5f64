"""The settings of an LSTM language model."""

from __future__ import annotations

from dataclasses import dataclass

from gradnoise.population import PopulationError


@dataclass(frozen=True)
class Options:
    """Options of these studies alone."""

    any_corpus: bool = False
    """Take whatever text the folder of --data holds, as long as it has the format of the Penn Treebank's files; they
    may then also be called train.txt, valid.txt and test.txt."""


@dataclass(frozen=True)
class Config:
    """Settings of an LSTM language model and of how it reads its text.

    Args:
        units, layers, init, biases: see `LSTMLanguageModel`.
        dropout: p in [0, 1); None or 0 leaves dropout out.
        unroll: T, time steps that an update sees.
        batch_size: B, columns into which the text is cut.
    """

    units: int = 200
    layers: int = 2
    dropout: float | None = None
    init: float = 0.1
    biases: int = 2
    unroll: int = 20
    batch_size: int = 20

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("unroll", "batch_size"):
            if getattr(self, name) < 1:
                raise PopulationError(f"{name} = {getattr(self, name)}: at least 1 is needed")
