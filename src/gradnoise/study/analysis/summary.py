"""From the results of a study to its summary: cells, paired effects, verdicts, findings on published claims.

The seed is the unit of every test and of every interval of a mean. A row pools settings (two learning
rates, say), and the runs of one seed share initial weights and minibatches: values are first averaged
over the row's settings within a seed, and a seed that lacks a setting is not counted yet. Success counts
take each run for itself, since counts cannot be averaged. They decide nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from gradnoise.study.analysis.claims import Finding, judge
from gradnoise.study.analysis.comparison import Comparison, compare
from gradnoise.study.analysis.scores import (
    Score,
    at_chance,
    best_value,
    by_setting,
    final_value,
    paired_seed_means,
    read,
    short_settings,
    succeeded,
)
from gradnoise.study.analysis.selection import choose
from gradnoise.study.analysis.shapes import Cell, Effect, Fates, Summary, difference_unit
from gradnoise.study.analysis.statistics import best_of_k, holm, wilson
from gradnoise.study.analysis.verdict import Verdict, decide
from gradnoise.study.results import StudyRecord, StudyResults, TrialResult
from gradnoise.study.spec import Claim, Metric

Trials = Sequence[TrialResult]


def summarise(results: StudyResults, *, level: float = 0.95) -> Summary:
    """Summarise a study: score its runs, compare its arms over pairs, judge the claims that it tests.

    Args:
        results: a record and its trials; trials that are not done yet are counted as asked for only.
        level: confidence level of all intervals and verdicts, in (0, 1).

    Raises:
        StudyError: if a claim expects something that is not one of `EXPECTATIONS`.
    """
    record = results.record
    baseline, *treatments = (a.name for a in record.arms)
    groups: dict[tuple[str, str], list[TrialResult]] = {}
    for trial in results.trials:
        groups.setdefault((trial.row, trial.arm), []).append(trial)
    order = [(row, arm) for row, _ in record.rows for arm in (baseline, *treatments) if (row, arm) in groups]
    short = {row: short_settings(t.setting for t in results.trials if t.row == row) for row, _ in record.rows}
    cells = tuple(_cell(groups[key], short[key[0]], record, level) for key in order)
    treated = [(row, arm) for row, arm in order if arm != baseline]
    pairs = [_shared_settings(groups.get((row, baseline), ()), groups[row, arm]) for row, arm in treated]
    effects = _effects([pair for pair in pairs if pair[1]], record, level)
    known = [trial for key in order for trial in groups[key]]
    findings = tuple(_judge(claim, cells, effects, record.metric) for claim in record.claims)
    steps = [t.config.get("steps", record.steps) for t in known] or [record.steps]
    return Summary(
        record=record,
        asked=len(known),
        done=sum(t.done for t in known),
        updates=(min(steps), max(steps)),
        cells=cells,
        effects=effects,
        findings=findings,
    )


def _judge(claim: Claim, cells: Sequence[Cell], effects: Sequence[Effect], metric: Metric) -> Finding:
    where = (claim.row, claim.treatment)
    effect = next((e for e in effects if (e.row, e.arm) == where), None)
    cell = next((c for c in cells if (c.row, c.arm) == where), None)
    comparison, decision = (effect.comparison, effect.verdict) if effect else (None, None)
    return judge(claim, metric, comparison, decision, cell.final if cell else None)


def _cell(trials: Trials, short: Mapping[str, str], record: StudyRecord, level: float) -> Cell:
    metric, seed = record.metric, record.study_seed
    values = [v for v in (final_value(t, metric) for t in trials) if math.isfinite(v)]
    k = len(values) // 4
    pooled = k >= 2 and record.selection is None  # a selection chooses in each setting, not over all of them
    restarts = best_of_k(values, k, level, seed=seed, maximise=metric.higher_is_better) if pooled else None
    return Cell(
        row=trials[0].row,
        arm=trials[0].arm,
        asked=len(trials),
        n=len(values),
        final=read(trials, final_value, metric, level, seed),
        over_training=read(trials, best_value, metric, level, seed),
        restarts=restarts,
        chosen=choose(trials, record.selection, level, seed) if record.selection else None,
        fates=_fates("", trials, metric, level),
        by_setting=tuple(_fates(label, group, metric, level) for label, group in by_setting(trials, short).items()),
    )


def _fates(setting: str, trials: Trials, metric: Metric, level: float) -> Fates:
    done = [t for t in trials if t.done]
    diverged = sum(t.status == "diverged" for t in done)
    stuck = sum(t.status == "finished" and at_chance(final_value(t, metric), metric) for t in done)
    successes = None if metric.success is None else sum(succeeded(t, metric) for t in done)
    interval = None if successes is None else wilson(successes, len(done), level)
    return Fates(setting, len(done), stuck, len(done) - stuck - diverged, diverged, successes, interval)


Groups = tuple[Trials, Trials]


def _effects(pairs: Sequence[Groups], record: StudyRecord, level: float) -> tuple[Effect, ...]:
    """Compare pairs of (baseline trials, treatment trials), and adjust their p-values together."""
    comparisons = [_compare(pair, final_value, record, level) for pair in pairs]
    adjusted = holm([c.p for c in comparisons])
    return tuple(
        Effect(
            row=pair[1][0].row,
            arm=pair[1][0].arm,
            seeds=tuple(paired_seed_means(*pair, final_value, record.metric)[0]),
            comparison=comparison,
            p_adjusted=float(p),
            verdict=_verdict(comparison, float(p), pair[1][0].arm, record),
            over_training=_compare(pair, best_value, record, level),
        )
        for pair, comparison, p in zip(pairs, comparisons, adjusted, strict=True)
    )


def _verdict(comparison: Comparison, p: float, arm: str, record: StudyRecord) -> Verdict:
    metric = record.metric
    return decide(
        comparison,
        treatment=next(a.label for a in record.arms if a.name == arm),
        baseline=record.arms[0].label,
        metric=metric.title,
        unit=difference_unit(metric),
        margin=metric.margin,
        p_adjusted=p,
        higher_is_better=metric.higher_is_better,
    )


def _shared_settings(baseline: Trials, treatment: Trials) -> Groups:
    both = {t.setting for t in baseline} & {t.setting for t in treatment}
    return [t for t in baseline if t.setting in both], [t for t in treatment if t.setting in both]


def _compare(pair: Groups, score: Score, record: StudyRecord, level: float) -> Comparison:
    metric, seed = record.metric, record.study_seed
    a, b = paired_seed_means(*pair, score, metric)
    rate_of = metric.success if metric.rate else None
    comparison = compare([*a.values()], [*b.values()], rate_of=rate_of, level=level, seed=seed)
    if metric.success is None or score is not final_value:
        return comparison
    runs = [{(t.setting, t.seed): float(succeeded(t, metric)) for t in trials if t.done} for trials in pair]
    pairs = sorted(runs[0].keys() & runs[1].keys())
    won_a, won_b = ([run[p] for p in pairs] for run in runs)
    counted = compare(won_a, won_b, success_baseline=won_a, success_treatment=won_b, level=level, seed=seed)
    return dataclasses.replace(comparison, success=counted.success)
