"""A verdict in plain English: what was decided, on what evidence, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradnoise.study.analysis.comparison import Comparison, Outcome, Success
from gradnoise.study.analysis.evidence import Evidence
from gradnoise.study.analysis.statistics import Interval, Pairs, clopper_pearson, least_pairs, scaled

#: What one arm does, by what was decided.
DOES = {Outcome.HELPS: "helps", Outcome.HURTS: "hurts", Outcome.NO_DIFFERENCE: "makes no difference"}
#: Numbers from here on are written as powers of ten: a run that blew up would otherwise fill the line with digits.
LARGE = 1e7


@dataclass(frozen=True)
class Names:
    """What the parts of a comparison are called."""

    treatment: str
    """Such as "noise"."""
    baseline: str
    """Such as "no noise"."""
    metric: str
    """Such as "test accuracy"."""
    unit: str
    """Of a difference of the metric, such as "points"; "" for none."""
    margin: float | None
    """Largest difference that does not matter; None where none was declared."""
    higher_is_better: bool
    independent: bool = False
    """Whether runs of one seed share nothing, so that runs are compared, not pairs."""

    @property
    def pairs(self) -> str:
        """What is counted."""
        return "runs of each arm" if self.independent else "pairs"

    def count(self, n: int) -> str:
        """Return a number of them."""
        one = "run of each arm" if self.independent else "pair"
        return f"{n:,} {one if n == 1 else self.pairs}"


@dataclass(frozen=True)
class Said:
    """What a sentence has to state."""

    outcome: Outcome
    within: bool
    """Whether the difference is proved to lie within the margin."""
    evidence: Evidence
    pairs: Pairs | None
    """If undecided, how many pairs would decide; None if that cannot be told."""
    detectable: float | None
    """If undecided, the smallest difference that would have been seen."""
    successes: bool
    """Whether the metric has a success rule."""


def verdict_sentence(comparison: Comparison, names: Names, said: Said) -> str:
    """Return the sentence that states a verdict.

    Args:
        comparison: the evidence.
        names: what its parts are called.
        said: what was decided.
    """
    c = comparison
    if said.outcome is Outcome.UNDECIDED:
        return _undecided(c, names, said)
    if not any(c.differences) and not c.rate:
        return f"No difference: {_identical(names)} ({names.count(c.n)})."
    seen = _difference(c, names, names.count(c.n), _p(said.evidence.p, c.p))
    if said.outcome is Outcome.NO_DIFFERENCE:
        return f"No difference that matters: {seen}, all of it within the margin of {_margin(names)}."
    small = f", but within the margin of {_margin(names)}" if said.within else ""
    return f"{_capital(names.treatment)} {said.outcome}{small}: {seen}."


def success_sentence(success: Success, treatment: str, baseline: str) -> str:
    """Return the sentence that states the success rates of both arms.

    Args:
        success: the counts.
        treatment: name of the treatment.
        baseline: name of the baseline.
    """
    s = success
    if s.n == 0:
        return "Success rates: no pairs yet."
    points = scaled(s.interval, 100.0)
    interval = [_interval(points, 0)] if math.isfinite(points.low) and points.low < points.high else []
    return (
        f"Success rates: {treatment} {s.treatment} of {s.n} ({s.treatment / s.n:.0%}), "
        f"{baseline} {s.baseline} of {s.n} ({s.baseline / s.n:.0%}); "
        f"difference {_signed(100.0 * s.difference, 0)} points ({', '.join([*interval, _p(s.p, s.p)])})."
    )


def _undecided(c: Comparison, names: Names, said: Said) -> str:
    least = least_pairs(1.0 - c.interval.level)
    floor = f"Fewer than {names.count(least)} cannot decide anything at the {_percent(c.interval.level)} level."
    if c.n == 0:
        what = "runs" if names.independent else "pairs"
        return f"Undecided: there are no {what} of {names.treatment} and {names.baseline} yet. {floor}"
    seen = _difference(c, names, _p(said.evidence.p, c.p)) if any(c.differences) else f"{_identical(names)} so far"
    who = "" if not any(c.differences) else f" for {names.treatment}"
    sentences = [f"Undecided{who} at n = {names.count(c.n)}: {seen}."]
    if c.n < least:
        sentences.append(floor)
    elif said.detectable is not None:
        size = _amount(f"{said.detectable:.3g}", names)
        sentences.append(f"So many {names.pairs} would have shown a difference of {size} (in 80 of 100 studies).")
    return " ".join([*sentences, *_unseen(c, names, said), _outlook(c, names, said.pairs)])


def _unseen(c: Comparison, names: Names, said: Said) -> list[str]:
    """Say when only successes that no pair has shown stand between the data and "no difference"."""
    alpha = 1.0 - c.interval.level
    inside = names.margin is not None and -names.margin <= c.interval.low and c.interval.high <= names.margin
    if not (said.successes and inside and c.n >= least_pairs(alpha) and said.evidence.p_unseen > alpha):
        return []
    n, changed = (c.success.seeds, c.success.gained + c.success.lost) if c.success else (c.n, 0)
    most = clopper_pearson(changed, n, c.interval.level).high
    return [
        f"The interval lies within the margin of {_margin(names)}, but up to {most:.0%} of pairs may differ in success:"
        " so few would not have shown it."
    ]


def _identical(names: Names) -> str:
    return f"{names.treatment} and {names.baseline} are identical in every pair"


def _difference(c: Comparison, names: Names, *evidence: str) -> str:
    decimals = _decimals(c)
    of_metric = f"of {names.metric}" if names.unit else f"in {names.metric}"
    notes = [] if names.higher_is_better else ["lower is better"]
    low, high = min(c.differences), max(c.differences)
    same = c.n > 1 and not c.rate and high - low <= 1e-12 * max(abs(low), abs(high))
    intervals = [_interval(c.interval, decimals)] if math.isfinite(c.interval.low) else []
    intervals = ["the same in every pair"] if same else intervals
    amount = _amount(_signed(c.difference, decimals), names)
    return f"{amount} {of_metric} against {names.baseline} ({', '.join([*notes, *intervals, *evidence])})"


def _amount(number: str, names: Names) -> str:
    return f"{number} {names.unit}".rstrip()


def _margin(names: Names) -> str:
    return _amount(f"±{names.margin:g}", names)


def _outlook(c: Comparison, names: Names, needed: Pairs | None) -> str:
    undeclared = " No margin is declared, so nothing can be called no difference." if names.margin is None else ""
    if needed is None:
        if c.n == 1 or any(c.differences):
            return f"These {names.pairs} show no spread, so the number that would decide cannot be told.{undeclared}"
        return f"No number of {names.pairs} that would decide can be told.{undeclared}"
    if needed.high == needed.low:
        return f"{names.count(needed.low)} would decide if they go on like this.{undeclared}"
    if needed.high is None:
        return f"It would take {names.count(needed.low)} or more to decide, perhaps far more.{undeclared}"
    return f"Between {needed.low:,} and {names.count(needed.high)} would decide.{undeclared}"


def _decimals(c: Comparison) -> int:
    # as many as show three digits of the largest number in the sentence
    largest = max(abs(x) for x in (c.difference, c.interval.low, c.interval.high) if math.isfinite(x))
    return 0 if largest == 0.0 else min(max(2 - math.floor(math.log10(largest)), 0), 9)


def _signed(value: float, decimals: int) -> str:
    if abs(value) >= LARGE:
        return f"{value:+.3g}"
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"  # + 0.0 turns -0.0 into 0.0


def _interval(interval: Interval, decimals: int) -> str:
    low, high = _signed(interval.low, decimals), _signed(interval.high, decimals)
    return f"{_percent(interval.level)} interval {low} to {high}"


def _percent(level: float) -> str:
    return f"{100.0 * level:.4g}%"


def _p(p: float, raw: float) -> str:
    name = "p" if p == raw else "adjusted p"
    return f"{name} < 0.0001" if p < 0.0001 else f"{name} = {p:.2g}"


def listed(parts: Sequence[str]) -> str:
    """Join words as a sentence does: "a, b and c"."""
    return " and ".join([*([", ".join(parts[:-1])] if len(parts) > 1 else []), parts[-1]])


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
