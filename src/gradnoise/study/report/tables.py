"""The table of a study as Markdown: our numbers next to the published ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gradnoise.study.analysis.headline import conclusions
from gradnoise.study.analysis.shapes import Summary
from gradnoise.study.report.extras import Extras, Table
from gradnoise.study.report.markup import heading, inline, paragraph
from gradnoise.study.report.text import (
    SYMBOLS,
    Line,
    best_heading,
    caption,
    chosen_caption,
    difference_heading,
    display_title,
    has_probable,
    lines,
    probable_heading,
    with_unit,
)


@dataclass(frozen=True)
class _Column:
    heading: str
    number: Callable[[Line], str]
    interval: Callable[[Line], str] = lambda line: ""
    published: bool = False


def chosen_headings(summary: Summary) -> list[str]:
    """Return the titles of the reported metrics with their units."""
    selection = summary.record.selection
    return [with_unit(m.title, m.unit) for m in selection.report] if selection else []


def markdown(summary: Summary, extras: Extras = ()) -> str:
    """Write headline, tables and claims of a study as GitHub Markdown, and the experiment's own tables.

    Args:
        summary: what `summarise` returned.
        extras: figures and tables of the experiment; figures are left out.
    """
    headline, *notes = conclusions(summary)
    columns = _columns(summary)
    align = ["---", "---", *("---:" for _ in columns), "---"]
    table = [["Row", "Arm", *(inline(c.heading) for c in columns), "Verdict"], align]
    for line in lines(summary):
        cells = (" ".join(filter(None, (c.number(line), c.interval(line)))) for c in columns)
        table.append([inline(line.title), inline(line.label), *map(inline, cells), symbol(line.verdict)])
    claims = [
        f"- **{symbol(f.status)}**: {inline(f'{f.claim.statement} ({f.claim.source}). {f.reason}')}"
        for f in summary.findings
    ]
    parts = [
        f"# {heading(display_title(summary.record))}",
        f"**{inline(headline)}**",
        *map(paragraph, notes),
        _grid(table),
        paragraph(caption(summary)),
        *(_chosen_markdown(summary) if summary.record.selection else []),
        *(["## Published claims", "\n".join(claims)] if claims else []),
        *(text for title, item in extras if isinstance(item, Table) for text in _extra_markdown(title, item)),
    ]
    return "\n\n".join(parts) + "\n"


def _grid(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _extra_markdown(title: str, table: Table) -> list[str]:
    align = ["---", *("---:" for _ in table.headings[1:])]
    body = [map(inline, table.headings), align, *(map(inline, row) for row in table.rows)]
    return [f"## {heading(title)}", _grid(body), paragraph(table.caption)]


def _chosen_markdown(summary: Summary) -> list[str]:
    headings = chosen_headings(summary)
    table = [
        ["Row", "Arm", *(cell for h in headings for cell in (inline(h), "Published", "Mean"))],
        ["---", "---", *("---:" for _ in 3 * headings)],
    ]
    for line in lines(summary):
        cells = [(f"{f.value} {f.interval}".rstrip(), f.published, f.mean) for f in line.chosen]
        table.append([inline(line.title), inline(line.label), *(inline(cell) for three in cells for cell in three)])
    return [
        "## The run that training would choose",
        _grid(table),
        paragraph(chosen_caption(summary)),
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
        _Column(probable_heading(metric), lambda x: x.probable),
    ]
    unused = {"Published"} if not published else set()
    unused |= set() if has_probable(summary) else {probable_heading(metric)}
    unused |= {"Success"} if metric.success is None else set()
    return [c for c in columns if c.heading not in unused]


def symbol(status: str) -> str:
    """Write a verdict or a claim's status with its symbol; "" for none."""
    return f"{SYMBOLS[status]} {status}" if status else ""
