"""How many seeds show an effect of a given size, comparison by comparison, from a pilot or a spread that you name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gradnoise.errors import StudyError
from gradnoise.study.analysis.comparison import Comparison
from gradnoise.study.analysis.shapes import Summary
from gradnoise.study.analysis.statistics import (
    CONFIDENCE,
    POWER,
    Pairs,
    clopper_pearson,
    detectable_rate,
    effect_shown,
    finite_vector,
    least_pairs,
    mcnemar_unconditional,
    mean_and_spread,
    pairs_for_effect,
    pairs_to_decide_rate,
)
from gradnoise.study.spec import Study


@dataclass(frozen=True)
class Spread:
    """What is known of how the pairs of a comparison differ, at both ends of an 80% interval.

    Args:
        low, high: standard deviation of the paired differences, in the unit of the metric; where the metric is a rate,
            the share of pairs in which the less successful arm alone succeeds.
        pairs: of the pilot that it comes from; 0 where it was named.
        rate_of: the value of a success where the metric is a rate; None for a mean.
    """

    low: float
    high: float
    pairs: int = 0
    rate_of: float | None = None


@dataclass(frozen=True)
class Need:
    """What one comparison of a study needs.

    Args:
        row, arm: where it stands.
        spread: what is known of its pairs; None where the pilot does not tell.
        seeds: how many show the effect, for the favourable and the unfavourable end of the spread; None where that is
            unknown, and `high` None where no number would do.
        shown: the smallest effect that the study's own number of seeds shows at the unfavourable end; None if none.
    """

    row: str
    arm: str
    spread: Spread | None
    seeds: Pairs | None
    shown: float | None


def seeds_needed(
    study: Study,
    effect: float,
    *,
    pilot: Summary | None = None,
    spread: float | None = None,
    power: float = POWER,
    level: float = 0.95,
) -> tuple[Need, ...]:
    """Return what each comparison of a study needs to show an effect.

    Levels are divided by the number of comparisons in the family of the comparison, as for rows that have nothing to
    do with each other; rows that agree need fewer seeds.

    Args:
        study: what is planned.
        effect: size of the difference to show, > 0, in the unit of the metric.
        pilot: finished pairs of the same rows and arms.
        spread: standard deviation of the paired differences of all comparisons, > 0, in place of a pilot.
        power: chance to show the effect, in (0, 1).
        level: of the verdicts, in (0, 1).

    Raises:
        StudyError: the effect, the spread or the power is out of range.
    """
    for name, value in (("effect", effect), ("spread", spread)):
        if value is not None and not 0.0 < value < math.inf:
            raise StudyError(f"{name} is {value}: give a number > 0, in the unit of the metric")
    if not 0.0 < power < 1.0:
        raise StudyError(f"power is {power}: give a chance between 0 and 1, such as 0.8")
    places = list(dict.fromkeys(_places(study)))
    claimed = {(c.row, c.treatment) for c in study.claims if c.expects != "chance"}
    first = claimed or set(places)
    needs = []
    for place in places:
        family = len(first) if place in first else len(places) - len(first & set(places))
        known = Spread(spread, spread) if spread is not None else _known(pilot, place)
        needs.append(_need(place, known, effect, len(study.seeds), (1.0 - level) / family, 1.0 - level, power))
    return tuple(needs)


def too_few_seeds(study: Study, *, level: float = 0.95) -> str:
    """Say that a study has too few seeds to decide anything, whatever its pairs show, and how many could; "" if not.

    Mean differences need `least_pairs`, since rows that agree are tested jointly at no cost; rates need so many pairs
    that McNemar's test passes, adjusted for their family, if every pair differs in the same direction.

    Args:
        study: what is planned; the seeds that it may ever have count (`max_seeds`).
        level: of the verdicts, in (0, 1).
    """
    alpha, seeds = 1.0 - level, max(len(study.seeds), study.max_seeds or 0)
    needed = least_pairs(alpha)
    if study.metric.rate:
        family = max(len({*_places(study)}) - 1, 1)  # a pooled gate may spare one
        needed = 1
        while mcnemar_unconditional(needed, 0, needed) * family > alpha:
            needed += 1
    if seeds >= needed or not any(_places(study)):
        return ""
    return f"{seeds} seed{'s' if seeds > 1 else ''} can decide nothing, whatever they show: it takes {needed}."


def _places(study: Study) -> Iterator[tuple[str, str]]:
    """Yield row and arm of every comparison with the baseline."""
    for setting in study.settings:
        names = [a.name for a in study.arms if setting.arms is None or a.name in setting.arms]
        if study.baseline.name in names:
            yield from ((setting.row, name) for name in names if name != study.baseline.name)


def _known(pilot: Summary | None, place: tuple[str, str]) -> Spread | None:
    effect = pilot.effect(*place) if pilot else None
    return None if effect is None else spread_seen(effect.comparison)


def spread_seen(comparison: Comparison) -> Spread | None:
    """Return what the pairs of a comparison tell of their spread; None with fewer than two, or if all are alike."""
    n, ends = comparison.n, ((1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0)
    if comparison.rate_of is not None:
        share = clopper_pearson(min(comparison.changed), n, CONFIDENCE) if n else None
        return Spread(share.low, min(share.high, 0.5), n, comparison.rate_of) if share else None
    found = mean_and_spread(finite_vector(comparison.differences, "differences"))
    if found is None:
        return None
    low, high = found[1] * np.sqrt((n - 1) / stats.chi2.ppf(ends[::-1], n - 1))
    return Spread(float(low), float(high), n)


def _need(
    place: tuple[str, str],
    spread: Spread | None,
    effect: float,
    seeds: int,
    alpha: float,
    whole: float,
    power: float,
) -> Need:
    if spread is None:
        return Need(*place, None, None, None)
    if spread.rate_of is not None:
        share = effect / spread.rate_of
        low, high = (_rate(lost, share, alpha, power) for lost in (spread.low, spread.high))
        lost = round(spread.high * seeds)
        found = detectable_rate(lost, seeds, alpha=alpha, power=power)
        shown = None if found is None else found * spread.rate_of
    else:
        least = least_pairs(whole)
        low, high = (
            pairs_for_effect(s, effect, alpha=alpha, power=power, least=least) for s in (spread.low, spread.high)
        )
        shown = effect_shown(spread.high, seeds, alpha=alpha, power=power, least=least)
    needed = None if low is None else Pairs(low, None if high is None else max(low, high))
    return Need(*place, spread, needed, shown)


def _rate(lost: float, gain: float, alpha: float, power: float) -> int | None:
    """Return the pairs that show a gain of a rate where so many pairs lose; None where there is no room for it."""
    return pairs_to_decide_rate(lost + gain, lost, alpha=alpha, power=power) if 2.0 * lost + gain <= 1.0 else None
