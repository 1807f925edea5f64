"""How to run a study; none of it changes what is computed beyond rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from gradnoise.errors import StudyError
from gradnoise.given import Between, settle


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
        trace: whether an experiment's training step is recorded once and replayed; False interprets every update, which
            is slow and right for a loss whose Python code changes from update to update.
        accept_changed_code: whether a folder may go on whose finished trials were trained by other code; the report
            will say so.
    """

    workers: Annotated[int | None, Between(1)] = None
    device: str = "cpu"
    compile: bool = False
    chunk: Annotated[int | None, Between(1)] = None
    slice_seconds: Annotated[float, Between(0)] = 8.0
    worker_seconds: Annotated[float, Between(0)] = 20.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    trace: bool = True
    accept_changed_code: bool = False

    def __post_init__(self) -> None:
        """Check types and ranges."""
        settle(self, StudyError)
