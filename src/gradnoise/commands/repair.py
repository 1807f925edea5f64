"""The command `gradnoise repair`: what can be read of a damaged store, in a fresh one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional


@dataclass(frozen=True)
class Repair:
    """Save what can be read of a study's damaged store, and of the copy beside it, into a fresh store.

    The damaged file is kept. What is lost is trained again, to the same numbers, by the command that ran the study.
    """

    folder: Positional[Path]
    """Folder of a `gradnoise run`."""

    def __call__(self, console: Console) -> None:
        """Do it, and say what was saved."""
        from gradnoise.study.repair import repair

        done = repair(self.folder)
        if done.whole:
            console.print(Text(f"Nothing is damaged: all {done.trials} trials can be read."), soft_wrap=True)
            return
        console.print(
            Text(f"Saved: {done.trials - done.again} of {done.trials} trials; {done.again} will be trained again."),
            soft_wrap=True,
        )
        if done.old:
            console.print(Text(f"The damaged file is {done.old}."), soft_wrap=True)
        console.print(Text("Go on with the command that ran the study."), soft_wrap=True)
