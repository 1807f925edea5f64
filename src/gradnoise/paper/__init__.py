"""The paper's systems, each a model, a task and a study, built on the public interface alone.

A system is imported when it is asked for, and never by another one.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradnoise.errors import StudyError, nearest

if TYPE_CHECKING:
    from gradnoise.paper.system import System

#: Name on the command line -> package that exports `SYSTEM`.
SYSTEMS = {
    "deep-mlp": "gradnoise.paper.deep_mlp",
    "memn2n": "gradnoise.paper.memory_network",
    "neural-programmer": "gradnoise.paper.neural_programmer",
    "nram": "gradnoise.paper.nram",
    "neural-gpu": "gradnoise.paper.neural_gpu",
    "lstm-lm": "gradnoise.paper.lstm_lm",
}

__all__ = ["SYSTEMS", "load_system"]


def load_system(name: str) -> System[Any]:
    """Import the system of a name.

    Raises:
        StudyError: there is none of that name; the message has the nearest one.
    """
    if name not in SYSTEMS:
        if (file := Path(f"{name}.py")).is_file():
            raise StudyError(f"no system {name!r}, but there is a file {file}: for the study in it write {file}")
        raise StudyError(f"no system {name!r}: there are {', '.join(SYSTEMS)}{nearest(name, SYSTEMS)}")
    return importlib.import_module(SYSTEMS[name]).SYSTEM
