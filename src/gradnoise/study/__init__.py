"""The study lab: paired comparisons, durable and resumable, ending in a verdict.

What describes, stores and reads a study needs no torch; what runs one is imported when it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gradnoise.errors import StudyError
from gradnoise.study.exported import read_folder, read_results
from gradnoise.study.results import Curve, Event, StudyRecord, StudyResults, TrialResult
from gradnoise.study.spec import Arm, Claim, Description, Metric, Selection, Setting, Study, Trial
from gradnoise.study.store import Store

if TYPE_CHECKING:
    from gradnoise.study.console import run_and_report
    from gradnoise.study.retrain import train_again
    from gradnoise.study.run.futures import FuturesExecutor
    from gradnoise.study.run.on_ray import RayExecutor
    from gradnoise.study.run.options import Options
    from gradnoise.study.run.planning import Plan
    from gradnoise.study.run.runner import Observer, Progress, dry_run, run_study
    from gradnoise.study.run.spool.executor import SpoolExecutor
    from gradnoise.study.weights import Trained, trained_weights

_RUNNING = {
    "FuturesExecutor": "gradnoise.study.run.futures",
    "Observer": "gradnoise.study.run.runner",
    "Options": "gradnoise.study.run.options",
    "Plan": "gradnoise.study.run.planning",
    "Progress": "gradnoise.study.run.runner",
    "RayExecutor": "gradnoise.study.run.on_ray",
    "SpoolExecutor": "gradnoise.study.run.spool.executor",
    "Trained": "gradnoise.study.weights",
    "dry_run": "gradnoise.study.run.runner",
    "run_and_report": "gradnoise.study.console",
    "run_study": "gradnoise.study.run.runner",
    "train_again": "gradnoise.study.retrain",
    "trained_weights": "gradnoise.study.weights",
}

__all__ = [
    "Arm",
    "Claim",
    "Curve",
    "Description",
    "Event",
    "FuturesExecutor",
    "Metric",
    "Observer",
    "Options",
    "Plan",
    "Progress",
    "RayExecutor",
    "Selection",
    "Setting",
    "SpoolExecutor",
    "Store",
    "Study",
    "StudyError",
    "StudyRecord",
    "StudyResults",
    "Trained",
    "Trial",
    "TrialResult",
    "dry_run",
    "read_folder",
    "read_results",
    "run_and_report",
    "run_study",
    "train_again",
    "trained_weights",
]


def __getattr__(name: str) -> Any:
    """Import what runs a study when it is first asked for."""
    if name in _RUNNING:
        return getattr(importlib.import_module(_RUNNING[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
