"""From trials to a verdict: scores, statistics, verdicts, claims, summary. Pure: no files, no clock, no printing."""

from gradnoise.study.analysis.comparison import Comparison, Outcome, compare
from gradnoise.study.analysis.headline import conclusions
from gradnoise.study.analysis.scores import succeeded
from gradnoise.study.analysis.selection import chosen_trials
from gradnoise.study.analysis.shapes import Summary
from gradnoise.study.analysis.statistics import Interval, wilson
from gradnoise.study.analysis.successes import done_by_row
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.analysis.verdict import Verdict, decide

__all__ = [
    "Comparison",
    "Interval",
    "Outcome",
    "Summary",
    "Verdict",
    "chosen_trials",
    "compare",
    "conclusions",
    "decide",
    "done_by_row",
    "succeeded",
    "summarise",
    "wilson",
]
