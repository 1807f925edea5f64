"""What runs scored: each run alone, each seed over the settings of its row, all runs of a cell together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradnoise.directions import Directed
from gradnoise.errors import StudyError, nearest
from gradnoise.study.analysis.statistics import Interval, scaled, sign_flip_interval, wilson
from gradnoise.study.results import Curve, TrialResult
from gradnoise.study.spec import Metric

#: A final value within this many margins of chance, or worse, counts as chance.
CHANCE_MARGINS = 1.5

#: A value of this size or more counts as not finite: sums of squares of such values would overflow.
HUGE = 1e150

#: From a trial to the number that it enters a mean with; nan leaves it out.
Score = Callable[[TrialResult, Metric], float]


@dataclass(frozen=True)
class Reading:
    """What the runs of one arm in one row scored."""

    best: float
    """Best run; nan without runs."""
    sd: float
    """Standard deviation over runs; nan for fewer than two."""
    mean: float
    """Mean over the seeds that have a value in every setting of the row, so that settings weigh equally."""
    interval: Interval
    """Interval of that mean over seeds that inverts the sign-flip test; Wilson's interval for a rate."""
    seeds: int
    """Number of those seeds."""


def read(trials: Sequence[TrialResult], score: Score, metric: Metric, level: float, seed: int) -> Reading:
    """Summarise what the runs of one arm in one row scored.

    Args:
        trials: runs of one arm and row, over all settings and seeds.
        score: `counted_value` or `other_value`.
        metric: what is read.
        level: confidence level, in (0, 1).
        seed: seed of the bootstrap.
    """
    # Sorted, so that the order of the runs leaves not one bit of the answer changed.
    values = np.sort([v for v in (score(t, metric) for t in trials) if math.isfinite(v)])
    means = list(seed_means(trials, score, metric).values())
    best = (values.max() if metric.higher_is_better else values.min()) if values.size else math.nan
    return Reading(
        best=float(best),
        sd=float(values.std(ddof=1)) if values.size > 1 else math.nan,
        mean=math.fsum(means) / len(means) if means else math.nan,
        interval=_interval(means, metric if is_rate(trials, metric) else None, level, seed),
        seeds=len(means),
    )


def is_rate(trials: Sequence[TrialResult], metric: Metric) -> bool:
    """Tell whether the value of a seed is a success or none: a rate in one setting, which no mean over settings is."""
    return metric.rate and len({t.setting for t in trials}) == 1


def _interval(means: Sequence[float], rate: Metric | None, level: float, seed: int) -> Interval:
    if rate is not None and rate.success is not None:
        return scaled(wilson(sum(x > 0 for x in means), len(means), level), rate.success)
    return sign_flip_interval(means, level, seed=seed)


def final_value(trial: TrialResult, metric: Metric) -> float:
    """Return the value of the last evaluation; nan if the trial is not done, or diverged without a declared value."""
    value = trial.final.get(metric.name, math.nan) if trial.done else math.nan
    if trial.done and metric.broken is not None and not is_finite(value):
        return metric.broken
    return float(value) if is_finite(value) else math.nan


def is_finite(value: float) -> bool:
    """Tell whether a value can be reckoned with: no nan, and smaller than HUGE."""
    return abs(value) < HUGE


def best_value(trial: TrialResult, metric: Metric) -> float:
    """Return the best over all evaluations, the final value included; nan where `final_value` is."""
    final = final_value(trial, metric)
    curve = trial.curves.get(metric.name)
    seen = np.empty(0) if curve is None else np.asarray(curve.values, float)
    seen = seen[np.abs(seen) < HUGE]
    if not math.isfinite(final) or not seen.size:
        return final
    return max(final, float(seen.max())) if metric.higher_is_better else min(final, float(seen.min()))


def counted_value(trial: TrialResult, metric: Metric) -> float:
    """Return the value that counts, see `Metric.at`; nan if the trial is not done, or broke without a declared value.

    Raises:
        StudyError: the metric was not measured where the measure that decides has its best.
    """
    by, broke = metric.by, trial.status == "diverged"
    if by is None or not trial.done:
        return final_value(trial, metric)
    curve = trial.curves.get(by.name)
    place = None if curve is None else _best_place(curve, by.higher_is_better)
    if curve is not None and place is not None:
        value = _value_at(trial, metric, by, int(curve.steps[place]))
    elif not broke and math.isfinite(final_value(trial, metric)):
        raise StudyError(_never_measured(trial, metric, by))
    else:
        value = math.nan
    if is_finite(value):
        return value
    return final_value(trial, metric) if broke else math.nan if metric.broken is None else metric.broken


def other_value(trial: TrialResult, metric: Metric) -> float:
    """Return the value of the second reading: the best evaluation where the last one counts, and the other way."""
    return best_value(trial, metric) if metric.by is None else final_value(trial, metric)


def _best_place(curve: Curve, higher: bool) -> int | None:
    """Return where a curve has its best value, the first of several; None where no value is finite."""
    finite = np.isfinite(curve.values)
    if not finite.any():
        return None
    worst = -math.inf if higher else math.inf
    values = np.where(finite, curve.values, worst)
    return int(values.argmax() if higher else values.argmin())


def _value_at(trial: TrialResult, metric: Metric, by: Directed, step: int) -> float:
    curve = trial.curves.get(metric.name)
    found = [] if curve is None else curve.values[curve.steps == step].tolist()
    if not found:
        raise StudyError(
            f"{metric.title} counts where a run has {by.words}, which the run of seed {trial.seed} in arm"
            f" {trial.arm!r} has after {step:,} updates, and there {metric.name!r} was not measured; measure both at"
            " the same evaluations"
        )
    return float(found[-1])


def _never_measured(trial: TrialResult, metric: Metric, by: Directed) -> str:
    return (
        f"{metric.title} counts where a run has {by.words}, and the run of seed {trial.seed} in arm {trial.arm!r} has"
        f" no finite {by.name!r}: it was measured in {', '.join(sorted(trial.curves)) or 'nothing'}"
        f"{nearest(by.name, trial.curves)}"
    )


def succeeded(trial: TrialResult, metric: Metric, score: Score = counted_value) -> bool:
    """Tell whether the value of a trial meets the success rule; one that diverged never does by its last evaluation."""
    at_the_end = score is final_value or (score is counted_value and metric.by is None)
    return trial.done and not (at_the_end and trial.status == "diverged") and metric.succeeded(score(trial, metric))


def at_chance(value: float, metric: Metric) -> bool:
    """Tell whether a value is at most CHANCE_MARGINS margins better than chance; False without chance or margin."""
    if metric.chance is None or metric.margin is None:
        return False
    gain = value - metric.chance if metric.higher_is_better else metric.chance - value
    return gain <= CHANCE_MARGINS * metric.margin


def seed_means(trials: Sequence[TrialResult], score: Score, metric: Metric) -> dict[int, float]:
    """Average each seed over the settings of `trials`: seed -> mean, for seeds with a value in every setting."""
    values: dict[int, list[float]] = {}
    for trial in trials:
        values.setdefault(trial.seed, []).append(score(trial, metric))
    settings = len({t.setting for t in trials})
    whole = {seed: v for seed, v in values.items() if len(v) == settings and all(map(math.isfinite, v))}
    return {seed: math.fsum(v) / len(v) for seed, v in sorted(whole.items())}


def paired_seed_means(
    baseline: Sequence[TrialResult], treatment: Sequence[TrialResult], score: Score, metric: Metric
) -> tuple[dict[int, float], dict[int, float]]:
    """Return `seed_means` of two arms, restricted to the seeds that both have."""
    a, b = seed_means(baseline, score, metric), seed_means(treatment, score, metric)
    return {s: a[s] for s in a if s in b}, {s: b[s] for s in b if s in a}


def short_settings(labels: Iterable[str]) -> dict[str, str]:
    """Shorten setting labels by the parts that all of them share; "" for the only setting of a row.

    Example:
        >>> short_settings(["init=he, lr=0.1", "init=he, lr=0.01"])
        {'init=he, lr=0.1': 'lr=0.1', 'init=he, lr=0.01': 'lr=0.01'}
    """
    labels = dict.fromkeys(labels)
    split = {label: re.split(r", (?=\w+=)", label) for label in labels}
    shared = set.intersection(*map(set, split.values())) if split else set()
    return {label: ", ".join(p for p in parts if p not in shared) for label, parts in split.items()}


def by_setting(trials: Iterable[TrialResult], short: Mapping[str, str]) -> dict[str, list[TrialResult]]:
    """Group trials by short setting label, in the order of `short`, which maps the settings of the whole row."""
    groups: dict[str, list[TrialResult]] = {label: [] for label in short.values()}
    for trial in trials:
        groups[short[trial.setting]].append(trial)
    return {label: group for label, group in groups.items() if group}
