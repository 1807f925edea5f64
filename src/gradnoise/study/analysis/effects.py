"""The paired effects of a study: comparisons, the families that they are judged in, and verdicts.

The published claims that a study declares are its primary family, fixed before the data and whatever rows and arms
were run; every other comparison belongs to a second family, which explores.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradnoise.errors import StudyError
from gradnoise.study.analysis.comparison import Comparison, compare, compare_successes
from gradnoise.study.analysis.copies import copies
from gradnoise.study.analysis.evidence import Chance, Evidence, Tested, evidence
from gradnoise.study.analysis.looks import Monitoring, monitoring
from gradnoise.study.analysis.scores import (
    CHANCE_MARGINS,
    Score,
    counted_value,
    is_rate,
    other_value,
    paired_seed_means,
    seed_means,
    succeeded,
)
from gradnoise.study.analysis.shapes import Effect, difference_unit
from gradnoise.study.analysis.verdict import Verdict, decide, outcome_of
from gradnoise.study.results import Look, StudyRecord, TrialResult
from gradnoise.study.spec import Claim, Metric

Trials = Sequence[TrialResult]
Groups = tuple[Trials, Trials]
Place = tuple[str, str]
"""Row and arm."""


@dataclass(frozen=True)
class Question:
    """What all comparisons of a study have in common.

    Args:
        record: the study, its metric without the margin where that cannot be used.
        reach: how far apart a run that succeeds and one that fails may lie; None without a success rule.
        level: confidence level.
        looks: times at which its verdicts were read before.
    """

    record: StudyRecord
    reach: float | None
    level: float
    looks: tuple[Look, ...] = ()

    @property
    def metric(self) -> Metric:
        """The primary metric."""
        return self.record.metric


def effects_of(
    groups: Mapping[Place, Trials], asked: Question
) -> tuple[tuple[Effect, ...], dict[Place, Chance], Monitoring | None]:
    """Compare every arm with the baseline of its row, and the arms of claims about chance with chance.

    Args:
        groups: runs by row and arm, in the order of the tables.
        asked: what the comparisons have in common.
    """
    baseline = asked.record.arms[0].name
    pairs: dict[Place, Groups] = {}
    for (row, arm), treated in groups.items():
        shared = _shared_settings(groups.get((row, baseline), ()), treated)
        if arm != baseline and shared[1]:
            pairs[row, arm] = shared
    tested = {place: _tested(pair, asked, counted_value) for place, pair in pairs.items()}
    second = tested if _one_reading(pairs, asked.metric) else _second(pairs, asked)
    chances = {
        (c.row, c.treatment): _against_chance(groups.get((c.row, c.treatment), ()), asked)
        for c in asked.record.claims
        if c.expects == "chance" and asked.metric.chance is not None and asked.metric.margin is not None
    }
    looked = monitoring(asked.record, asked.looks, {s for t in tested.values() for s in t.differences})
    proofs, against = _proofs(tested, chances, asked.record.claims, looked)
    primary = _primary(asked.record.claims) or set(tested)
    others = proofs if second is tested else _proofs(second, {}, asked.record.claims, looked)[0]
    effects = tuple(
        _effect(place, (tested[place], proofs[place]), (second[place], others[place]), place in primary, asked)
        for place in pairs
    )
    return effects, {place: Chance(chances[place], proof) for place, proof in against.items()}, looked


def _primary(claims: Sequence[Claim]) -> set[Place]:
    return {(c.row, c.treatment) for c in claims if c.expects != "chance"}


def _proofs(
    tested: Mapping[Place, Tested],
    chances: Mapping[Place, Tested],
    claims: Sequence[Claim],
    looked: Monitoring | None,
) -> tuple[dict[Place, Evidence], dict[Place, Evidence]]:
    named = _primary(claims)
    first = [place for place in tested if not named or place in named]
    second = [place for place in tested if place not in first]
    expected = {c.expects for c in claims if c.expects != "chance"}
    found = evidence(
        [*(tested[p] for p in first), *chances.values()],
        declared=max(len(named), len(first)) + len(chances),
        same_direction=len(expected) == 1 and expected <= {"helps", "hurts"},
        looked=looked,
    )
    proofs = dict(zip(first, found[: len(first)], strict=True))
    proofs |= dict(zip(second, evidence([tested[p] for p in second], looked=looked), strict=True))
    return proofs, dict(zip(chances, found[len(first) :], strict=True))


def _one_reading(pairs: Mapping[Place, Groups], metric: Metric) -> bool:
    """Tell whether every run has the same value by both readings, as where it was evaluated once."""
    runs = (trial for pair in pairs.values() for trials in pair for trial in trials)
    values = ((counted_value(t, metric), other_value(t, metric)) for t in runs)
    return all(x == y or (math.isnan(x) and math.isnan(y)) for x, y in values)


def _second(pairs: Mapping[Place, Groups], asked: Question) -> dict[Place, Tested]:
    return {place: _tested(pair, asked, other_value) for place, pair in pairs.items()}


def _tested(pair: Groups, asked: Question, score: Score) -> Tested:
    metric = asked.metric
    comparison = _compare(pair, score, asked)
    seeds = paired_seed_means(*pair, score, metric)[0]
    return Tested(
        comparison,
        dict(zip(seeds, comparison.differences, strict=True)),
        metric.margin,
        None if comparison.rate else asked.reach,
        _refusal(pair, asked, score),
    )


def _refusal(pair: Groups, asked: Question, score: Score) -> str:
    """Say why pairs that are copies, or left out, make a verdict unfair; "" where none is."""
    if copies(*pair):
        return (
            "No verdict: all seeds are the same run, in both arms and in every metric, and copies are no evidence; draw"
            " weights or minibatches from the seed."
        )
    lost = [sum(t.done and not math.isfinite(score(t, asked.metric)) for t in trials) for trials in pair]
    if not any(lost):
        return ""
    labels = {a.name: a.label for a in asked.record.arms}
    who = " and ".join(f"{n} of {labels[trials[0].arm]}" for n, trials in zip(lost, pair, strict=True) if n)
    return (
        f"No verdict: {sum(lost)} run{'s' if sum(lost) > 1 else ''} ({who}) diverged or ended without a finite"
        f" {asked.metric.title}, and leaving them out favours the arm that breaks more often; say what a broken model"
        " scores (`diverged_metrics` of the experiment, or `broken` of the metric)."
    )


def _effect(
    place: Place, counted: tuple[Tested, Evidence], other: tuple[Tested, Evidence], primary: bool, asked: Question
) -> Effect:
    tested, proof = counted
    return Effect(
        row=place[0],
        arm=place[1],
        seeds=tuple(tested.differences),
        comparison=tested.comparison,
        evidence=proof,
        primary=primary,
        verdict=_verdict(tested, proof, place[1], asked),
        second=other[0].comparison,
        second_outcome=outcome_of(*other, asked.metric.higher_is_better)[0],
    )


def _verdict(tested: Tested, proof: Evidence, arm: str, asked: Question) -> Verdict:
    record, metric = asked.record, asked.metric
    return decide(
        tested.comparison,
        treatment=next(a.label for a in record.arms if a.name == arm),
        baseline=record.arms[0].label,
        metric=metric.title,
        unit=difference_unit(metric),
        margin=metric.margin,
        evidence=proof,
        reach=tested.reach,
        refused=tested.refused,
        higher_is_better=metric.higher_is_better,
        independent=record.independent,
    )


def _shared_settings(baseline: Trials, treatment: Trials) -> Groups:
    both = {t.setting for t in baseline} & {t.setting for t in treatment}
    return [t for t in baseline if t.setting in both], [t for t in treatment if t.setting in both]


def _compare(pair: Groups, score: Score, asked: Question) -> Comparison:
    metric, seed, level = asked.metric, asked.record.study_seed, asked.level
    a, b = paired_seed_means(*pair, score, metric)
    # Whether the metric is compared as a rate is decided by the study, never by the numbers that came out.
    rate_of = metric.success if is_rate([*pair[0], *pair[1]], metric) else None
    if score is not counted_value and not {*a.values(), *b.values()} <= {0.0, rate_of}:
        rate_of = None  # what a run measured before its end may be no rate
    comparison = _compared([*a.values()], [*b.values()], rate_of, metric, level, seed)
    if metric.success is None:
        return comparison
    runs = [{(t.setting, t.seed): succeeded(t, metric, score) for t in trials if t.done} for trials in pair]
    both = sorted(runs[0].keys() & runs[1].keys())
    won_a, won_b = ([run[p] for p in both] for run in runs)
    success = compare_successes(won_a, won_b, [s for _, s in both], level=level, seed=seed)
    return dataclasses.replace(comparison, success=success)


def _compared(
    before: Sequence[float],
    after: Sequence[float],
    rate_of: float | None,
    metric: Metric,
    level: float,
    seed: int,
) -> Comparison:
    try:
        return compare(before, after, rate_of=rate_of, level=level, seed=seed)
    except ValueError as error:
        raise StudyError(f"metric {metric.name!r} cannot be compared: {error}") from error


def _against_chance(trials: Trials, asked: Question) -> Tested:
    """Compare the runs of one arm with chance, as with a baseline that always scores it."""
    metric, level, seed = asked.metric, asked.level, asked.record.study_seed
    values, chance = seed_means(trials, counted_value, metric), metric.chance or 0.0
    rate_of = metric.success if chance == 0.0 and is_rate(trials, metric) else None
    comparison = _compared([chance] * len(values), [*values.values()], rate_of, metric, level, seed)
    if metric.success is not None:
        won = [(succeeded(t, metric), t.seed) for t in trials if t.done]
        never = [metric.succeeded(chance)] * len(won)
        success = compare_successes(never, [w for w, _ in won], [s for _, s in won], level=level, seed=seed)
        comparison = dataclasses.replace(comparison, success=success)
    return Tested(
        comparison,
        dict(zip(values, comparison.differences, strict=True)),
        CHANCE_MARGINS * (metric.margin or 0.0),
        asked.reach,
        _refusal((trials, ()), asked, counted_value),
        chance=True,
    )
