"""How to run a study; none of it changes what is computed beyond rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Options:
    """How to run.

    Args:
        workers: workers at once; None measures and decides.
        device: where an experiment trains: "cpu", "cuda", ... An engine decides that itself.
        compile: compile the training step of an experiment.
        chunk: trials that train together; None measures and decides.
        slice_seconds: training is handed out in slices of about this length, and committed after each.
        worker_seconds: work that takes longer than this in one process is given to worker processes, where
            `workers` is None: starting them costs more than it saves below that.
        settings: of the executor that is chosen by name, such as the address of a cluster.
    """

    workers: int | None = None
    device: str = "cpu"
    compile: bool = False
    chunk: int | None = None
    slice_seconds: float = 8.0
    worker_seconds: float = 20.0
    settings: Mapping[str, Any] = field(default_factory=dict)
