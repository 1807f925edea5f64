"""One test of a statement by stored runs: the direction, the size, and the figures behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gradnoise.paper.contrast import BASELINE, EACH_SEED, LEARNS, NEVER, TREATMENT, Contrast, members, restated
from gradnoise.paper.ledger.evidence import Evidence
from gradnoise.study import Claim, Metric, StudyResults
from gradnoise.study.analysis import Cell, Effect, Outcome, Summary, succeeded, summarise

#: What is at most as probable as this is not believed.
UNLIKELY = 0.05
#: "No run succeeds" is believed when the 95% upper limit of the rate, 1 - 0.05^(1/n), is below 5 %.
RUNS_FOR_NEVER = 59


class Direction(StrEnum):
    """What our runs say of a statement's direction."""

    AGREES = "as published"
    CONTRADICTS = "against it"
    UNDECIDED = "undecided"
    UNTESTABLE = "not testable here"


class Size(StrEnum):
    """Whether our interval holds the published difference."""

    HELD = "held"
    MISSED = "missed"
    NONE = "none"


@dataclass(frozen=True)
class Check:
    """One test of a statement.

    Args:
        id: of the claim or contrast; that of the statement, alone or with parts behind it.
        folder: of the results that it rests on.
        direction, size: the verdicts; "none" where no difference or no interval is known.
        ours: our figures in words.
        published: the published difference in words; "" for none.
        runs: how many stand behind it.
        reason: why it is not testable; "" otherwise.
    """

    id: str
    folder: str
    direction: Direction
    size: Size
    ours: str
    published: str
    runs: int
    reason: str = ""


def checks(evidence: Evidence) -> Iterator[Check]:
    """Make every test that a results folder allows: of the claims of its study, then of its system's contrasts.

    Claims are judged as in the study's report. The contrasts of one metric are a family of their own.
    """
    for claim in evidence.results.record.claims:
        made = _compared(claim, evidence.summary, evidence.folder, evidence.results.record.arms[0].name)
        if made:
            yield made
    groups: dict[Metric, list[Contrast]] = {}
    for contrast in evidence.system.contrasts:
        if _has_runs(evidence, contrast):
            groups.setdefault(contrast.metric or evidence.results.record.metric, []).append(contrast)
    for metric, contrasts in groups.items():
        study = restated(evidence.results, contrasts, metric)
        summary = summarise(study)
        for contrast in contrasts:
            if contrast.expects == EACH_SEED:
                made = _each_seed(contrast, study, evidence.folder)
            else:
                made = _contrasted(contrast, summary, evidence.folder)
            if made:
                yield made


def _has_runs(evidence: Evidence, contrast: Contrast) -> bool:
    groups = filter(None, (contrast.baseline, contrast.treatment))
    cells = (cell for group in groups for cell in group)
    return all(any(t.done for t in members(evidence.results, cell)) for cell in cells)


def _contrasted(contrast: Contrast, summary: Summary, folder: str) -> Check | None:
    if contrast.expects == LEARNS:
        return _learns(contrast, summary, folder)
    if contrast.expects == NEVER:
        return _never(contrast, summary, folder)
    without, treated = contrast.published or (None, None)
    figures = {} if without is None or treated is None else {
        BASELINE.name: {"mean": without}, TREATMENT.name: {"mean": treated}
    }  # fmt: skip
    claim = Claim(contrast.id, contrast.id, "", "", TREATMENT.name, contrast.expects, figures)
    return _compared(claim, summary, folder, BASELINE.name)


def _compared(claim: Claim, summary: Summary, folder: str, baseline: str) -> Check | None:
    """Read a claim about two arms from a summary; None where no pair is done."""
    effect = summary.effect(claim.row, claim.treatment)
    cells = [summary.cell(claim.row, arm) for arm in (baseline, claim.treatment)]
    if effect is None or not effect.comparison.n or cells[0] is None or cells[1] is None:
        return None
    metric, comparison = summary.record.metric, effect.comparison
    published, bounds = _published(claim, baseline), (comparison.interval.low, comparison.interval.high)
    direction, size, reason = _direction(summary, claim.id), _size(published, *bounds), ""
    if claim.expects == "hurts" and metric.chance is not None and cells[0].fates.stuck == cells[0].fates.done:
        direction, size = Direction.UNTESTABLE, Size.NONE
        reason = "Here the baseline stays at chance in every run, so that nothing can do worse."
    elif direction is Direction.CONTRADICTS and effect.verdict.outcome is Outcome.NO_DIFFERENCE and size is Size.HELD:
        # "no difference that matters" does not speak against a published difference that is as small
        direction = Direction.UNDECIDED
    change = f"{_difference(comparison.difference, metric)}{_bounds(*bounds, metric)}"
    return Check(
        id=claim.id,
        folder=folder,
        direction=direction,
        size=size,
        ours=f"{_means(claim, cells[0], cells[1], effect, metric)}, {change}, {comparison.n} pairs",
        published="" if published is None else _difference(published, metric),
        runs=sum(cell.fates.done for cell in cells if cell),
        reason=reason,
    )


def _means(claim: Claim, without: Cell, treated: Cell, effect: Effect, metric: Metric) -> str:
    """Write the means of both arms, and the best or chosen run of each where the paper gives it."""
    means = (effect.comparison.mean_baseline, effect.comparison.mean_treatment)
    text = " → ".join(_number(x, metric) for x in means)
    if not any("best" in figures for figures in claim.figures.values()):
        return text
    name = "chosen" if without.chosen else "best"
    runs = (c.chosen.of(metric.name).value if c.chosen else c.final.best for c in (without, treated))
    return f"mean {text}, {name} {' → '.join(_number(x, metric) for x in runs)}"


def _published(claim: Claim, baseline: str) -> float | None:
    """Return the published difference of the means; of the best or chosen runs where no means are given."""
    without, treated = (claim.figures.get(arm, {}) for arm in (baseline, claim.treatment))
    name = next((n for n in ("mean", "best") if n in without and n in treated), None)
    return None if name is None else treated[name] - without[name]


def _learns(contrast: Contrast, summary: Summary, folder: str) -> Check | None:
    cell, metric = summary.cell(contrast.id, TREATMENT.name), summary.record.metric
    if cell is None or not cell.final.seeds:
        return None
    at_chance = _direction(summary, contrast.id)
    opposite = {Direction.AGREES: Direction.CONTRADICTS, Direction.CONTRADICTS: Direction.AGREES}
    _, published = contrast.published or (None, None)
    bounds = cell.final.interval.low, cell.final.interval.high
    direction = opposite.get(at_chance, at_chance)
    if published is not None and _too_few(published, cell, metric):
        direction = Direction.CONTRADICTS
    learn = f"{cell.fates.done - cell.fates.stuck} of {cell.fates.done} runs leave chance"
    return Check(
        id=contrast.id,
        folder=folder,
        direction=direction,
        size=_size(published, *bounds),
        ours=f"mean {_number(cell.final.mean, metric)}{_bounds(*bounds, metric, signed=False)}, {learn}",
        published="" if published is None else _number(published, metric),
        runs=cell.fates.done,
    )


def _too_few(published: float, cell: Cell, metric: Metric) -> bool:
    """Say whether no run leaves chance where a published mean in % needs so many seeds that do that one would be seen.

    A seed whose runs all learned perfectly would score 100, so that at least (mean - chance) / (100 - chance) of the
    seeds have a run that learns; none of n has with a probability of at most one minus that, to the power of n.
    """
    if metric.unit != "%" or metric.chance is None or cell.fates.stuck < cell.fates.done:
        return False
    share = (published - metric.chance) / (100.0 - metric.chance)
    return (1.0 - share) ** cell.final.seeds <= UNLIKELY


def _never(contrast: Contrast, summary: Summary, folder: str) -> Check | None:
    cell = summary.cell(contrast.id, TREATMENT.name)
    if cell is None or not cell.fates.done:
        return None
    enough = cell.fates.done >= RUNS_FOR_NEVER
    none = Direction.AGREES if enough else Direction.UNDECIDED
    return Check(
        id=contrast.id,
        folder=folder,
        direction=Direction.CONTRADICTS if cell.fates.successes else none,
        size=Size.NONE,
        ours=f"{cell.fates.successes or 0} of {cell.fates.done} runs succeed",
        published="",
        runs=cell.fates.done,
    )


def _each_seed(contrast: Contrast, study: StudyResults, folder: str) -> Check:
    """Read from the runs whether every seed has one that succeeds; where none does there is nothing to spread."""
    done = [t for t in study.trials if t.row == contrast.id and t.done]
    solved = {t.seed for t in done if succeeded(t, study.record.metric)}
    seeds = {t.seed for t in done}
    few = Direction.CONTRADICTS if solved else Direction.UNDECIDED
    return Check(
        id=contrast.id,
        folder=folder,
        direction=Direction.AGREES if solved == seeds else few,
        size=Size.NONE,
        ours=f"{len(solved)} of {len(seeds)} seeds have a run that succeeds",
        published="",
        runs=len(done),
    )


def _direction(summary: Summary, id: str) -> Direction:
    finding = next(f for f in summary.findings if f.claim.id == id)
    known = {"reproduced": Direction.AGREES, "not reproduced": Direction.CONTRADICTS}
    return known.get(finding.status, Direction.UNDECIDED)


def _size(published: float | None, low: float, high: float) -> Size:
    if published is None or not (math.isfinite(low) and math.isfinite(high)):
        return Size.NONE
    # published figures are rounded: a difference at the very end of the interval is in it
    return Size.HELD if low - 1e-9 <= published <= high + 1e-9 else Size.MISSED


def _number(value: float, metric: Metric) -> str:
    return f"{value:.{1 if metric.unit == '%' else 3}f}"


def _difference(value: float, metric: Metric) -> str:
    return f"{value:+.{1 if metric.unit == '%' else 3}f}"


def _bounds(low: float, high: float, metric: Metric, signed: bool = True) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    write = _difference if signed else _number
    return f" [{write(low, metric)}, {write(high, metric)}]"
