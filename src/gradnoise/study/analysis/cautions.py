"""What makes a margin, a bound or the choice of an evaluation meaningless: said before anything rests on it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from gradnoise.study.analysis.scores import counted_value
from gradnoise.study.results import StudyRecord, TrialResult
from gradnoise.study.spec import Metric


def reach(trials: Sequence[TrialResult], metric: Metric) -> float:
    """Return how far apart two runs may lie: the range of all values that count, of chance and of the success rule."""
    values = [v for v in (counted_value(t, metric) for t in trials) if math.isfinite(v)]
    values += [v for v in (metric.chance, metric.success) if v is not None]
    if metric.rate:
        values.append(0.0)
    return max(values, default=0.0) - min(values, default=0.0)


def chosen_of_one(trials: Sequence[TrialResult], metric: Metric) -> tuple[str, ...]:
    """Say that the best of one evaluation is the last one, where a metric counts elsewhere than at the last."""
    curves = [t.curves[metric.name] for t in trials if t.done and metric.name in t.curves]
    if metric.by is None or not curves or any(len(set(curve.steps)) > 1 for curve in curves):
        return ()
    return (f"Every run was evaluated once: {metric.at!r} of one evaluation is the last one.",)


def bound_of_none(trials: Sequence[TrialResult], metric: Metric) -> tuple[str, ...]:
    """Say that no run keeps a bound, or that all do, and between which values they end: the unit may be another."""
    if metric.of is None:
        return ()
    done = [t for t in trials if t.done]
    kept = {counted_value(t, metric) for t in done}
    ends = [v for v in (t.final.get(metric.measured, math.nan) for t in done) if math.isfinite(v)]
    if len(kept) != 1 or not ends:
        return ()
    who = "No run keeps" if kept == {0.0} else "Every run keeps"
    return (
        f"{who} {metric.of}, which so tells no arm from another: {metric.measured} ends between {min(ends):.3g} and"
        f" {max(ends):.3g}.",
    )


def usable(trials: Sequence[TrialResult], record: StudyRecord) -> tuple[Metric, tuple[str, ...]]:
    """Return the metric as verdicts may use it, and what there is to say about its margin.

    A margin that no two runs could exceed proves nothing, and a metric in % whose values all lie in [0, 1] is most
    likely a fraction: the metric comes back without its margin, so that nothing is called "no difference". A margin
    larger than all that the baseline's runs differ by is kept, and said.

    Args:
        trials: all runs of the study.
        record: its description.
    """
    metric = record.metric
    values = [v for v in (counted_value(t, metric) for t in trials) if math.isfinite(v)]
    before = [v for v in (counted_value(t, metric) for t in trials if t.arm == record.arms[0].name) if math.isfinite(v)]
    if not metric.margin or not values:
        return metric, ()
    name, unit = f"margin {metric.margin:g} of {metric.title}", " points" if metric.unit == "%" else ""
    without = dataclasses.replace(metric, margin=None)
    if metric.unit == "%" and not metric.rate and max(values) > 0.0 and 0.0 <= min(values) <= max(values) <= 1.0:
        return without, (
            f"The {name} is not used: the metric is declared in %, and all its values lie between 0 and 1, like"
            " fractions. Declare another unit or a margin for fractions; until then nothing is called no difference.",
        )
    if metric.margin >= reach(trials, metric):
        return without, (
            f"The {name} is not used: no two runs differ by more than {reach(trials, metric):.3g}{unit}, chance and"
            " success rule included, so every difference would lie within it. Declare a smaller margin, or the"
            " chance level that gives the metric its scale.",
        )
    if len(before) > 1 and metric.margin > max(before) - min(before):
        return metric, (
            f"The {name} is larger than all that runs of {record.arms[0].label} differ by"
            f" ({max(before) - min(before):.3g}{unit}): no difference within it may still be a large one.",
        )
    return metric, ()
