"""What a study of Neural GPUs adds to its report: Table 5's thresholds, how errors are spread, what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from gradnoise.paper.neural_gpu.experiment import THRESHOLDS
from gradnoise.paper.neural_gpu.study import ERROR, LOOSEST, MODELS, PUBLISHED
from gradnoise.study import StudyResults, TrialResult
from gradnoise.study.analysis import done_by_row
from gradnoise.study.report import THRESHOLDS_CAPTION as CAPTION
from gradnoise.study.report import Extras, Table, distribution, threshold_counts

#: Measures of gradients, see `Experiment.watch_updates`; stores of older versions have the first alone.
GRADIENTS = ("gradient_norm", "clipped_norm", "noise_to_gradient", "update_cosine", "gradient_over_eps")

THRESHOLDS_CAPTION = (
    f"{CAPTION} Published, of {MODELS:,} models without and with noise: "
    + "; ".join(f"< {c} %: {a} and {b}" for c, (a, b) in PUBLISHED.items())
    + "."
)


def learning(results: StudyResults) -> Extras:
    """Make the table of thresholds, the distribution of the error, and the table of what was learned.

    Args:
        results: of a study of Neural GPUs.
    """
    if not done_by_row(results):
        return []
    watched = [("What became of the gradient", gradients(results))] if _watched(results) else []
    counts = threshold_counts(results, ERROR, THRESHOLDS, caption=THRESHOLDS_CAPTION)
    return [
        ("Runs below 1, 2, 3 and 5 % error", counts),
        ("The error of all runs; dotted: 1, 2, 3 and 5 %", distribution(results, ERROR, THRESHOLDS)),
        ("What was learned", learned(results)),
        *watched,
    ]


def learned(results: StudyResults) -> Table:
    """Make the table of what runs ended with, by row and arm.

    Args:
        results: of a study of Neural GPUs.
    """
    lines = [
        (title, arm.label, str(len(runs)), *_cells(runs))
        for title, cells in done_by_row(results)
        for arm in results.record.arms
        if (runs := cells.get(arm.name))
    ]
    headings = ("row", "arm", "runs", "digits", "products", "strict", "training length", "best checkpoint",
                f"best < {LOOSEST} %", "limit", "gradient", "noise")  # fmt: skip
    return Table(
        headings,
        tuple(lines),
        "Medians over runs. Errors in % at the tested length: wrong digits, wrong products, products with a wrong digit"
        " or anything behind the last one. Wrong digits at the longest training length, and at the tested length of the"
        " checkpoint that was best at the training length; how many of these checkpoints are below 5 %. The"
        " curriculum's limit; norms of the gradient before the clip and of the noise, at the end.",
    )


def gradients(results: StudyResults) -> Table:
    """Make the table of what becomes of gradients between the last two evaluations, by row and arm.

    Args:
        results: of a study of Neural GPUs.
    """
    lines = [
        (title, arm.label, str(len(runs)), *(_median([_last(t, name) for t in runs]) for name in GRADIENTS))
        for title, cells in done_by_row(results)
        for arm in results.record.arms
        if (runs := cells.get(arm.name))
    ]
    return Table(
        ("row", "arm", "runs", "gradient", "clipped", "noise / clipped", "cosine", "clipped / eps"),
        tuple(lines),
        "Medians over runs of means between the last two evaluations: norms of the gradient before and after the clip;"
        " norm of the noise over that of the clipped gradient; cosine between the update and minus that gradient;"
        " root mean square of its elements over the optimizer's eps. Where that is not far above 1, the update is not"
        " free of scale, and clip over eps is a learning rate in disguise.",
    )


def _watched(results: StudyResults) -> bool:
    return any(GRADIENTS[1] in trial.curves for trial in results.trials)


def _cells(runs: Sequence[TrialResult]) -> list[str]:
    best = [_at_best(t) for t in runs]
    return [
        *(_median([t.final.get(name, np.nan) for t in runs]) for name in ("error", "sequence_error", "strict_error")),
        _median([t.final.get(near, np.nan) for t in runs if (near := _near(t))]),
        _median(best),
        f"{sum(x < LOOSEST for x in best)}/{len(runs)}",
        *(_median([_last(t, name) for t in runs]) for name in ("length_limit", "gradient_norm", "noise_norm")),
    ]


def _near(trial: TrialResult) -> str:
    """Return the name of the error at the longest training length."""
    tests = trial.config.get("tests", ())
    return f"error_{tests[0]}" if len(tests) > 1 else "error"


def _at_best(trial: TrialResult) -> float:
    """Return the error at the tested length of the last checkpoint that was best at the training length."""
    near = trial.curves.get(_near(trial))
    far = trial.curves.get("error")
    if near is None or far is None or not len(near.values) or len(near.values) != len(far.values):
        return float(trial.final.get("error", np.nan))
    values = np.where(np.isfinite(near.values), near.values, np.inf)
    return float(far.values[len(values) - 1 - int(np.argmin(values[::-1]))])


def _last(trial: TrialResult, name: str) -> float:
    curve = trial.curves.get(name)
    return float(curve.values[-1]) if curve is not None and len(curve.values) else np.nan


def _median(values: Sequence[float]) -> str:
    finite = [x for x in values if np.isfinite(x)]
    return f"{median(finite):.3g}" if finite else ""
