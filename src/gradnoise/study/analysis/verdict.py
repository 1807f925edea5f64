"""From a paired comparison to one honest sentence.

One criterion decides, fixed before the data: the sign-flip test of the paired mean difference of the primary
metric, with which the interval must agree. Success rates stand beside it and decide nothing, unless the primary
metric is itself a rate: then McNemar's test decides, with Newcombe's interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradnoise.study.analysis.statistics import (
    Interval,
    Vector,
    bca_mean,
    check_margin,
    finite_vector,
    least_pairs,
    mcnemar_midp,
    newcombe_paired,
    pairs_to_decide_mean,
    pairs_to_decide_rate,
    scaled,
    sign_flip,
    wilson,
)


@dataclass(frozen=True)
class Success:
    """How often each arm succeeds over the same pairs; differences are treatment minus baseline."""

    n: int
    baseline: int
    """Pairs in which the baseline succeeds."""
    treatment: int
    interval_baseline: Interval
    """Wilson interval of the baseline's rate."""
    interval_treatment: Interval
    difference: float
    """Difference of the rates, in [-1, 1]; nan without pairs."""
    interval: Interval
    """Newcombe's paired interval of that difference."""
    p: float
    """McNemar's mid-p."""


@dataclass(frozen=True)
class Comparison:
    """Treatment minus baseline over n pairs, of one setting or pooled over several."""

    n: int
    mean_baseline: float
    """In the unit of the metric; nan without pairs, as are the next two."""
    mean_treatment: float
    difference: float
    """Mean of the paired differences."""
    interval: Interval
    """BCa interval of that mean; Newcombe's of a rate."""
    p: float
    """Two-sided sign-flip p-value, McNemar's mid-p of a rate; not adjusted for other comparisons."""
    differences: tuple[float, ...]
    """One per pair, in the order given."""
    seed: int
    """Seed of the resampling behind `interval` and `p`."""
    success: Success | None = None
    """Success rates, if the experiment has a success rule."""
    rate: bool = False
    """Whether the metric is a rate: every run has 0 or one other value, that of a success."""


class Outcome(StrEnum):
    """What a comparison says at its level."""

    HELPS = "helps"
    HURTS = "hurts"
    NO_DIFFERENCE = "no difference"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Verdict:
    """A decision and how to say it."""

    outcome: Outcome
    sentence: str
    pairs_needed: int | None
    """If undecided: pairs that would decide if the differences go on as seen; None if that cannot be told."""
    beside: str | None = None
    """The success rates in one sentence, if there are any."""


def compare(
    baseline: ArrayLike,
    treatment: ArrayLike,
    *,
    success_baseline: ArrayLike | None = None,
    success_treatment: ArrayLike | None = None,
    rate_of: float | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two arms over pairs.

    Args:
        baseline: primary metric of the baseline, shape [n], finite; element i and treatment[i] are a pair.
        treatment: primary metric of the treatment, shape [n].
        success_baseline: whether each run succeeded, shape [n], of bools or 0 and 1; both arms or none.
        success_treatment: the same for the treatment.
        rate_of: the value of a success if the metric is a rate, so that every number is 0 or this one, > 0.
            Where some are not, as means over several settings, the comparison is one of means as any other.
        level: confidence level of all intervals, in (0, 1).
        seed: seed of the resampling.

    Raises:
        ValueError: if lengths differ, a number is not finite, or a success is neither 0 nor 1.

    Example:
        >>> compare([0.5, 0.6, 0.4], [0.7, 0.9, 0.8]).p
        0.25
    """
    a, b = finite_vector(baseline, "baseline"), finite_vector(treatment, "treatment")
    _check_pairs(a.size, treatment=b.size)
    d = finite_vector(b - a, "treatment - baseline")
    rates = None
    if rate_of is not None and np.isin([*a, *b], [0.0, rate_of]).all():
        rates = _success(a == rate_of, b == rate_of, d.size, level)
    return Comparison(
        n=d.size,
        mean_baseline=_mean(a),
        mean_treatment=_mean(b),
        difference=_mean(d),
        interval=bca_mean(d, level, seed=seed) if rates is None else scaled(rates.interval, rate_of or 1.0),
        p=sign_flip(d, seed=seed) if rates is None else rates.p,
        differences=tuple(d.tolist()),
        seed=seed,
        success=_success(success_baseline, success_treatment, d.size, level),
        rate=rates is not None,
    )


def verdict(
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
    """Decide a comparison and say so in plain English.

    - helps, hurts: p <= alpha = 1 - level, and the interval leaves out 0.
    - no difference: otherwise, if the interval lies within -margin..margin and the sign-flip tests against
      either end have p <= alpha; or if all of at least `least_pairs(alpha)` pairs are identical. Of a rate: if
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
        p_adjusted: comparison.p after Holm's adjustment over the family of comparisons; decides in its place.
        higher_is_better: whether a larger metric is better.

    Raises:
        ValueError: if the margin is negative or not finite, or p_adjusted is not in [comparison.p, 1].
    """
    check_margin(margin)
    p = comparison.p if p_adjusted is None else p_adjusted
    if not comparison.p * (1.0 - 1e-9) <= p <= 1.0:
        raise ValueError(f"p_adjusted is {p}; it must lie between the raw p, {comparison.p}, and 1.")
    outcome = _outcome(comparison, p, margin, higher_is_better)
    say = _Speaker(treatment, baseline, metric, unit, margin, higher_is_better)
    beside = None if comparison.success is None else _rates(comparison.success, treatment, baseline)
    if outcome is not Outcome.UNDECIDED:
        return Verdict(outcome, say.decided(outcome, comparison, p), None, beside)
    needed = _pairs_needed(comparison, p, margin)
    return Verdict(outcome, say.undecided(comparison, p, needed), needed, beside)


def _outcome(c: Comparison, p: float, margin: float, higher_is_better: bool) -> Outcome:
    alpha = 1.0 - c.interval.level
    enough = c.n >= least_pairs(alpha)
    if p <= alpha and 0.0 not in c.interval and enough:
        return Outcome.HELPS if (c.difference > 0.0) == higher_is_better else Outcome.HURTS
    # runs that agree in a measured number are the same run; that all succeed says little of how often they do
    identical = not any(c.differences) and enough and not c.rate
    return Outcome.NO_DIFFERENCE if identical or _within(c, margin) else Outcome.UNDECIDED


def _within(c: Comparison, margin: float) -> bool:
    # The interval alone is too short for small n and would say so too often.
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


@dataclass(frozen=True)
class _Speaker:
    """Says verdicts of one treatment on one metric."""

    treatment: str
    baseline: str
    metric: str
    unit: str
    margin: float
    higher_is_better: bool

    def decided(self, outcome: Outcome, c: Comparison, p: float) -> str:
        if not any(c.differences) and not c.rate:
            return f"No difference: {self._identical()} ({_pairs(c.n)})."
        seen = self._difference(c, _p(p, c.p), _pairs(c.n))
        within = f"within the margin of {self._amount(f'±{self.margin:g}')}"
        if outcome is Outcome.NO_DIFFERENCE:
            return f"No difference that matters: {seen}, all of it {within}."
        small = f", but {within}" if _within(c, self.margin) else ""
        return f"{_capital(self.treatment)} {outcome}{small}: {seen}."

    def undecided(self, c: Comparison, p: float, needed: int | None) -> str:
        least = least_pairs(1.0 - c.interval.level)
        floor = f"Fewer than {least} pairs cannot decide anything at the {_percent(c.interval.level)} level."
        if c.n == 0:
            return f"Undecided: there are no pairs of {self.treatment} and {self.baseline} yet. {floor}"
        seen = self._difference(c, _p(p, c.p)) if any(c.differences) else f"{self._identical()} so far"
        floors = [floor] if c.n < least else []
        return " ".join([f"Undecided at n = {_pairs(c.n)}: {seen}.", *floors, _outlook(c, needed)])

    def _identical(self) -> str:
        return f"{self.treatment} and {self.baseline} are identical in every pair"

    def _difference(self, c: Comparison, p: str, *pairs: str) -> str:
        decimals = _decimals(c)
        of_metric = f"of {self.metric}" if self.unit else f"in {self.metric}"
        notes = [] if self.higher_is_better else ["lower is better"]
        intervals = [_interval(c.interval, decimals)] if math.isfinite(c.interval.low) else []
        evidence = ", ".join([*notes, *intervals, *pairs, p])
        amount = self._amount(_signed(c.difference, decimals))
        return f"{amount} {of_metric} against {self.baseline} ({evidence})"

    def _amount(self, number: str) -> str:
        return f"{number} {self.unit}".rstrip()


def _outlook(c: Comparison, needed: int | None) -> str:
    if needed is not None:
        return f"About {needed:,} pairs would decide if the true difference is as seen."
    if c.n == 1:
        return "One pair shows no spread, so the number that would decide cannot be told."
    return "The mean difference is 0, so no number of pairs that would decide can be told."


def _rates(s: Success, treatment: str, baseline: str) -> str:
    if s.n == 0:
        return "Success rates: no pairs yet."
    points = Interval(100.0 * s.interval.low, 100.0 * s.interval.high, s.interval.level)
    return (
        f"Success rates: {treatment} {s.treatment} of {s.n} ({s.treatment / s.n:.0%}), "
        f"{baseline} {s.baseline} of {s.n} ({s.baseline / s.n:.0%}); "
        f"difference {_signed(100.0 * s.difference, 0)} points ({_interval(points, 0)}, {_p(s.p, s.p)})."
    )


def _success(baseline: ArrayLike | None, treatment: ArrayLike | None, n: int, level: float) -> Success | None:
    if baseline is None and treatment is None:
        return None
    if baseline is None or treatment is None:
        raise ValueError("One of success_baseline and success_treatment is missing; give both or neither.")
    a, b = _flags(baseline, "success_baseline"), _flags(treatment, "success_treatment")
    _check_pairs(n, success_baseline=a.size, success_treatment=b.size)
    both, only_b, only_a = int(np.sum(a & b)), int(np.sum(b & ~a)), int(np.sum(a & ~b))
    return Success(
        n=n,
        baseline=both + only_a,
        treatment=both + only_b,
        interval_baseline=wilson(both + only_a, n, level),
        interval_treatment=wilson(both + only_b, n, level),
        difference=(only_b - only_a) / n if n else math.nan,
        interval=newcombe_paired(both, only_b, only_a, n - both - only_a - only_b, level),
        p=mcnemar_midp(only_b, only_a),
    )


def _flags(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    vector = finite_vector(values, name)
    bad = np.flatnonzero((vector != 0.0) & (vector != 1.0))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {vector[bad[0]]}; each must be True or False, 1 or 0.")
    return vector == 1.0


def _check_pairs(n: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size != n:
            raise ValueError(f"{name} has {size} entries, baseline {n}; element i of each must be pair i.")


def _mean(values: Vector) -> float:
    # fsum rounds once, so the mean is the same in any order of the pairs.
    return math.fsum(values / values.size) if values.size else math.nan


def _decimals(c: Comparison) -> int:
    """Decimals that show three digits of the largest number in the sentence."""
    largest = max(abs(x) for x in (c.difference, c.interval.low, c.interval.high) if math.isfinite(x))
    return 0 if largest == 0.0 else min(max(2 - math.floor(math.log10(largest)), 0), 9)


def _signed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"  # + 0.0 turns -0.0 into 0.0


def _interval(interval: Interval, decimals: int) -> str:
    low, high = _signed(interval.low, decimals), _signed(interval.high, decimals)
    return f"{_percent(interval.level)} interval {low} to {high}"


def _percent(level: float) -> str:
    return f"{100.0 * level:.4g}%"


def _pairs(n: int) -> str:
    return f"{n:,} pair" if n == 1 else f"{n:,} pairs"


def _p(p: float, raw: float) -> str:
    name = "p" if p == raw else "Holm-adjusted p"
    return f"{name} < 0.0001" if p < 0.0001 else f"{name} = {p:.2g}"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
