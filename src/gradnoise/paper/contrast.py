"""Statements of the paper that are no row of a table with and without noise, put so that stored runs can judge them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradnoise.study import Arm, Claim, Metric, StudyResults, TrialResult

BASELINE, TREATMENT = Arm("baseline"), Arm("treatment")

#: What a contrast may expect of its treatment alone, besides what a claim may expect of two arms.
LEARNS, NEVER, EACH_SEED = "learns", "never", "each seed"
ALONE = (LEARNS, NEVER, EACH_SEED)


@dataclass(frozen=True)
class Cell:
    """Runs of a study.

    Args:
        row, arm: where they stand in its table.
        setting: only those of this setting of the row; None for all.
        less: an arm whose value is taken off, run by run with the same setting and seed: `Cell("a", "noise",
            less="none")` is the effect of noise. None for the value itself.
    """

    row: str
    arm: str
    setting: str | None = None
    less: str | None = None


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A statement about two groups of runs of one study, or about one group.

    The i-th cells of both groups are compared setting by setting and seed by seed. Several cells are averaged within
    a seed, as the settings of a row are.

    Args:
        id: of the statement, or with a part behind a slash: "4.1-clip/100".
        statement: in a sentence.
        treatment: the runs that the statement is about.
        baseline: what they are compared with; empty for what is expected of the treatment alone.
        expects: "helps", "hurts", "no difference" or "no help", see `Claim`; "learns": the treatment's mean is above
            chance; "never": none of its runs succeeds; "each seed": every seed has a run that succeeds.
        published: published numbers of baseline and treatment; None where there are none.
        metric: what is compared; None for the study's primary metric.
    """

    id: str
    statement: str
    treatment: tuple[Cell, ...]
    baseline: tuple[Cell, ...] = ()
    expects: str
    published: tuple[float | None, float] | None = None
    metric: Metric | None = None


def restated(results: StudyResults, contrasts: Sequence[Contrast], metric: Metric) -> StudyResults:
    """Return the study in which each contrast is a row with a baseline and a treatment, so that it is judged as any.

    Args:
        results: a study.
        contrasts: those that are read by the same metric. They are one family of comparisons.
        metric: that metric.
    """
    trials = tuple(trial for contrast in contrasts for trial in _trials(results, contrast, metric))
    record = dataclasses.replace(
        results.record,
        arms=(BASELINE, TREATMENT),
        metric=metric,
        rows=tuple((c.id, c.statement) for c in contrasts),
        claims=tuple(_claim(c) for c in contrasts),
        selection=None,
    )
    return StudyResults(record, trials)


def _claim(contrast: Contrast) -> Claim:
    # "learns" is what "at chance" is not; the other two are read from the counts, and any expectation will do
    expects = "chance" if contrast.expects in ALONE else contrast.expects
    return Claim(contrast.id, contrast.id, contrast.statement, "", TREATMENT.name, expects)


def _trials(results: StudyResults, contrast: Contrast, metric: Metric) -> Iterator[TrialResult]:
    for arm, cells in ((BASELINE, contrast.baseline), (TREATMENT, contrast.treatment)):
        for number, cell in enumerate(cells):
            for trial in members(results, cell):
                setting = f"{number}" if cell.setting else f"{number} {trial.setting}"
                value = _less(results, trial, cell.less, metric) if cell.less else trial
                yield dataclasses.replace(value, row=contrast.id, setting=setting, arm=arm.name)


def members(results: StudyResults, cell: Cell) -> list[TrialResult]:
    """Return the runs of a cell."""
    return [
        t
        for t in results.trials
        if (t.row, t.arm) == (cell.row, cell.arm) and cell.setting in (None, t.setting)
    ]  # fmt: skip


def _less(results: StudyResults, trial: TrialResult, arm: str, metric: Metric) -> TrialResult:
    """Return a run with the value of its partner in another arm taken off; not done where the partner is not."""
    place = (trial.row, trial.setting, trial.seed, arm)
    partner = next((t for t in results.trials if (t.row, t.setting, t.seed, t.arm) == place), None)
    if partner is None or not partner.done:
        return dataclasses.replace(trial, status="pending", curves={})
    difference = trial.final.get(metric.name, math.nan) - partner.final.get(metric.name, math.nan)
    return dataclasses.replace(trial, final={metric.name: difference}, curves={})
