"""What a study found, as values: cells, paired effects, findings on claims, and the summary that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gradnoise.study.analysis.claims import Finding
from gradnoise.study.analysis.comparison import Comparison, Outcome
from gradnoise.study.analysis.evidence import Evidence
from gradnoise.study.analysis.scores import Reading
from gradnoise.study.analysis.selection import Chosen
from gradnoise.study.analysis.statistics import BestOfK, Interval
from gradnoise.study.analysis.verdict import Verdict
from gradnoise.study.results import StudyRecord
from gradnoise.study.spec import Metric


@dataclass(frozen=True)
class Fates:
    """How the runs of a cell ended under one setting ("" for all of them together)."""

    setting: str
    done: int
    stuck: int
    """Ended at chance; 0 when the metric declares no chance level."""
    learning: int
    diverged: int
    successes: int | None
    """None when the metric declares no success rule, as is `interval`."""
    interval: Interval | None
    """Wilson interval of the success rate."""


@dataclass(frozen=True)
class Cell:
    """One arm in one row."""

    row: str
    arm: str
    asked: int
    """Trials asked for."""
    n: int
    """Trials done and scored. A diverged trial is scored if its experiment declares what a broken model
    scores. Otherwise it is left out of best and mean."""
    final: Reading
    second: Reading
    """The second reading: each run counts with its best evaluation, or with its last where `Metric.at` says another."""
    restarts: BestOfK | None
    """What the best of k = n // 4 restarts is worth; None with fewer than 8 runs, and in studies with `chosen`."""
    chosen: Chosen | None
    """The restart that training would choose, in studies that report one; None in other studies."""
    fates: Fates
    by_setting: tuple[Fates, ...]


@dataclass(frozen=True)
class Effect:
    """One arm against the baseline in one row."""

    row: str
    arm: str
    seeds: tuple[int, ...]
    """Seeds behind `comparison.differences`, in that order."""
    comparison: Comparison
    evidence: Evidence
    """What it proves within its family."""
    primary: bool
    """Whether it belongs to the declared family: the published claims; all comparisons in a study without claims."""
    verdict: Verdict
    second: Comparison
    """The same comparison by the second reading. It decides nothing."""
    second_outcome: Outcome
    """What the verdict would be by the second reading, judged in the same way."""

    @property
    def p_adjusted(self) -> float:
        """The p-value that decides, adjusted over the family."""
        return self.evidence.p


@dataclass(frozen=True)
class Summary:
    """All that tables and report tell about a study."""

    record: StudyRecord
    asked: int
    done: int
    updates: tuple[int, int]
    """Fewest and most updates of a trial."""
    cells: tuple[Cell, ...]
    effects: tuple[Effect, ...]
    findings: tuple[Finding, ...]
    cautions: tuple[str, ...] = ()
    """What makes its verdicts weaker than they look, a sentence each."""

    def cell(self, row: str, arm: str) -> Cell | None:
        """Return the cell of a row and an arm; None where that arm does not run."""
        return self._cells.get((row, arm))

    def effect(self, row: str, arm: str) -> Effect | None:
        """Return the effect of an arm in a row; None for the baseline and where the arm does not run."""
        return self._effects.get((row, arm))

    def published(self, row: str, arm: str) -> dict[str, float]:
        """Gather the published numbers of a row and an arm from all claims: "best", "mean" -> number."""
        return self._published.get((row, arm), {})

    def row_title(self, row: str) -> str:
        """Return what tables call a row."""
        return self._titles.get(row, row)

    def arm_label(self, arm: str) -> str:
        """Return what tables call an arm."""
        return self._labels.get(arm, arm)

    @cached_property
    def _cells(self) -> dict[tuple[str, str], Cell]:
        return {(c.row, c.arm): c for c in self.cells}

    @cached_property
    def _effects(self) -> dict[tuple[str, str], Effect]:
        return {(e.row, e.arm): e for e in self.effects}

    @cached_property
    def _published(self) -> dict[tuple[str, str], dict[str, float]]:
        found: dict[tuple[str, str], dict[str, float]] = {}
        for claim in self.record.claims:
            for arm, figures in claim.figures.items():
                found.setdefault((claim.row, arm), {}).update(figures)
        return found

    @cached_property
    def _titles(self) -> dict[str, str]:
        return dict(self.record.rows)

    @cached_property
    def _labels(self) -> dict[str, str]:
        return {arm.name: arm.label for arm in self.record.arms}

    @property
    def length(self) -> str:
        """Length of the trials, such as "60,000 updates" or "5,600 to 6,160 updates"."""
        if self.updates == (1, 1):
            return "one run of a script"
        return " to ".join(f"{n:,}" for n in dict.fromkeys(self.updates)) + " updates"


def difference_unit(metric: Metric) -> str:
    """Return the unit of a difference: percentages differ by points."""
    return "points" if metric.unit == "%" else metric.unit
