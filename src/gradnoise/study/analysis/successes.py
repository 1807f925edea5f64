"""How often runs succeed: counts by row and arm, with exact intervals and exact tests against the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradnoise.study.analysis.scores import succeeded
from gradnoise.study.analysis.statistics import Interval, clopper_pearson, fisher_exact, mcnemar_exact, sign_flip
from gradnoise.study.results import Curve, StudyResults, TrialResult
from gradnoise.study.spec import Metric

Cells = Mapping[str, Sequence[TrialResult]]
"""Runs that are done, by arm."""

POOLED = "all"


@dataclass(frozen=True)
class Against:
    """Exact tests of an arm against the baseline; not adjusted for other comparisons."""

    gained: int
    """Shared seeds that succeed in this arm alone."""
    lost: int
    """Shared seeds that succeed in the baseline alone."""
    mcnemar: float
    """Two-sided p over shared seeds: McNemar's, or that of sign flips where a seed has several pairs."""
    fisher: float
    """Two-sided p over all runs of both arms."""


@dataclass(frozen=True)
class SuccessCount:
    """How many runs of one arm in one row succeed."""

    row: str
    """Title of the row; `POOLED` for all rows together."""
    arm: str
    successes: int
    n: int
    interval: Interval
    """Clopper-Pearson interval of the rate."""
    against: Against | None
    """None for the baseline."""


def done_by_row(results: StudyResults) -> list[tuple[str, Cells]]:
    """Group the runs that are done: (title of a row, arm -> runs), without rows that have none.

    Args:
        results: a study.
    """
    found = []
    for row, title in results.record.rows:
        cells: dict[str, list[TrialResult]] = {}
        for trial in results.trials:
            if trial.row == row and trial.done:
                cells.setdefault(trial.arm, []).append(trial)
        if cells:
            found.append((title, cells))
    return found


def success_counts(results: StudyResults, *, pool_by: str | None = None, level: float = 0.95) -> list[SuccessCount]:
    """Count the successes of every arm in every row, and test them against the baseline.

    Args:
        results: a study whose primary metric has a success rule.
        pool_by: key of the configuration. Two rows or more with the same arms, whose runs all agree in this key, are
            counted once more together. None pools nothing.
        level: confidence level, in (0, 1).

    Returns:
        Row by row, in the order of the study's arms; the pooled ones last.
    """
    rows = done_by_row(results)
    if pool_by is not None and len(rows) > 1 and _alike([cells for _, cells in rows], pool_by):
        arms = rows[0][1]
        rows.append((POOLED, {arm: [t for _, cells in rows for t in cells[arm]] for arm in arms}))
    arms = [arm.name for arm in results.record.arms]
    metric = results.record.metric
    return [_count(title, cells, arm, arms[0], metric, level) for title, cells in rows for arm in arms if arm in cells]


def _alike(rows: Sequence[Cells], key: str) -> bool:
    kinds = {(frozenset(cells), t.config.get(key)) for cells in rows for runs in cells.values() for t in runs}
    return len(kinds) == 1


def _count(row: str, cells: Cells, arm: str, baseline: str, metric: Metric, level: float) -> SuccessCount:
    runs = cells[arm]
    hits = sum(succeeded(t, metric) for t in runs)
    against = None if arm == baseline else _against(runs, cells.get(baseline, ()), metric)
    return SuccessCount(row, arm, hits, len(runs), clopper_pearson(hits, len(runs), level), against)


def _against(runs: Sequence[TrialResult], baseline: Sequence[TrialResult], metric: Metric) -> Against:
    won, without = _by_pair(runs, metric), _by_pair(baseline, metric)
    shared = sorted(won.keys() & without.keys())
    gained, lost = sum(won[p] > without[p] for p in shared), sum(won[p] < without[p] for p in shared)
    net: dict[int, float] = {}
    for pair in shared:
        net[pair[-1]] = net.get(pair[-1], 0.0) + won[pair] - without[pair]
    # Pairs of one seed are not independent: where a seed has several, it is the unit.
    p = mcnemar_exact(gained, lost) if len(net) == len(shared) else sign_flip([*net.values()], seed=0)
    fisher = fisher_exact(sum(won.values()), len(won), sum(without.values()), len(without))
    return Against(gained, lost, p, fisher)


def _by_pair(runs: Sequence[TrialResult], metric: Metric) -> dict[tuple[str, str, int], bool]:
    return {(t.row, t.setting, t.seed): succeeded(t, metric) for t in runs}


def success_curve(trial: TrialResult, metric: Metric) -> Curve:
    """Return 100 from the first evaluation on at which the run met the success rule, and 0 before.

    Args:
        trial: with a curve of the metric.
        metric: with a success rule.
    """
    curve = trial.curves[metric.name]
    met = [metric.succeeded(float(value)) for value in curve.values]
    return Curve(curve.steps, np.maximum.accumulate(np.where(met, 100.0, 0.0)))
