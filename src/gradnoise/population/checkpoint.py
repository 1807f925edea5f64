"""Durable checkpoints: written beside, fsynced, renamed; the last two are kept."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gradnoise.errors import CheckpointError
from gradnoise.files import clear_unfinished, make_room, opened, replace_atomically

KEEP = 2


def path_for(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return folder / f"step-{step:09d}.pt"


def save(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint so that at any moment either the old or the new one is whole.

    Args:
        folder: of one population; created when missing.
        step: updates done.
        state: tensors and plain values.

    Raises:
        CheckpointError: the file cannot be written; older checkpoints stay as they are.
    """
    path = path_for(folder, step)
    write(path, state)
    _tidy(folder, step)
    return path


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write a file of tensors and plain values; it is whole or not there, and an older one stays until then.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        replace_atomically(path, lambda file: torch.save(dict(state), file))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise CheckpointError(
            f"cannot write {path}: {error}; make room or choose another folder, then repeat the command"
        ) from error


def _tidy(folder: Path, step: int) -> None:
    """Remove what is not among the last two up to `step`: older ones, and what a killed process left behind.

    A later checkpoint is one of a slice that was never taken in; it must not push out one that is needed.
    """
    known = steps(folder)
    keep = [s for s in known if s <= step][-KEEP:]
    for stale in (path_for(folder, s) for s in known if s not in keep):
        make_room(stale, folder=False)
        stale.unlink(missing_ok=True)
    clear_unfinished(folder)


def load(folder: Path, step: int, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read the checkpoint of a step; tensors and plain values only (`weights_only=True`).

    Raises:
        CheckpointError: there is no such file, or it is damaged or holds other objects.
    """
    return read(path_for(folder, step), device)


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `write` wrote; tensors and plain values only.

    Raises:
        CheckpointError: there is no such file, or it is damaged or holds other objects.
    """
    try:
        with opened(path) as file:
            with zipfile.ZipFile(file) as archive:  # torch.load checks no checksum
                if packed := [part.filename for part in archive.infolist() if part.compress_type != zipfile.ZIP_STORED]:
                    raise zipfile.BadZipFile(f"{packed[0]} is compressed, and might unfold to any size")
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
            file.seek(0)
            state = torch.load(file, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}, not the state of a population")
        return state
    except Exception as error:
        raise CheckpointError(
            f"cannot read {path}: {type(error).__name__}: {error}; use an older one or start again"
        ) from error


def steps(folder: Path) -> list[int]:
    """List the steps of the checkpoints in a folder, ascending."""
    found = (re.fullmatch(r"step-(\d+)\.pt", p.name) for p in folder.glob("step-*.pt"))
    return sorted(int(match[1]) for match in found if match)
