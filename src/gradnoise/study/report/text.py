"""The table of a study as text, line by line. Terminal, Markdown and page only lay it out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gradnoise.study.analysis.claims import NOT_REPRODUCED, NOT_TESTED, REPRODUCED, UNDECIDED, Finding
from gradnoise.study.analysis.comparison import Comparison, Outcome
from gradnoise.study.analysis.readings import at_evaluation
from gradnoise.study.analysis.scores import Reading
from gradnoise.study.analysis.selection import Chosen
from gradnoise.study.analysis.shapes import Cell, Summary, difference_unit
from gradnoise.study.analysis.verdict import Verdict
from gradnoise.study.report.numbers import MISSING, attached, bounds, decimals, number, p_value, percent, probability
from gradnoise.study.results import StudyRecord
from gradnoise.study.spec import Metric, Selection

#: What stands before a verdict or a claim's status, so that neither is told by colour alone.
SYMBOLS = {
    Outcome.HELPS.value: "▲",
    Outcome.HURTS.value: "▼",
    Outcome.NO_DIFFERENCE.value: "=",
    Outcome.UNDECIDED.value: "?",
    REPRODUCED: "✓",
    NOT_REPRODUCED: "✗",
    UNDECIDED: "?",
    NOT_TESTED: MISSING,
}


@dataclass(frozen=True)
class ReadingText:
    """One reading of an arm in a row, as text; "" where there is nothing to say."""

    best: str
    mean: str
    mean_interval: str
    difference: str
    difference_interval: str


@dataclass(frozen=True)
class Line:
    """One arm in one row, as text; "" where there is nothing to say."""

    row: str
    title: str
    """Title of the row on its first line, "" on the others."""
    arm: str
    label: str
    runs: str
    final: ReadingText
    second: ReadingText
    second_outcome: str
    """What the verdict would be by the second reading; "" without a comparison."""
    best_published: str
    mean_published: str
    success: str
    success_interval: str
    p: str
    probable: str
    verdict: str
    restarts: str
    restarts_interval: str
    chosen: tuple[ChosenText, ...]


@dataclass(frozen=True)
class ChosenText:
    """One metric of the runs that training would choose, as text."""

    value: str
    interval: str
    published: str
    mean: str
    mean_interval: str


@dataclass(frozen=True)
class ClaimLine:
    """A published claim as text: from the baseline's number to the treatment's, published and ours."""

    finding: Finding
    published_mean: str
    published_best: str
    our_mean: str
    our_best: str


def lines(summary: Summary) -> list[Line]:
    """Return the table of a study, one line per row and arm."""
    seen: set[str] = set()
    out = []
    for cell in summary.cells:
        out.append(_line(summary, cell, "" if cell.row in seen else summary.row_title(cell.row)))
        seen.add(cell.row)
    return out


def _line(summary: Summary, cell: Cell, title: str) -> Line:
    digits, fates, restarts = decimals(summary.record.metric), cell.fates, cell.restarts
    published, effect = summary.published(cell.row, cell.arm), summary.effect(cell.row, cell.arm)
    chosen = tuple(_chosen(cell.chosen, summary.record.metric, published)) if cell.chosen else ()
    return Line(
        row=cell.row,
        title=title,
        arm=cell.arm,
        label=summary.arm_label(cell.arm),
        runs=f"{fates.done:,}" if fates.done == cell.asked else f"{fates.done:,} of {cell.asked:,}",
        final=_reading(cell.final, effect.comparison if effect else None, digits, best_run(summary, cell)),
        second=_reading(cell.second, effect.second if effect else None, digits, math.nan if cell.chosen else None),
        second_outcome=effect.second_outcome.value if effect and effect.second.n else "",
        best_published=number(published["best"], digits) if "best" in published else "",
        mean_published=number(published["mean"], digits) if "mean" in published else "",
        success="" if fates.successes is None else f"{fates.successes}/{fates.done}",
        success_interval=percent(fates.interval) if fates.interval and fates.done else "",
        p=p_value(effect.p_adjusted) if effect and effect.comparison.n else "",
        probable=_probable(effect.verdict) if effect else "",
        verdict=effect.verdict.outcome.value if effect else "",
        restarts=number(restarts.best, digits) if restarts else "",
        restarts_interval=bounds(restarts.best_interval, digits) if restarts else "",
        chosen=chosen,
    )


def _probable(verdict: Verdict) -> str:
    """Write the probabilities beside a verdict: that the arm is better, and that it is as good."""
    return ", ".join(probability(x) for x in (verdict.better, verdict.equivalent) if x is not None)


def best_run(summary: Summary, cell: Cell) -> float:
    """Return the primary metric of the chosen runs, in studies that choose, or of the best run."""
    return cell.chosen.of(summary.record.metric.name).value if cell.chosen else cell.final.best


def best_heading(record: StudyRecord) -> str:
    """Return what tables call the column of `best_run`."""
    return "Chosen run" if record.selection else "Best"


def _chosen(chosen: Chosen, primary: Metric, published: Mapping[str, float]) -> Iterator[ChosenText]:
    for entry in chosen.metrics:
        digits, name = decimals(entry.metric), entry.metric.name
        paper = published.get("best" if name == primary.name else name)
        yield ChosenText(
            value=number(entry.value, digits),
            interval=bounds(entry.interval, digits),
            published="" if paper is None else number(paper, digits),
            mean=number(entry.over_restarts.mean, digits),
            mean_interval=bounds(entry.over_restarts.interval, digits),
        )


def _reading(reading: Reading, comparison: Comparison | None, digits: int, best: float | None = None) -> ReadingText:
    compared = comparison if comparison and comparison.n else None
    return ReadingText(
        best=number(reading.best if best is None else best, digits),
        mean=number(reading.mean, digits),
        mean_interval=bounds(reading.interval, digits),
        difference=number(compared.difference, digits, signed=True) if compared else "",
        difference_interval=bounds(compared.interval, digits, signed=True) if compared else "",
    )


def claim_lines(summary: Summary) -> list[ClaimLine]:
    """Return the claims, in the order of the study."""
    return [_claim_line(summary, finding) for finding in summary.findings]


def _claim_line(summary: Summary, finding: Finding) -> ClaimLine:
    claim = finding.claim
    arms = [claim.treatment] if claim.expects == "chance" else [summary.record.arms[0].name, claim.treatment]
    published = [claim.figures.get(arm, {}) for arm in arms]
    cells = [summary.cell(claim.row, arm) for arm in arms]
    digits = decimals(summary.record.metric)
    return ClaimLine(
        finding,
        published_mean=_arrow([p.get("mean") for p in published], digits),
        published_best=_arrow([p.get("best") for p in published], digits),
        our_mean=_arrow([c.final.mean if c else None for c in cells], digits),
        our_best=_arrow([best_run(summary, c) if c else None for c in cells], digits),
    )


def _arrow(values: Sequence[float | None], digits: int) -> str:
    if all(value is None for value in values):
        return ""
    return " → ".join(MISSING if value is None else number(value, digits) for value in values)


def display_title(record: StudyRecord) -> str:
    """Return the title of a study, which names data that only stands in for the published data set."""
    return f"{record.title} [stand-in data: {record.data_title}]" if record.stand_in else record.title


def caption(summary: Summary) -> str:
    """Explain the table in a few sentences."""
    return " ".join(f"{term}: {meaning}." for term, meaning in glossary(summary).items())


def glossary(summary: Summary) -> dict[str, str]:
    """Say what the headings of the table mean: heading -> meaning, without a full stop."""
    record, metric = summary.record, summary.record.metric
    level, family = f"{100.0 * _level(summary):.4g}%", _families(summary)
    unit = f" in {metric.unit}" if metric.unit else ""
    terms = {
        "Values": f"{metric.title}{unit} {at_evaluation(metric)}"
        + ("" if metric.higher_is_better else "; lower is better"),
        best_heading(record): _best_caption(record),
        "Mean": f"over seeds, in brackets its {level} interval; settings of a row are averaged within a seed first",
        "Difference": f"mean over pairs against {record.arms[0].label}, same seed in both arms"
        if not record.independent
        else f"mean over independent runs against {record.arms[0].label}",
        "p": f"how often so large a difference comes up where the arm changes nothing{family}",
    }
    if has_probable(summary):
        same = f", and that the difference lies within {attached_margin(metric)}" if metric.margin else ""
        terms[probable_heading(metric)] = (
            f"probability that the arm is better{same}, under a flat prior; decides nothing"
        )
    if metric.success is not None:
        end = "end with" if metric.by is None else "then have"
        terms["Success"] = f"runs that {end} {success_words(metric)}"
    if metric.margin:
        terms["No difference"] = f"proved to lie within {attached_margin(metric)}"
    return terms


def success_words(metric: Metric) -> str:
    """Say what a run has that succeeds, such as "at least 90%"; of a bound, the bound itself."""
    if metric.of is not None:
        return metric.of
    bound = "at least" if metric.higher_is_better else "at most"
    return f"{bound} {attached(metric.success or 0.0, metric.unit)}"


def has_probable(summary: Summary) -> bool:
    """Return whether any verdict has probabilities beside it."""
    return any(e.verdict.better is not None for e in summary.effects)


def probable_heading(metric: Metric) -> str:
    """Return the heading of the probabilities beside a verdict."""
    return "Better, same" if metric.margin else "Better"


def two_readings(summary: Summary) -> bool:
    """Tell whether the best evaluation of some run is another than its last."""
    return any(x.second.n and x.second.differences != x.comparison.differences for x in summary.effects)


def attached_margin(metric: Metric) -> str:
    """Write the margin of a metric, such as "±1 points"."""
    return f"±{metric.margin or 0.0:g} {difference_unit(metric)}".rstrip()


def _families(summary: Summary) -> str:
    """Say over what p and verdicts are adjusted; "" where nothing is."""
    said = []
    for primary, what in ((True, "published claims"), (False, "other comparisons")):
        family = next((e.evidence for e in summary.effects if e.primary is primary), None)
        if family and family.family > 1:
            name = what if summary.record.claims else "comparisons"
            said.append(f"the {family.family} {name} ({family.method})")
    return f", adjusted together over {' and over '.join(said)}" if said else ""


def _best_caption(record: StudyRecord) -> str:
    if record.selection is None:
        return "best run"
    first = _title(record.selection, record.selection.by[0])
    return f"in each setting the one with the lowest {first}, then their mean"


def chosen_caption(summary: Summary) -> str:
    """Explain the table of chosen runs; "" in studies that choose none."""
    selection = summary.record.selection
    if selection is None:
        return ""
    first, *rest = (_title(selection, name) for name in selection.by)
    ties = " and then ".join([*(f"the lower {name}" for name in rest), "the lower seed"])
    return (
        f"Chosen: in each setting the run with the lowest {first} at its end (among equals {ties}), then the mean over "
        "the settings of the row. In brackets what choosing gives when as many restarts are drawn from these again, "
        f"with replacement ({100.0 * _level(summary):.4g}% of the draws); a restart is drawn with all its settings. "
        "Mean: over all restarts. Verdicts rest on pairs of restarts, never on chosen runs."
    )


def _title(selection: Selection, metric: str) -> str:
    """Return what a metric of a selection is called in sentences."""
    return next((m.title for m in selection.report if m.name == metric), metric.replace("_", " "))


def _level(summary: Summary) -> float:
    return next((c.final.interval.level for c in summary.cells), 0.95)


def with_unit(heading: str, unit: str) -> str:
    """Write a heading and its unit, such as "Mean, %"."""
    return f"{heading}, {unit}" if unit else heading


def with_better(metric: Metric) -> str:
    """Write the name of an axis of values, such as "test accuracy, % (higher is better)"."""
    return f"{with_unit(metric.title, metric.unit)} ({'higher' if metric.higher_is_better else 'lower'} is better)"


def difference_heading(metric: Metric) -> str:
    """Return the heading of a column of differences."""
    return with_unit("Difference", difference_unit(metric))
