"""The rule that decides a paired comparison.

One criterion decides, fixed before the data: the sign-flip test of the paired mean difference of the primary
metric, with which the interval must agree. Success rates are reported with the verdict and decide nothing, unless
the primary metric is itself a rate: then McNemar's unconditional exact test decides, with Newcombe's interval. That
there is no difference takes a proof of its own, at the same level and over the same family.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradnoise.study.analysis.comparison import Comparison, Outcome
from gradnoise.study.analysis.evidence import ANYTIME, JOINT, Evidence, Tested, evidence
from gradnoise.study.analysis.statistics import (
    Pairs,
    Probabilities,
    check_margin,
    detectable_mean,
    detectable_rate,
    least_pairs,
    least_pairs_anytime,
    outlook_mean,
    outlook_rate,
    probabilities_mean,
    probabilities_rate,
)
from gradnoise.study.analysis.wording import Names, Said, success_sentence, verdict_sentence


@dataclass(frozen=True)
class Verdict:
    """A decision and the sentences that state it."""

    outcome: Outcome
    sentence: str
    pairs_needed: Pairs | None = None
    """If undecided: how many pairs would decide if the differences go on as seen; None if that cannot be told."""
    rates: str | None = None
    """The success rates in one sentence, if there are any; they decide nothing."""
    within: bool = False
    """Whether it is proved that the difference lies within the margin, also where the treatment helps or hurts."""
    detectable: float | None = None
    """If undecided: the smallest difference that so many pairs would have shown, with a chance of 80%."""
    better: float | None = None
    """Posterior probability that the treatment is better; None if it cannot be told."""
    equivalent: float | None = None
    """Posterior probability that the difference lies within the margin; None without a margin."""
    refused: bool = False
    """Whether there can be no verdict, whatever the numbers; the sentence says why."""


def decide(
    comparison: Comparison,
    *,
    treatment: str,
    baseline: str,
    metric: str,
    unit: str,
    margin: float | None,
    evidence: Evidence | None = None,
    reach: float | None = None,
    refused: str = "",
    higher_is_better: bool = True,
    independent: bool = False,
) -> Verdict:
    """Decide a comparison and state the decision in plain English.

    - helps, hurts: the adjusted p is at most alpha = 1 - level, and the interval leaves out 0.
    - no difference: otherwise, if the adjusted p that the difference is at least the margin is at most alpha.
    - undecided: otherwise, and always if there is a reason to refuse a verdict.

    With fewer than `least_pairs(alpha)` pairs no sign-flip test reaches alpha, so nothing is ever decided.

    Args:
        comparison: what `compare` returned; its level is the level of the decision.
        treatment: name of the treatment, such as "noise".
        baseline: name of the baseline, such as "no noise".
        metric: name of the primary metric, such as "test accuracy".
        unit: unit of the metric, such as "points"; "" for none.
        margin: largest difference that does not matter, >= 0, in that unit; None: never "no difference".
        evidence: p-values after adjustment over the family; None for a comparison that stands alone.
        reach: how far apart a run that succeeds and one that fails may lie, for a metric with a success rule; then
            "no difference" needs enough pairs to exclude successes that none of them has shown.
        refused: why there can be no verdict, a sentence; "" where there can.
        higher_is_better: whether a larger metric is better.
        independent: whether runs of one seed share nothing. The test stays valid, since independent runs, matched in
            any order, differ as likely one way as the other; only no sentence may speak of pairs.

    Raises:
        ValueError: if the margin is negative or not finite, or an adjusted p is not in [comparison.p, 1].
    """
    if margin is not None:
        check_margin(margin)
    tested = Tested(comparison, dict(enumerate(comparison.differences)), margin, reach, refused)
    proof = _alone(tested) if evidence is None else evidence
    if not (refused or comparison.p * (1.0 - 1e-9) <= proof.p <= 1.0):
        raise ValueError(f"the adjusted p is {proof.p}; it must lie between the raw p, {comparison.p}, and 1.")
    outcome, within = outcome_of(tested, proof, higher_is_better)
    undecided = outcome is Outcome.UNDECIDED and not refused
    pairs = _pairs_needed(tested, proof) if undecided else None
    detectable = _detectable(comparison, proof) if undecided else None
    names = Names(treatment, baseline, metric, unit, margin, higher_is_better, independent)
    said = Said(outcome, within, proof, pairs, detectable, tested.reach is not None)
    posterior = _posterior(comparison, margin)
    above = posterior.above if posterior else None
    return Verdict(
        outcome,
        refused or verdict_sentence(comparison, names, said),
        pairs,
        None if comparison.success is None else success_sentence(comparison.success, treatment, baseline),
        within,
        detectable,
        better=above if above is None or higher_is_better else 1.0 - above,
        equivalent=posterior.within if posterior else None,
        refused=bool(refused),
    )


def _alone(tested: Tested) -> Evidence:
    return evidence([tested])[0]


def outcome_of(tested: Tested, proof: Evidence, higher_is_better: bool) -> tuple[Outcome, bool]:
    """Return what is decided, see `decide`, and whether it is proved that the difference lies within the margin."""
    c, alpha = tested.comparison, _alpha(tested.comparison)
    if not tested.counts or c.n < least_pairs(alpha):
        return Outcome.UNDECIDED, False
    within = proof.p_within <= alpha
    if proof.p <= alpha and 0.0 not in c.interval:
        return Outcome.HELPS if (c.difference > 0.0) == higher_is_better else Outcome.HURTS, within
    return Outcome.NO_DIFFERENCE if within else Outcome.UNDECIDED, within


def _alpha(c: Comparison) -> float:
    return 1.0 - c.interval.level


def _pairs_needed(tested: Tested, proof: Evidence) -> Pairs | None:
    c, alpha = tested.comparison, _alpha(tested.comparison) / proof.family
    unseen = _unseen_pairs(tested, alpha)
    if c.rate:
        # Tango's ordering takes a few pairs more than the bound on one arm alone.
        found = outlook_rate(*c.changed, c.n, alpha=alpha, unseen=1.1 * unseen)
    elif c.n > 1 and not any(c.differences) and tested.margin:
        least = max(least_pairs(alpha), math.ceil(unseen))
        found = Pairs(least, least)
    else:
        found = outlook_mean(c.differences, margin=tested.margin, alpha=alpha, unseen=unseen)
    if found is None:
        return None
    low = max(found.low, c.n + 1, least_pairs_anytime(alpha) if proof.method == ANYTIME else 0)
    return Pairs(low, None if found.high is None else max(found.high, low))


def _unseen_pairs(tested: Tested, alpha: float) -> float:
    """Return how many pairs without a difference in success exclude one that matters."""
    reach = tested.comparison.rate_of or tested.reach
    if not reach:  # no success rule, or no run has ended yet
        return 0.0
    share = (tested.margin or 0.0) / reach
    if not 1e-9 < share < 1.0:
        return 0.0 if share >= 1.0 else math.inf
    return math.log(alpha / 2.0) / math.log1p(-share)


def _detectable(c: Comparison, proof: Evidence) -> float | None:
    alpha = _alpha(c) / proof.family
    if c.rate_of is None:
        joint = proof.method in ("", JOINT)  # where all rows agree, a joint test needs no more pairs than a single one
        return detectable_mean(c.differences, alpha=alpha, least=least_pairs(_alpha(c)) if joint else None)
    found = detectable_rate(min(c.changed), c.n, alpha=alpha)
    return None if found is None else found * c.rate_of


def _posterior(c: Comparison, margin: float | None) -> Probabilities | None:
    if c.rate_of is None:
        return probabilities_mean(c.differences, margin)
    share = None if margin is None else margin / c.rate_of
    return probabilities_rate(*c.changed, c.n, share, seed=c.seed) if c.n else None
