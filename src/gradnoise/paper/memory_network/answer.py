"""The command `gradnoise memn2n answer`: train or load a network, let it read, print where it looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from gradnoise.paper.memory_network.reader import EPOCHS, read, trained
from gradnoise.paper.memory_network.show import check_figure, print_reading, save_figure
from gradnoise.paper.training import notice, training_bar


@dataclass(frozen=True)
class Answer:
    """Watch a memory network answer a question: where each hop looks in the story, the answer, and the truth.

    The first time a network is trained for the task, which takes seconds to a minute; it is kept in the cache.

    Example: gradnoise memn2n answer --task 2 --question 7
    """

    task: int = 1
    """Which bAbI task: 1..20 (1, 2, 5, 6, 15 where stories are generated)."""
    question: int = 1
    """Which of its test questions."""
    stage: str = "two"
    """two: with a linear start; one: softmax from the start."""
    noise: bool = False
    """Train with gradient noise, eta 0.01."""
    epochs: int = EPOCHS
    """Softmax epochs of the training."""
    seed: int = 0
    """Of the training; the best of three restarts from here on answers."""
    data: str = "auto"
    """auto, babi or generated."""
    figure: Annotated[Path | None, arg(help_behavior_hint="(default: none)")] = None
    """Save the attention as a picture, too: FILE.svg, FILE.png or FILE.pdf."""

    def __call__(self, console: Console) -> None:
        """Train or load, read, print."""
        if self.figure:
            check_figure(self.figure)
        with training_bar(console) as progress:
            reader = trained(
                self.task,
                stage=self.stage,
                noise=self.noise,
                epochs=self.epochs,
                seed=self.seed,
                data=self.data,
                progress=progress,
                notice=notice(console),
            )
        reading = read(reader, self.question)
        print_reading(reader, reading, console)
        if self.figure:
            save_figure(reading, self.figure)
            console.print(f"Picture: {self.figure}", soft_wrap=True)
