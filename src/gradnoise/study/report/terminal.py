"""A study in a terminal: the answer in five lines, and the whole table where it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from gradnoise.study.analysis.claims import Finding
from gradnoise.study.analysis.comparison import Outcome
from gradnoise.study.analysis.headline import conclusions
from gradnoise.study.analysis.shapes import Effect, Summary, difference_unit
from gradnoise.study.report.numbers import bounds, decimals, number, p_value
from gradnoise.study.report.strips import outlook
from gradnoise.study.report.tables import chosen_headings, symbol
from gradnoise.study.report.text import (
    SYMBOLS,
    ChosenText,
    Line,
    attached_margin,
    best_heading,
    caption,
    chosen_caption,
    lines,
)

_STYLES = {
    "helps": "green",
    "reproduced": "green",
    "hurts": "red",
    "not reproduced": "red",
    "undecided": "yellow",
    "not tested": "dim",
}


#: Comparisons that the answer shows, those with the largest decided differences first.
SHOWN = 3
#: The least room that the title of a row is worth.
_ROOM = 8


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Print the answer in five lines: the headline, the largest effects, what else there is; then what weakens it.

    Args:
        summary: what `summarise` returned.
        console: where to; None for standard output, in colour if that is a terminal.
    """
    console = console or Console(markup=False, emoji=False)
    headline, *notes = conclusions(summary)
    console.print(Text(headline, style="bold"))
    ledger = notes.pop(0) if summary.findings and notes and "published" in notes[0] else ""
    shown = _largest(summary)
    for line in _effect_lines(summary, shown, console.width):
        console.print(line, no_wrap=True, overflow="ellipsis")
    hidden = len(summary.effects) - len(shown)
    if rest := " ".join(filter(None, (f"{hidden} more in the report." if hidden else "", ledger))):
        console.print(Text(rest))
    if summary.record.stand_in:
        notes.insert(0, f"Stand-in data: {summary.record.data_title}.")
    for note in notes:
        console.print(Text(note, style="yellow"))


def _largest(summary: Summary) -> list[Effect]:
    """Return the comparisons to show: those decided with the largest differences, then the others."""

    def rank(effect: Effect) -> tuple[bool, float]:
        return effect.verdict.outcome is Outcome.UNDECIDED, -abs(effect.comparison.difference)

    return sorted((e for e in summary.effects if e.comparison.n), key=rank)[:SHOWN]


def _effect_lines(summary: Summary, effects: Sequence[Effect], width: int) -> list[Text]:
    """Lay out comparisons: arm, row, difference and its interval, p or what would decide."""
    metric, rows = summary.record.metric, len(summary.record.rows) > 1
    digits, unit = decimals(metric), difference_unit(metric)
    second = [_by_second(e, summary) for e in effects]
    seen = [
        " ".join(
            filter(
                None,
                (
                    number(e.comparison.difference, digits, signed=True),
                    bounds(e.comparison.interval, digits, signed=True),
                    unit,
                ),
            )
        )
        for e in effects
    ]
    columns = [
        _padded([summary.arm_label(e.arm) for e in effects]),
        _padded(seen),
        [_evidence(e, summary) for e in effects],
    ]
    fixed = 2 + sum(max(map(cell_len, column), default=0) for column in columns) + 2 * len(columns)
    titles = [summary.row_title(e.row) for e in effects]
    longest = max(map(cell_len, titles), default=0)
    more = 2 + max(map(cell_len, second), default=0)
    if any(second) and fixed + more + (min(longest, 2 * _ROOM) if rows else 0) <= width:
        columns[-1] = [f"{first}  {other}" for first, other in zip(_padded(columns[-1]), second, strict=True)]
        fixed += more
    room = min(longest, width - fixed)
    found = []
    for effect, title, label, amount, evidence in zip(effects, titles, *columns, strict=True):
        status = effect.verdict.outcome.value
        short = [_shortened(title, room)] if rows and room >= min(_ROOM, longest) else []
        text = Text(f"{SYMBOLS[status]} ", style=_STYLES.get(status, ""))
        found.append(text.append("  ".join([label, *short, amount, evidence]), style="default"))
    return found


def _by_second(effect: Effect, summary: Summary) -> str:
    """Say what the second reading gives, such as "best: +1.2", with the symbol of another verdict; "" for the same."""
    if not effect.second.n or effect.second.differences == effect.comparison.differences:
        return ""
    metric, other = summary.record.metric, effect.second_outcome
    mark = f"{SYMBOLS[other.value]} " if other is not effect.verdict.outcome else ""
    amount = number(effect.second.difference, decimals(metric), signed=True)
    return f"{'best' if metric.by is None else 'last'}: {mark}{amount}"


def _evidence(effect: Effect, summary: Summary) -> str:
    if effect.verdict.outcome is Outcome.NO_DIFFERENCE:
        return f"within {attached_margin(summary.record.metric)}"
    return outlook(effect, summary) or f"p {_equals(p_value(effect.p_adjusted))}"


def _shortened(title: str, room: int) -> str:
    """Fit a title into some cells."""
    return set_cell_size(title, room) if cell_len(title) <= room else f"{set_cell_size(title, room - 1)}…"


def print_table(summary: Summary, console: Console | None = None) -> None:
    """Print the whole table of a study, with what its columns mean, and its claims.

    Args:
        summary: what `summarise` returned.
        console: where to; None for standard output, in colour if that is a terminal.
    """
    console = console or Console(markup=False, emoji=False)
    console.print(terminal_table(summary, console.width), no_wrap=True, overflow="ignore", crop=False)
    console.print(Text(caption(summary), style="dim"))
    console.print()
    if summary.record.selection:
        console.print(chosen_table(summary), no_wrap=True, overflow="ignore", crop=False)
        console.print(Text(chosen_caption(summary), style="dim"))
        console.print()
    for finding in summary.findings:
        console.print(_claim(finding))


def terminal_table(summary: Summary, width: int = 80) -> Text:
    """Lay out the table for a terminal; where `width` columns are too few, each difference gets a separate line."""
    table = lines(summary)
    columns = [_padded(column) for column in _terminal_columns(summary, table)]
    heads = [column[0] for column in columns]
    effects = [_effect(line, summary) for line in table]
    beside = sum(map(cell_len, heads)) + 2 * len(heads) + max(e.cell_len for e in effects) <= width
    text = Text()
    text.append(f"{'  '.join(heads)}\n", style="dim")
    for line, effect, *cells in zip(table, effects, *(c[1:] for c in columns), strict=True):
        if line.title:
            text.append(f"{line.title}\n", style="bold")
        text.append("  ".join(cells))
        if line.verdict:
            text.append("  " if beside else "\n      ").append(effect)
        text.append("\n")
    return text


def chosen_table(summary: Summary) -> Text:
    """Lay out the chosen runs for a terminal: each reported metric, the published number, the mean over restarts."""
    table = lines(summary)
    columns = [_padded(["", *(f"  {x.label}" for x in table)])]
    for i, heading in enumerate(chosen_headings(summary)):
        columns.append(_padded([heading, *(_chosen_cell(x.chosen[i]) for x in table)]))
    heads, *cells = zip(*columns, strict=True)
    text = Text().append(f"{'  '.join(heads).rstrip()}\n", style="dim")
    for line, row in zip(table, cells, strict=True):
        if line.title:
            text.append(f"{line.title}\n", style="bold")
        text.append(f"{'  '.join(row).rstrip()}\n")
    return text


def _chosen_cell(chosen: ChosenText) -> str:
    return f"{_beside(chosen.value, chosen.interval, chosen.published)}; mean {chosen.mean}"


def _terminal_columns(summary: Summary, table: list[Line]) -> list[list[str]]:
    """Make the columns, heading first; intervals stand in brackets, published numbers in parentheses."""
    suffix = " (paper)" if any(c.figures for c in summary.record.claims) else ""
    best = [_beside(x.final.best, "", x.best_published) for x in table]
    mean = [_beside(x.final.mean, x.final.mean_interval, x.mean_published) for x in table]
    columns = [
        ["", *(f"  {x.label}" for x in table)],
        [f"{best_heading(summary.record)}{suffix}", *best],
        [f"Mean{suffix}", *mean],
    ]
    if summary.record.metric.success is None:
        return [*columns, ["Runs", *(x.runs for x in table)]]
    return [*columns, ["Success", *(_beside(x.success, x.success_interval) for x in table)]]


def _beside(number: str, interval: str, published: str = "") -> str:
    return " ".join(filter(None, (number, interval, f"({published})" if published else "")))


def _padded(column: list[str]) -> list[str]:
    width = max(map(cell_len, column), default=0)
    return [cell + " " * (width - cell_len(cell)) for cell in column]


def _effect(line: Line, summary: Summary) -> Text:
    if not line.verdict:
        return Text()
    unit = difference_unit(summary.record.metric)
    seen = " ".join(filter(None, (line.final.difference, line.final.difference_interval, unit)))
    text = Text(f"{seen}, p {_equals(line.p)}  " if line.p else "")
    return text.append(_status(line.verdict))


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def _claim(finding: Finding) -> Text:
    text = Text.assemble(_status(finding.status), f"  {finding.claim.id}  {finding.claim.statement}")
    return text.append(f" ({finding.claim.source})", style="dim")


def _status(status: str) -> Text:
    return Text(symbol(status), style=_STYLES.get(status, ""))
