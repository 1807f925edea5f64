"""The rule that decides a paired comparison.

One criterion decides, fixed before the data: the sign-flip test of the paired mean difference of the primary
metric, with which the interval must agree. Success rates are reported with the verdict and decide nothing, unless
the primary metric is itself a rate: then McNemar's test decides, with Newcombe's interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradnoise.study.analysis.comparison import Comparison, Outcome
from gradnoise.study.analysis.statistics import (
    check_margin,
    least_pairs,
    pairs_to_decide_mean,
    pairs_to_decide_rate,
    sign_flip,
)
from gradnoise.study.analysis.wording import Names, success_sentence, verdict_sentence


@dataclass(frozen=True)
class Verdict:
    """A decision and the sentences that state it."""

    outcome: Outcome
    sentence: str
    pairs_needed: int | None
    """If undecided: pairs that would decide if the differences go on as seen; None if that cannot be told."""
    rates: str | None = None
    """The success rates in one sentence, if there are any; they decide nothing."""


def decide(
    comparison: Comparison,
    *,
    treatment: str,
    baseline: str,
    metric: str,
    unit: str,
    margin: float,
    p_adjusted: float | None = None,
    higher_is_better: bool = True,
) -> Verdict:
    """Decide a comparison and state the decision in plain English.

    - helps, hurts: p <= alpha = 1 - level, and the interval leaves out 0.
    - no difference: otherwise, if the interval lies within -margin..margin and the sign-flip tests against
      both ends have p <= alpha; or if all of at least `least_pairs(alpha)` pairs are identical. For a rate: if
      the interval lies within -margin..margin.
    - undecided: otherwise.

    With fewer than `least_pairs(alpha)` pairs no sign-flip test reaches alpha, so nothing is ever decided.

    Args:
        comparison: what `compare` returned; its level is the level of the decision.
        treatment: name of the treatment, such as "noise".
        baseline: name of the baseline, such as "no noise".
        metric: name of the primary metric, such as "test accuracy".
        unit: unit of the metric, such as "points"; "" for none.
        margin: largest difference that does not matter, >= 0, in that unit.
        p_adjusted: comparison.p after Holm's adjustment over the family of comparisons; replaces it.
        higher_is_better: whether a larger metric is better.

    Raises:
        ValueError: if the margin is negative or not finite, or p_adjusted is not in [comparison.p, 1].
    """
    check_margin(margin)
    p = comparison.p if p_adjusted is None else p_adjusted
    if not comparison.p * (1.0 - 1e-9) <= p <= 1.0:
        raise ValueError(f"p_adjusted is {p}; it must lie between the raw p, {comparison.p}, and 1.")
    outcome = _outcome(comparison, p, margin, higher_is_better)
    needed = _pairs_needed(comparison, p, margin) if outcome is Outcome.UNDECIDED else None
    names = Names(treatment, baseline, metric, unit, margin, higher_is_better)
    small = outcome in (Outcome.HELPS, Outcome.HURTS) and _within(comparison, margin)
    return Verdict(
        outcome,
        verdict_sentence(outcome, comparison, names, p=p, small=small, pairs_needed=needed),
        needed,
        None if comparison.success is None else success_sentence(comparison.success, treatment, baseline),
    )


def _outcome(c: Comparison, p: float, margin: float, higher_is_better: bool) -> Outcome:
    alpha = 1.0 - c.interval.level
    enough = c.n >= least_pairs(alpha)
    if p <= alpha and 0.0 not in c.interval and enough:
        return Outcome.HELPS if (c.difference > 0.0) == higher_is_better else Outcome.HURTS
    # Equal measured values in every pair mean equal runs. Equal success flags do not: both arms may simply have
    # succeeded every time.
    identical = not any(c.differences) and enough and not c.rate
    return Outcome.NO_DIFFERENCE if identical or _within(c, margin) else Outcome.UNDECIDED


def _within(c: Comparison, margin: float) -> bool:
    # The interval alone is too short for small n, and would lie within the margin too often.
    inside = -margin <= c.interval.low and c.interval.high <= margin
    if c.rate:
        return inside
    d, alpha = np.array(c.differences), 1.0 - c.interval.level
    return inside and all(sign_flip(d - end, seed=c.seed) <= alpha for end in (-margin, margin))


def _pairs_needed(c: Comparison, p: float, margin: float) -> int | None:
    # An adjusted p of r times the raw one reaches alpha when the raw one reaches alpha / r.
    alpha = (1.0 - c.interval.level) * min(1.0, c.p / p)
    if c.rate:
        gained, lost = (sum(sign * d > 0 for d in c.differences) / max(c.n, 1) for sign in (1, -1))
        needed = pairs_to_decide_rate(gained, lost, alpha=alpha)
        return None if needed is None else max(needed, c.n + 1)
    needed = pairs_to_decide_mean(c.differences, margin=margin, alpha=alpha)
    return None if needed is None else max(needed, c.n + 1)
