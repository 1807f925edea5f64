"""One run for a cell: in each setting the restart that training itself would choose, as in "best of 10 restarts".

Which restart is best is partly luck. So every number of the chosen runs has an interval, from drawing as many
restarts again, with replacement, and choosing anew, and is reported with the mean over all restarts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradnoise.study.analysis.scores import Reading, counted_value, read
from gradnoise.study.analysis.statistics import Interval
from gradnoise.study.analysis.statistics.draws import BATCH
from gradnoise.study.results import TrialResult
from gradnoise.study.spec import Metric, Selection

RESAMPLES = 10_000


@dataclass(frozen=True)
class ChosenMetric:
    """One metric: of the chosen runs, and over all restarts."""

    metric: Metric
    value: float
    """Of the chosen runs, mean over the settings of the row; nan where one has no such value."""
    interval: Interval
    """Percentile interval of `value` over resampled restarts."""
    over_restarts: Reading
    """The same metric over all restarts."""


@dataclass(frozen=True)
class Chosen:
    """What the chosen runs of one arm in one row scored."""

    restarts: int
    """How many seeds are done in every setting of the row: the choice is among them."""
    seeds: Mapping[str, int]
    """Setting -> seed of its chosen run."""
    metrics: tuple[ChosenMetric, ...]
    """In the order of `Selection.report`."""

    def of(self, metric: str) -> ChosenMetric:
        """Return the entry of a metric by its name."""
        return next(m for m in self.metrics if m.metric.name == metric)


def choose(
    trials: Sequence[TrialResult], selection: Selection, level: float, seed: int, *, resamples: int = RESAMPLES
) -> Chosen:
    """Choose a run in each setting and read the reported metrics of the chosen ones.

    Args:
        trials: runs of one arm and row, over all settings and seeds; those not done are left out.
        selection: how to choose, and what to read.
        level: confidence level, in (0, 1).
        seed: seed of the resampling.
        resamples: how often restarts are drawn again.
    """
    runs = _whole(trials)
    rank = _ranks(runs, selection)
    values = np.array([[[counted_value(t, m) for m in selection.report] for t in row] for row in runs])
    low, high = _interval(rank, values, level, seed, resamples) if len(runs) > 1 else _unbounded(selection)
    scored = _of_chosen(values, rank, np.arange(len(runs))[None])[0] if runs else [math.nan] * len(selection.report)
    return Chosen(
        restarts=len(runs),
        seeds={setting: trial.seed for setting, trial in chosen_trials(trials, selection).items()},
        metrics=tuple(
            ChosenMetric(
                m, float(scored[k]), Interval(low[k], high[k], level), read(trials, counted_value, m, level, seed)
            )
            for k, m in enumerate(selection.report)
        ),
    )


def chosen_trials(trials: Sequence[TrialResult], selection: Selection) -> dict[str, TrialResult]:
    """Choose the run that stands for each setting.

    Args:
        trials: runs of one arm and row, over all settings and seeds.
        selection: how to choose.

    Returns:
        Setting -> run; {} as long as no seed is done in every setting.
    """
    runs = _whole(trials)
    best = _ranks(runs, selection).argmin(0) if runs else []
    return {runs[i][s].setting: runs[i][s] for s, i in enumerate(best)}


def _whole(trials: Sequence[TrialResult]) -> list[list[TrialResult]]:
    """Collect the runs [R][S] of the R seeds that are done in all S settings, seeds ascending."""
    settings = list(dict.fromkeys(t.setting for t in trials))
    done = {(t.setting, t.seed): t for t in trials if t.done}
    seeds = sorted({seed for _, seed in done if all((s, seed) in done for s in settings)})
    return [[done[s, seed] for s in settings] for seed in seeds]


def _ranks(runs: Sequence[Sequence[TrialResult]], selection: Selection) -> NDArray[np.int64]:
    """Rank the restarts in each setting, [R, S]: 0 is chosen; equal restarts are ranked by seed."""
    rank = np.zeros((len(runs), len(runs[0]) if runs else 0), np.int64)
    for s in range(rank.shape[1]):
        keys = [[math.inf if math.isnan(v) else v for v in _keys(row[s], selection)] for row in runs]
        for place, i in enumerate(sorted(range(len(runs)), key=keys.__getitem__)):
            rank[i, s] = place
    return rank


def _keys(trial: TrialResult, selection: Selection) -> list[float]:
    return [float(trial.final.get(name, math.nan)) for name in selection.by]


def _of_chosen(values: NDArray[np.float64], rank: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average M metrics over settings, [B, M], for the runs chosen in each of B draws of K restarts."""
    chosen = np.take_along_axis(drawn, rank[drawn].argmin(1), 1)  # [B, S]
    return values[chosen, np.arange(rank.shape[1])].mean(1)


def _interval(
    rank: NDArray[np.int64], values: NDArray[np.float64], level: float, seed: int, resamples: int
) -> tuple[list[float], list[float]]:
    """Compute the ends of the percentile intervals, [M]; a restart is drawn as a whole, with all its settings."""
    rng, (n, settings) = np.random.Generator(np.random.PCG64(seed)), rank.shape
    rows = max(1, BATCH // (n * settings))
    sizes = [(min(rows, resamples - start), n) for start in range(0, resamples, rows)]
    pieces = [_of_chosen(values, rank, rng.integers(n, size=size)) for size in sizes]
    low, high = np.quantile(np.concatenate(pieces), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low.tolist(), high.tolist()


def _unbounded(selection: Selection) -> tuple[list[float], list[float]]:
    return [-math.inf] * len(selection.report), [math.inf] * len(selection.report)
