"""Whether a published claim is reproduced, by rules fixed before the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradnoise.errors import StudyError
from gradnoise.study.analysis.comparison import Comparison, Outcome
from gradnoise.study.analysis.evidence import Chance
from gradnoise.study.analysis.scores import CHANCE_MARGINS, Reading
from gradnoise.study.analysis.statistics import least_pairs
from gradnoise.study.analysis.verdict import Verdict
from gradnoise.study.description import EXPECTATIONS
from gradnoise.study.spec import Claim, Metric

REPRODUCED, NOT_REPRODUCED, UNDECIDED, NOT_TESTED = "reproduced", "not reproduced", "undecided", "not tested"


@dataclass(frozen=True)
class Finding:
    """A published claim and what became of it."""

    claim: Claim
    status: str
    """"reproduced", "not reproduced", "undecided" or "not tested"."""
    reason: str
    """Why, in a sentence."""


def judge(
    claim: Claim,
    metric: Metric,
    comparison: Comparison | None,
    verdict: Verdict | None,
    treatment: Reading | None,
    chance: Chance | None = None,
) -> Finding:
    """Judge whether a claim is reproduced.

    - helps, hurts: reproduced if that is the verdict; not reproduced if the verdict is another one.
    - no difference: reproduced if the verdict is that one, or that the treatment helps or hurts by proof within the
      margin.
    - no help: reproduced if the verdict is that the treatment hurts or makes no difference.
    - chance: reproduced if the treatment's mean is proved to lie within CHANCE_MARGINS margins of chance, by the test
      that verdicts of no difference rest on; not reproduced if it is proved to lie outside.
    - an undecided verdict leaves every claim undecided.

    Args:
        claim: what was published.
        metric: the study's primary metric.
        comparison, verdict: the treatment against the baseline; None where they do not run as a pair.
        treatment: what the treatment's runs scored at the end; None where it does not run.
        chance: the same against chance, for claims about it.

    Raises:
        StudyError: if the claim expects something that is not one of `EXPECTATIONS`.
    """
    if claim.expects not in EXPECTATIONS:
        raise StudyError(f"claim {claim.id} expects {claim.expects!r}; it must be one of {', '.join(EXPECTATIONS)}")
    if claim.expects == "chance":
        return _judge_chance(claim, metric, treatment, chance)
    if comparison is None or verdict is None or comparison.n == 0:
        return Finding(claim, NOT_TESTED, "No pair of this row and arm is done.")
    if verdict.outcome is Outcome.UNDECIDED:
        return Finding(claim, UNDECIDED, verdict.sentence)
    no_help = claim.expects == "no help"
    agrees = verdict.outcome is not Outcome.HELPS if no_help else verdict.outcome == claim.expects
    if claim.expects == "no difference" and verdict.within:
        agrees = True
    return Finding(claim, REPRODUCED if agrees else NOT_REPRODUCED, verdict.sentence)


def _judge_chance(claim: Claim, metric: Metric, treatment: Reading | None, chance: Chance | None) -> Finding:
    if metric.chance is None:
        return Finding(claim, NOT_TESTED, "The metric declares no chance level.")
    if metric.margin is None:
        return Finding(claim, NOT_TESTED, "No usable margin is declared, so nothing can be called chance.")
    if treatment is None or treatment.seeds == 0 or chance is None:
        return Finding(claim, NOT_TESTED, "No run of this row and arm is done.")
    if chance.tested.refused:
        return Finding(claim, UNDECIDED, chance.tested.refused)
    band = CHANCE_MARGINS * metric.margin
    low, high = metric.chance - band, metric.chance + band
    interval, alpha = treatment.interval, 1.0 - treatment.interval.level
    seen = f"mean {treatment.mean:.4g}"
    if math.isfinite(interval.low):
        seen += f" ({100.0 * interval.level:.4g}% interval {interval.low:.4g} to {interval.high:.4g})"
    reason = f"{seen}, where {low:.4g} to {high:.4g} counts as chance"
    if treatment.seeds < least_pairs(alpha):
        return Finding(
            claim, UNDECIDED, f"Undecided at {treatment.seeds} of at least {least_pairs(alpha)} seeds: {reason}."
        )
    if chance.evidence.p_within <= alpha:
        return Finding(claim, REPRODUCED, f"At chance: {reason}.")
    if chance.apart(alpha):
        return Finding(claim, NOT_REPRODUCED, f"Not at chance: {reason}.")
    unseen = ""
    if chance.evidence.p_unseen > alpha and low <= interval.low and interval.high <= high:
        unseen = ", and so few seeds do not exclude a success that none has shown"
    return Finding(claim, UNDECIDED, f"Undecided: {reason}{unseen}.")
