"""The table of a study in a terminal and as Markdown: our numbers next to the published ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gradnoise.study.analysis.claims import Finding
from gradnoise.study.analysis.headline import conclusions
from gradnoise.study.analysis.shapes import Summary, difference_unit
from gradnoise.study.report.extras import Extras, Table
from gradnoise.study.report.text import (
    SYMBOLS,
    ChosenText,
    Line,
    best_heading,
    caption,
    chosen_caption,
    difference_heading,
    display_title,
    lines,
    with_unit,
)

_STYLES = {
    "helps": "green",
    "reproduced": "green",
    "hurts": "red",
    "not reproduced": "red",
    "undecided": "yellow",
    "not tested": "dim",
}


@dataclass(frozen=True)
class _Column:
    heading: str
    number: Callable[[Line], str]
    interval: Callable[[Line], str] = lambda line: ""
    published: bool = False


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Print headline, table and claims of a study.

    Args:
        summary: what `summarise` returned.
        console: where to; None for standard output, in colour if that is a terminal.
    """
    console = console or Console()
    console.print(Text(display_title(summary.record), style="dim"))
    headline, *notes = conclusions(summary)
    console.print(Text(headline, style="bold"))
    for note in notes:
        console.print(Text(note))
    console.print()
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


def chosen_headings(summary: Summary) -> list[str]:
    """Return the titles of the reported metrics with their units."""
    selection = summary.record.selection
    return [with_unit(m.title, m.unit) for m in selection.report] if selection else []


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
    width = max(map(cell_len, column))
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


def markdown(summary: Summary, extras: Extras = ()) -> str:
    """Write headline, tables and claims of a study as GitHub Markdown, and the experiment's own tables.

    Args:
        summary: what `summarise` returned.
        extras: figures and tables of the experiment; figures are left out.
    """
    headline, *notes = conclusions(summary)
    columns = _columns(summary)
    align = ["---", "---", *("---:" for _ in columns), "---"]
    table = [["Row", "Arm", *(c.heading for c in columns), "Verdict"], align]
    for line in lines(summary):
        cells = (" ".join(filter(None, (c.number(line), c.interval(line)))) for c in columns)
        table.append([_escape(line.title), _escape(line.label), *map(_escape, cells), _symbol(line.verdict)])
    claims = [
        f"- **{_symbol(f.status)}**: {_escape(f'{f.claim.statement} ({f.claim.source}). {f.reason}')}"
        for f in summary.findings
    ]
    parts = [
        f"# {_escape(display_title(summary.record))}",
        f"**{_escape(headline)}**",
        *map(_escape, notes),
        _grid(table),
        _escape(caption(summary)),
        *(_chosen_markdown(summary) if summary.record.selection else []),
        *(["## Published claims", "\n".join(claims)] if claims else []),
        *(text for title, item in extras if isinstance(item, Table) for text in _extra_markdown(title, item)),
    ]
    return "\n\n".join(parts) + "\n"


def _grid(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _extra_markdown(title: str, table: Table) -> list[str]:
    align = ["---", *("---:" for _ in table.headings[1:])]
    body = [map(_escape, table.headings), align, *(map(_escape, row) for row in table.rows)]
    return [f"## {_escape(title)}", _grid(body), _escape(table.caption)]


def _chosen_markdown(summary: Summary) -> list[str]:
    headings = chosen_headings(summary)
    table = [
        ["Row", "Arm", *(cell for h in headings for cell in (h, "Published", "Mean"))],
        ["---", "---", *("---:" for _ in 3 * headings)],
    ]
    for line in lines(summary):
        cells = [(f"{f.value} {f.interval}".rstrip(), f.published, f.mean) for f in line.chosen]
        table.append([_escape(line.title), _escape(line.label), *(_escape(cell) for three in cells for cell in three)])
    return [
        "## The run that training would choose",
        _grid(table),
        _escape(chosen_caption(summary)),
    ]


def _columns(summary: Summary) -> list[_Column]:
    metric = summary.record.metric
    published = any(c.figures for c in summary.record.claims)
    columns = [
        _Column("Runs", lambda x: x.runs),
        _Column(with_unit(best_heading(summary.record), metric.unit), lambda x: x.final.best),
        _Column("Published", lambda x: x.best_published, published=True),
        _Column(with_unit("Mean", metric.unit), lambda x: x.final.mean, lambda x: x.final.mean_interval),
        _Column("Published", lambda x: x.mean_published, published=True),
        _Column("Success", lambda x: x.success, lambda x: x.success_interval),
        _Column(difference_heading(metric), lambda x: x.final.difference, lambda x: x.final.difference_interval),
        _Column("p", lambda x: x.p),
    ]
    unused = {"Published"} if not published else set()
    unused |= {"Success"} if metric.success is None else set()
    return [c for c in columns if c.heading not in unused]


def _claim(finding: Finding) -> Text:
    text = Text.assemble(_status(finding.status), f"  {finding.claim.id}  {finding.claim.statement}")
    return text.append(f" ({finding.claim.source})", style="dim")


def _status(status: str) -> Text:
    return Text(_symbol(status), style=_STYLES.get(status, ""))


def _symbol(status: str) -> str:
    return f"{SYMBOLS[status]} {status}" if status else ""


def _escape(text: str) -> str:
    """Escape text for Markdown: nothing in it formats or links, and no pipe ends a cell."""
    for mark in ("\\", "|", "*", "_", "`", "<", "](", "]["):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
