"""Checkpoints in a folder: one folder for each chunk, the last two checkpoints in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gradnoise.errors import CheckpointError
from gradnoise.files import make_room
from gradnoise.population import checkpoint
from gradnoise.study.canonical import checked_id
from gradnoise.study.engine import Kept


@dataclass(frozen=True)
class FolderKeep:
    """Keeps checkpoints in a folder that all workers can reach.

    Args:
        folder: made when the first checkpoint is saved.
    """

    folder: Path

    def save(self, chunk: str, step: int, state: Mapping[str, Any]) -> None:
        """Write the state so that at any moment the old or the new checkpoint is whole."""
        make_room(self._of(chunk), folder=True)
        make_room(checkpoint.path_for(self._of(chunk), step), folder=False)
        checkpoint.save(self._of(chunk), step, state)

    def latest(self, chunk: str, step: int) -> Kept:
        """Read the newest whole checkpoint of at most `step` updates."""
        folder = self._of(chunk)
        steps = [s for s in checkpoint.steps(folder) if s <= step]
        missing = [f"the checkpoint of update {step} is missing"] if step and step not in steps else []
        return self._newest(folder, steps, missing)

    def _newest(self, folder: Path, steps: list[int], losses: list[str]) -> Kept:
        """Read the last of some checkpoints that can be read."""
        while steps:
            *steps, last = steps
            try:
                state = checkpoint.load(folder, last)
            except CheckpointError as error:
                losses = [*losses, f"the checkpoint of update {last} cannot be read ({self._reason(error)})"]
                continue
            return Kept(state, tuple(losses), partial(self._newest, folder, steps, []))
        return Kept(None, tuple(losses))

    def drop(self, chunk: str) -> None:
        """Remove the folder of a chunk."""
        shutil.rmtree(self._of(chunk), ignore_errors=True)

    def _reason(self, error: CheckpointError) -> str:
        """Return why a checkpoint cannot be read, without the folder: reports may be published."""
        text = (str(error.__cause__ or error).splitlines() or ["damaged"])[0]
        return text.replace(str(self.folder), "checkpoints")

    def _of(self, chunk: str) -> Path:
        """Return the folder of a chunk, whose id may come from a store that anyone wrote."""
        return self.folder / checked_id(chunk)
