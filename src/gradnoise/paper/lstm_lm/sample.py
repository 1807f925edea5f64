"""The command `gradnoise lstm-lm sample`: train or load a network, let it read and go on, show its surprise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, arg

from gradnoise.data.ptb import EOS
from gradnoise.paper.lstm_lm.reader import UNKNOWN, Reading, known_words, trained
from gradnoise.paper.lstm_lm.show import in_colour, legend, measured, shown
from gradnoise.paper.runs import Wanted
from gradnoise.paper.training import notice, training_bar
from gradnoise.study import StudyError


@dataclass(frozen=True)
class Sample:
    """Let a trained language model go on with a sentence, and see how much each word surprises it.

    Surprise is -log2 of a word's probability, in bits: a colour in a terminal, a number elsewhere. With --words 0 a
    whole sentence is read, and its end counts. A study keeps no weights: the first time the run is trained once more
    on this processor, and its weights are kept in the cache.

    Example: gradnoise lstm-lm sample runs/lstm-lm-quick --text "rain" --words 30
    """

    folder: Positional[Path] = Path("runs/lstm-lm-quick")
    """Folder of a `gradnoise run lstm-lm`."""
    text: str = ""
    """What it reads first; words that it does not know are read as <unk>."""
    words: int = 40
    """How many words it goes on with; 0 reads the text alone, as a whole sentence."""
    temperature: float = 1.0
    """Below 1 likelier words are drawn, 0 takes the likeliest; the surprise shown is always that of the network."""
    draw: int = 0
    """Seed of the draws."""
    row: Annotated[str | None, arg(help_behavior_hint="(default: any)")] = None
    """Row of the run. Of all runs that fit the one with the lowest validation perplexity speaks."""
    arm: Annotated[str | None, arg(help_behavior_hint="(default: any)")] = None
    """Arm of the run."""
    seed: Annotated[int | None, arg(help_behavior_hint="(default: any)")] = None
    """Seed of the run."""
    epochs: Annotated[int | None, arg(help_behavior_hint="(default: all)")] = None
    """Train so many epochs only, where all of them take too long."""

    def __call__(self, console: Console) -> None:
        """Train or load, read, go on, print."""
        self._check()
        with training_bar(console) as progress:
            reader = trained(
                self.folder,
                Wanted(self.row, self.arm, self.seed),
                epochs=self.epochs,
                progress=progress,
                notice=notice(console),
            )
        given, unknown = known_words(reader.corpus, self.text)
        reading = Reading(reader)
        reading.read(given if self.words else [*given, EOS])
        read = len(reading.words)
        reading.go_on(self.words, self.temperature, torch.Generator().manual_seed(self.draw))
        console.print(Text(reader.corpus.title, "bold"))
        console.print(Text(reader.description, "dim"))
        for warning in filter(None, (reader.warning, _unknown(unknown))):
            notice(console)(warning)
        console.print()
        text = shown(reading.words, in_colour(console), read if self.words else 0)
        console.print(text, soft_wrap=not in_colour(console))
        console.print()
        for name, words in (("read ", reading.words[:read]), ("drawn", reading.words[read:])):
            if words:
                console.print(measured(name, words))
        if in_colour(console):
            console.print(legend())

    def _check(self) -> None:
        """Check the numbers, and that there is something to do.

        Raises:
            StudyError: one is out of range.
        """
        if self.words < 0:
            raise StudyError(f"--words {self.words}: give 0 or more")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise StudyError(f"--temperature {self.temperature}: give a number of 0 or more, such as 0.8")
        if not self.words and not self.text.strip():
            raise StudyError("--words 0 without --text: there is nothing to read")


def _unknown(words: list[str]) -> str:
    """Say which words a network does not know; "" for none."""
    if not words:
        return ""
    return f"Read as {UNKNOWN}, since the network does not know them: {', '.join(dict.fromkeys(words))}."
