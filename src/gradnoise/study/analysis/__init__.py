"""From trials to a verdict: scores, statistics, verdicts, claims, summary. Pure: no files, no clock, no printing."""

from gradnoise.study.analysis.selection import chosen_trials
from gradnoise.study.analysis.statistics import Interval, wilson
from gradnoise.study.analysis.summary import Summary, summarise
from gradnoise.study.analysis.verdict import Comparison, Outcome, Verdict, compare, verdict

__all__ = [
    "Comparison",
    "Interval",
    "Outcome",
    "Summary",
    "Verdict",
    "chosen_trials",
    "compare",
    "summarise",
    "verdict",
    "wilson",
]
