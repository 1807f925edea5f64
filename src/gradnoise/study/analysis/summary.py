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

from gradnoise.study.analysis.cautions import bound_of_none, chosen_of_one, reach, usable
from gradnoise.study.analysis.claims import Finding, judge
from gradnoise.study.analysis.effects import Question, effects_of
from gradnoise.study.analysis.evidence import Chance
from gradnoise.study.analysis.scores import (
    at_chance,
    by_setting,
    counted_value,
    other_value,
    read,
    short_settings,
    succeeded,
)
from gradnoise.study.analysis.selection import choose
from gradnoise.study.analysis.shapes import Cell, Effect, Fates, Summary
from gradnoise.study.analysis.statistics import best_of_k, wilson
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
    metric, cautions = usable(results.trials, results.record)
    cautions += chosen_of_one(results.trials, metric) + bound_of_none(results.trials, metric)
    record = dataclasses.replace(results.record, metric=metric)
    baseline, *treatments = (a.name for a in record.arms)
    groups: dict[tuple[str, str], list[TrialResult]] = {}
    for trial in results.trials:
        groups.setdefault((trial.row, trial.arm), []).append(trial)
    order = [(row, arm) for row, _ in record.rows for arm in (baseline, *treatments) if (row, arm) in groups]
    settings: dict[str, dict[str, None]] = {row: {} for row, _ in record.rows}
    for trial in results.trials:
        settings.get(trial.row, {})[trial.setting] = None
    short = {row: short_settings(labels) for row, labels in settings.items()}
    cells = tuple(_cell(groups[key], short[key[0]], record, level) for key in order)
    known = [trial for key in order for trial in groups[key]]
    asked = Question(record, None if metric.success is None else reach(known, metric), level, results.looks)
    effects, chances, looked = effects_of({key: groups[key] for key in order}, asked)
    findings = tuple(_judge(claim, cells, effects, chances, metric) for claim in record.claims)
    steps = [t.config.get("steps", record.steps) for t in known] or [record.steps]
    return Summary(
        record=record,
        asked=len(known),
        done=sum(t.done for t in known),
        updates=(min(steps), max(steps)),
        cells=cells,
        effects=effects,
        findings=findings,
        cautions=(*record.notes, *cautions, *([looked.sentence] if looked else [])),
    )


def _judge(
    claim: Claim,
    cells: Sequence[Cell],
    effects: Sequence[Effect],
    chances: Mapping[tuple[str, str], Chance],
    metric: Metric,
) -> Finding:
    where = (claim.row, claim.treatment)
    effect = next((e for e in effects if (e.row, e.arm) == where), None)
    cell = next((c for c in cells if (c.row, c.arm) == where), None)
    comparison, decision = (effect.comparison, effect.verdict) if effect else (None, None)
    return judge(claim, metric, comparison, decision, cell.final if cell else None, chances.get(where))


def _cell(trials: Trials, short: Mapping[str, str], record: StudyRecord, level: float) -> Cell:
    metric, seed = record.metric, record.study_seed
    values = [v for v in (counted_value(t, metric) for t in trials) if math.isfinite(v)]
    k = len(values) // 4
    pooled = k >= 2 and record.selection is None  # a selection chooses in each setting, not over all of them
    restarts = best_of_k(values, k, level, seed=seed, maximise=metric.higher_is_better) if pooled else None
    return Cell(
        row=trials[0].row,
        arm=trials[0].arm,
        asked=len(trials),
        n=len(values),
        final=read(trials, counted_value, metric, level, seed),
        second=read(trials, other_value, metric, level, seed),
        restarts=restarts,
        chosen=choose(trials, record.selection, level, seed) if record.selection else None,
        fates=_fates("", trials, metric, level),
        by_setting=tuple(_fates(label, group, metric, level) for label, group in by_setting(trials, short).items()),
    )


def _fates(setting: str, trials: Trials, metric: Metric, level: float) -> Fates:
    done = [t for t in trials if t.done]
    diverged = sum(t.status == "diverged" for t in done)
    stuck = sum(t.status == "finished" and at_chance(counted_value(t, metric), metric) for t in done)
    successes = None if metric.success is None else sum(succeeded(t, metric) for t in done)
    interval = None if successes is None else wilson(successes, len(done), level)
    return Fates(setting, len(done), stuck, len(done) - stuck - diverged, diverged, successes, interval)
