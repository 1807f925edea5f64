"""The study lab: paired comparisons, durable and resumable, ending in a verdict."""

from gradnoise.errors import StudyError
from gradnoise.study.console import run_and_report
from gradnoise.study.results import Curve, StudyRecord, StudyResults, TrialResult
from gradnoise.study.retrain import train_again
from gradnoise.study.run.runner import Options, Plan, Progress, dry_run, run_study
from gradnoise.study.spec import Arm, Claim, Metric, Selection, Setting, Study, Trial
from gradnoise.study.store import Store
from gradnoise.study.weights import Trained, trained_weights

__all__ = [
    "Arm",
    "Claim",
    "Curve",
    "Metric",
    "Options",
    "Plan",
    "Progress",
    "Selection",
    "Setting",
    "Store",
    "Study",
    "StudyError",
    "StudyRecord",
    "StudyResults",
    "Trained",
    "Trial",
    "TrialResult",
    "dry_run",
    "run_and_report",
    "run_study",
    "train_again",
    "trained_weights",
]
