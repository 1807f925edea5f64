"""The two readings of a run, its last evaluation and its best: what they are called, and where verdicts hang on it."""

from __future__ import annotations

from gradnoise.study.analysis.shapes import Effect, Summary
from gradnoise.study.analysis.wording import DOES, listed
from gradnoise.study.spec import Metric

#: As many verdicts that the second reading changes are named.
NAMED = 2


def at_evaluation(metric: Metric) -> str:
    """Say at which evaluation of a run its value counts, such as "at the last evaluation"."""
    if metric.by is None:
        return "at the last evaluation"
    if metric.by.name == metric.name:
        return "at its best evaluation"
    return f"at the evaluation with {metric.by.words}"


def second_heading(metric: Metric) -> str:
    """Return what tables call the second reading."""
    return "At best" if metric.by is None else "At last"


def second_words(metric: Metric) -> str:
    """Say what the second reading is: "by each run's best evaluation instead of its last"."""
    if metric.by is None:
        return "by each run's best evaluation instead of its last"
    best = "its best" if metric.by.name == metric.name else f"the one with {metric.by.words}"
    return f"by each run's last evaluation instead of {best}"


def changed(summary: Summary) -> list[Effect]:
    """Return the comparisons of which the second reading would decide something else."""
    whole = (e for e in summary.effects if e.comparison.n and e.second.n and not e.verdict.refused)
    return [e for e in whole if e.second_outcome is not e.verdict.outcome]


def disagreement(summary: Summary) -> str:
    """Say in a sentence which verdicts the second reading changes; "" where it changes none."""
    found = changed(summary)
    if not found:
        return ""
    words, rows = second_words(summary.record.metric), len(summary.record.rows) > 1
    words = words[:1].upper() + words[1:]
    if len(found) > NAMED:
        return f"{words}, {len(found)} of {len(summary.effects)} verdicts are others."
    said = []
    for effect in found:
        where = f" in “{summary.row_title(effect.row)}”" if rows else ""
        said.append(f"{summary.arm_label(effect.arm)} {DOES.get(effect.second_outcome, 'is undecided')}{where}")
    return f"{words}, {listed(said)}."
