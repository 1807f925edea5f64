"""Curves of several runs together: on common steps, their mean, their quantiles, and pooled over settings.

Runs end at different times. What a run counts with after its last evaluation is decided by the caller, run by run,
and applied in one place, `align`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from gradnoise.study.results import Curve, StudyResults, TrialResult


@dataclass(frozen=True)
class Aligned:
    """n curves on the T steps at which any of them was read."""

    steps: np.ndarray
    """[T], ascending."""
    values: np.ndarray
    """[n, T]; nan where `known` is False."""
    known: np.ndarray
    """[n, T]: whether the curve was read at this step, or counts on after its end. The value itself may be nan."""


@dataclass(frozen=True)
class PooledResult(TrialResult):
    """One arm and seed of a row; its curves are means over the settings of the row."""

    settings: int = 1
    """How many settings were averaged."""


def align(curves: Sequence[Curve], after: Sequence[float | None]) -> Aligned:
    """Put curves on common steps.

    Args:
        curves: one or more.
        after: with which value each curve counts on after its last step; None where it does not.
    """
    grid = np.unique(np.concatenate([c.steps for c in curves]))
    values = np.full((len(curves), grid.size), np.nan)
    known = np.zeros(values.shape, bool)
    for row, seen, curve, rest in zip(values, known, curves, after, strict=True):
        read = np.searchsorted(grid, curve.steps)
        row[read], seen[read] = curve.values, True
        if rest is not None:
            later = grid > curve.steps.max(initial=-1)
            row[later], seen[later] = rest, True
    return Aligned(grid, values, known)


def mean_curve(curves: Sequence[Curve], after: Sequence[float | None]) -> Curve:
    """Average curves at the steps at which all of them are known.

    Args:
        curves: one or more.
        after: as in `align`.
    """
    aligned = align(curves, after)
    whole = aligned.known.all(axis=0)
    return Curve(aligned.steps[whole], np.ascontiguousarray(aligned.values[:, whole]).mean(axis=0))


def quantiles(
    curves: Sequence[Curve], levels: Sequence[float], after: Sequence[float | None], *, most: int | None = None
) -> tuple[np.ndarray, ...]:
    """Compute quantiles over runs at every step; at each step over those that have a finite value there.

    Args:
        curves: one per run.
        levels: quantiles wanted, in [0, 1].
        after: as in `align`.
        most: number of steps wanted at most; of more, that many are picked, and each curve counts with what was read
            last since the step before. None for all.

    Returns:
        The steps, [T], and one array [T] per level; steps without a finite value are left out.
    """
    if most is not None:
        curves = binned(curves, most)
    aligned = align(curves, after)
    table = np.where(np.isfinite(aligned.values), aligned.values, np.nan)
    seen = np.isfinite(table).any(axis=0)
    known = table[:, seen]
    of = np.quantile if np.isfinite(known).all() else np.nanquantile  # the latter is far slower
    return aligned.steps[seen], *(of(known, level, axis=0) for level in levels)


def binned(curves: Sequence[Curve], most: int) -> Sequence[Curve]:
    """Thin curves to at most `most` common steps: the value that was read last since the step before, if any was."""
    grid = np.unique(np.concatenate([c.steps for c in curves]))
    if grid.size <= most:
        return curves
    grid = grid[np.unique(np.linspace(0, grid.size - 1, most).round().astype(int))]
    thinned = []
    for curve in curves:
        last = np.searchsorted(curve.steps, grid, side="right") - 1
        before = np.concatenate([[-np.inf], grid[:-1]])
        there = (last >= 0) & (curve.steps[np.maximum(last, 0)] > before)
        thinned.append(Curve(grid[there], curve.values[last[there]]))
    return thinned


def last_value(curve: Curve) -> float | None:
    """Return the last value of a curve; None if it has no values."""
    return float(curve.values[-1]) if curve.values.size else None


def pooled(results: StudyResults, most: int) -> Iterator[TrialResult]:
    """Pool the settings of rows that have many: one curve for each arm and whole seed, the mean over the settings.

    A run that ended early counts on with its last value in that mean.

    Args:
        results: a study.
        most: settings that a row may have without being pooled.

    Returns:
        The trials of the other rows, and a `PooledResult` for each arm and seed of the pooled ones.
    """
    for row, _ in results.record.rows:
        mine = [t for t in results.trials if t.row == row]
        settings = {t.setting for t in mine}
        if len(settings) <= most:
            yield from mine
            continue
        groups: dict[tuple[str, int], list[TrialResult]] = {}
        for trial in mine:
            groups.setdefault((trial.arm, trial.seed), []).append(trial)
        yield from (_pool(group) for group in groups.values() if len(group) == len(settings))


def _pool(group: Sequence[TrialResult]) -> PooledResult:
    shared = set.intersection(*(set(t.curves) for t in group))
    curves = {name: _mean_over_settings(group, name) for name in sorted(shared)}
    values = {f.name: getattr(group[0], f.name) for f in fields(TrialResult)}
    values |= {"setting": f"mean over {len(group)} settings", "curves": curves}
    return PooledResult(**values, settings=len(group))


def _mean_over_settings(group: Sequence[TrialResult], metric: str) -> Curve:
    curves = [t.curves[metric] for t in group]
    return mean_curve(curves, [last_value(c) if _ended_early(t) else None for t, c in zip(group, curves, strict=True)])


def _ended_early(trial: TrialResult) -> bool:
    return trial.done and trial.step < trial.config.get("steps", 0)
