"""From trials to a verdict: scores, comparisons, verdicts, claims, summary. Pure: no files, no clock, no printing.

The methods, functions of numpy arrays, are in `gradnoise.study.analysis.statistics`.
"""

from gradnoise.study.analysis.comparison import Comparison, Outcome, compare
from gradnoise.study.analysis.headline import conclusions
from gradnoise.study.analysis.power import Need, seeds_needed
from gradnoise.study.analysis.scores import succeeded
from gradnoise.study.analysis.selection import chosen_trials
from gradnoise.study.analysis.shapes import Cell, Effect, Summary
from gradnoise.study.analysis.successes import done_by_row
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.analysis.verdict import Verdict, decide

__all__ = [
    "Cell",
    "Comparison",
    "Effect",
    "Need",
    "Outcome",
    "Summary",
    "Verdict",
    "chosen_trials",
    "compare",
    "conclusions",
    "decide",
    "done_by_row",
    "seeds_needed",
    "succeeded",
    "summarise",
]
