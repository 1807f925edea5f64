"""A verdict in plain English: what was decided, on what evidence, and what is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradnoise.study.analysis.comparison import Comparison, Outcome, Success
from gradnoise.study.analysis.statistics import Interval, least_pairs, scaled


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
    margin: float
    """Largest difference that does not matter."""
    higher_is_better: bool


def verdict_sentence(
    outcome: Outcome, comparison: Comparison, names: Names, *, p: float, small: bool, pairs_needed: int | None
) -> str:
    """Return the sentence that states a verdict.

    Args:
        outcome: what was decided.
        comparison: the evidence.
        names: what its parts are called.
        p: the p-value that decided; where it differs from the comparison's it is called Holm-adjusted.
        small: whether a difference was found that lies within the margin.
        pairs_needed: if undecided, how many pairs would decide; None if that cannot be told.
    """
    c = comparison
    if outcome is Outcome.UNDECIDED:
        return _undecided(c, names, p, pairs_needed)
    if not any(c.differences) and not c.rate:
        return f"No difference: {_identical(names)} ({_pairs(c.n)})."
    seen = _difference(c, names, _pairs(c.n), _p(p, c.p))
    within = f"within the margin of {_amount(f'±{names.margin:g}', names)}"
    if outcome is Outcome.NO_DIFFERENCE:
        return f"No difference that matters: {seen}, all of it {within}."
    return f"{_capital(names.treatment)} {outcome}{f', but {within}' if small else ''}: {seen}."


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
    return (
        f"Success rates: {treatment} {s.treatment} of {s.n} ({s.treatment / s.n:.0%}), "
        f"{baseline} {s.baseline} of {s.n} ({s.baseline / s.n:.0%}); "
        f"difference {_signed(100.0 * s.difference, 0)} points ({_interval(points, 0)}, {_p(s.p, s.p)})."
    )


def _undecided(c: Comparison, names: Names, p: float, needed: int | None) -> str:
    least = least_pairs(1.0 - c.interval.level)
    floor = f"Fewer than {least} pairs cannot decide anything at the {_percent(c.interval.level)} level."
    if c.n == 0:
        return f"Undecided: there are no pairs of {names.treatment} and {names.baseline} yet. {floor}"
    seen = _difference(c, names, _p(p, c.p)) if any(c.differences) else f"{_identical(names)} so far"
    floors = [floor] if c.n < least else []
    return " ".join([f"Undecided at n = {_pairs(c.n)}: {seen}.", *floors, _outlook(c, needed)])


def _identical(names: Names) -> str:
    return f"{names.treatment} and {names.baseline} are identical in every pair"


def _difference(c: Comparison, names: Names, *evidence: str) -> str:
    decimals = _decimals(c)
    of_metric = f"of {names.metric}" if names.unit else f"in {names.metric}"
    notes = [] if names.higher_is_better else ["lower is better"]
    intervals = [_interval(c.interval, decimals)] if math.isfinite(c.interval.low) else []
    amount = _amount(_signed(c.difference, decimals), names)
    return f"{amount} {of_metric} against {names.baseline} ({', '.join([*notes, *intervals, *evidence])})"


def _amount(number: str, names: Names) -> str:
    return f"{number} {names.unit}".rstrip()


def _outlook(c: Comparison, needed: int | None) -> str:
    if needed is not None:
        return f"About {needed:,} pairs would decide if the true difference is as seen."
    if c.n == 1:
        return "One pair shows no spread, so the number that would decide cannot be told."
    return "The mean difference is 0, so no number of pairs that would decide can be told."


def _decimals(c: Comparison) -> int:
    # as many as show three digits of the largest number in the sentence
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
