"""Is what decides a study measured at all? Asked before training where the engine knows, and of every slice."""

from __future__ import annotations

import math
from collections.abc import Collection

from gradnoise.errors import StudyError, nearest
from gradnoise.study.description import Metric
from gradnoise.study.engine import SliceResult


def check_names(metric: Metric, names: Collection[str], experiment: str) -> None:
    """Check that the metric is measured, and what says which evaluation counts.

    Args:
        metric: the study's.
        names: of everything that an evaluation measures.
        experiment: its name.

    Raises:
        StudyError: one of them is not; the message has the nearest name that is. Or a rate of what is measured has the
            name of something else that is.
    """
    if metric.of is not None and metric.name in names:
        raise StudyError(
            f"the study's metric, {metric.of}, has the name {metric.name!r}, by which {experiment} measures something"
            " else; give it another"
        )
    by = metric.measured if metric.by is None or metric.by.name == metric.name else metric.by.name
    for name, what in ((metric.measured, "metric is"), (by, "metric counts at")):
        if name not in names:
            said = (metric.of or metric.name) if what == "metric is" else metric.at
            raise StudyError(
                f"the study's {what} {said!r}, but {experiment} measures no {name!r}: there are"
                f" {', '.join(sorted(names))}{nearest(name, names)}"
            )


def check_slice(metric: Metric, experiment: str, result: SliceResult) -> None:
    """Check what a slice measured, see `check_names`, and that a rate is one.

    Raises:
        StudyError: the metric is not measured, not where the evaluation that counts is looked for, or no rate.
    """
    declared = metric.rate and metric.of is None
    values = [v for _, name, _, v in result.rows if declared and name == metric.name and not math.isnan(v)]
    wrong = [v for v in values if v and not math.isclose(v, metric.success or 1.0, rel_tol=1e-6)]
    if wrong:
        raise StudyError(
            f"metric {metric.name!r} is declared a rate, of 0 or {metric.success:g}, but a run has {wrong[0]:g};"
            " measure 0 or that value of each run, or leave out rate=True"
        )
    if not result.rows:
        return
    check_names(metric, {name for _, name, _, _ in result.rows}, experiment)
    if metric.by is None:
        return
    own = {(trial, step) for trial, name, step, _ in result.rows if name == metric.measured}
    for trial, name, step, _ in result.rows:
        if name == metric.by.name and (trial, step) not in own:
            raise StudyError(
                f"the study's metric counts at {metric.at!r}, but after {step:,} updates a run has {name!r} and no"
                f" {metric.measured!r}; measure both at the same evaluations"
            )
