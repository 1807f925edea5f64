"""The report of a study: one self-contained page, its tables as CSV, and its figures as files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from gradnoise.files import replace_atomically
from gradnoise.study.analysis.headline import conclusions
from gradnoise.study.analysis.readings import second_heading, second_words
from gradnoise.study.analysis.shapes import Effect, Summary
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.report.chart import fluid
from gradnoise.study.report.compared import Facts, compared
from gradnoise.study.report.export import claims_csv, curves_csv_gz, study_json, summary_csv, trials_csv
from gradnoise.study.report.extras import Extras, Table
from gradnoise.study.report.figures import DIFFERENCES, plots
from gradnoise.study.report.latex import latex
from gradnoise.study.report.methods import methods_used
from gradnoise.study.report.panels import DASHES, dash_array
from gradnoise.study.report.plot import Plot, sheet
from gradnoise.study.report.svg import PALETTE, arm_slot, plain_svg, png, themed_svg
from gradnoise.study.report.tables import chosen_headings, markdown
from gradnoise.study.report.text import (
    SYMBOLS,
    Line,
    best_heading,
    chosen_caption,
    claim_lines,
    difference_heading,
    display_title,
    glossary,
    has_probable,
    lines,
    probable_heading,
    two_readings,
    with_unit,
)
from gradnoise.study.results import StudyResults

#: Figures that stand before the methods, beside the answer: the others tell how, or what the table has, too.
SHOWN = ("training-curves",)
_TEMPLATES = Path(__file__).with_name("templates")


def write_report(
    results: StudyResults,
    out_dir: str | Path,
    extras: Extras = (),
    *,
    summary: Summary | None = None,
    standing: Facts = (),
) -> Path:
    """Write the report of a study: the page, its tables and its figures.

    report.html is the page, summary.md its tables, summary.tex the first of them for a paper; summary.csv, claims.csv,
    trials.csv and curves.csv.gz hold its numbers, study.json its description (see `read_results`); figures/ holds every
    figure as SVG and PNG, tables/ the experiment's own tables. Each file is replaced as a whole, so that a reader never
    meets a part. The same results give the same bytes.

    Args:
        results: a study, finished or not.
        out_dir: folder for the files, made if it is not there.
        extras: figures and tables of the experiment.
        summary: what `summarise` makes of the results, if that was computed before.
        standing: where an unfinished study stands, see `Status.lines`; on the page alone.

    Returns:
        The path of report.html.
    """
    folder = Path(out_dir)
    summary = summary or summarise(results)
    made = plots(results, summary)
    title, arms = display_title(summary.record), [a.label for a in summary.record.arms]
    drawn = {plot.name: sheet(plot, arms, f"{plot.title}: {title}") for plot in made}
    added = {f"extra-{i}-{slug(name)}": item for i, (name, item) in enumerate(extras, 1)}
    tables = {name: item for name, item in added.items() if isinstance(item, Table)}
    drawn |= {name: item for name, item in added.items() if not isinstance(item, Table)}
    files = {
        "study.json": study_json(results),
        "summary.csv": summary_csv(summary),
        "trials.csv": trials_csv(results),
        **({"claims.csv": claims_csv(summary)} if summary.findings else {}),
        "summary.md": markdown(summary, extras).encode(),
        "summary.tex": latex(summary).encode(),
        "curves.csv.gz": curves_csv_gz(results),
        **{f"figures/{name}": content for item in drawn.items() for name, content in _figure_files(*item)},
        **{f"tables/{name}.csv": table.csv() for name, table in tables.items()},
        "report.html": render_report(summary, made, extras, compared(results, summary), standing).encode(),
    }
    for name, content in files.items():
        replace_atomically(folder / name, lambda file, content=content: file.write(content), within=folder)
    return folder / "report.html"


def _figure_files(name: str, figure: Figure) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of a figure's files; both have the same layout, which is computed once."""
    yield f"{name}.svg", plain_svg(figure, name)
    figure.set_layout_engine("none")
    yield f"{name}.png", png(figure)


def render_report(
    summary: Summary, made: Sequence[Plot], extras: Extras = (), facts: Facts = (), standing: Facts = ()
) -> str:
    """Render the page as HTML: no script, nothing fetched.

    Args:
        summary: what `summarise` returned.
        made: what `plots` returned.
        extras: figures and tables of the experiment.
        facts: what `compared` returned.
        standing: where an unfinished study stands.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"typeset": typeset, "unit": with_unit}
    context = {**_text(summary), **_drawings(made, extras), "facts": facts, "standing": standing}
    return environment.get_template("report.html.j2").render(context)


def typeset(text: str) -> str:
    """Put minus signs where hyphens stand before numbers, and keep "p = 0.01" on one line.

    Example:
        >>> typeset("[-1.0, +2.0] in 2-fold")
        '[−1.0, +2.0] in 2-fold'
    """
    text = re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)
    return re.sub(r"\b([pn]) ([=<]) (?=\d)", "\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}", text)


def slug(text: str) -> str:
    """Turn a title into a part of a file name: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "figure"


def _text(summary: Summary) -> Mapping[str, Any]:
    record, table = summary.record, lines(summary)
    by_row: dict[str, list[Line]] = {}
    for line in table:
        by_row.setdefault(line.row, []).append(line)
    headline, *notes = conclusions(summary)
    return {
        "summary": summary,
        "headline": headline,
        "notes": notes,
        "record": record,
        "metric": record.metric,
        "title": display_title(record),
        "rows": [(row, title, by_row[row]) for row, title in record.rows if row in by_row],
        "cells": {(c.row, c.arm): c for c in summary.cells},
        "runs_column": record.metric.success is None or any(c.fates.done != c.asked for c in summary.cells),
        "fates": lambda cell: cell.by_setting if len(cell.by_setting) <= len(DASHES) else (cell.fates,),
        "has_published": any(c.figures for c in record.claims),
        "has_restarts": any(c.restarts for c in summary.cells),
        "terms": glossary(summary) | _second_term(summary),
        "best_heading": best_heading(record),
        "has_probable": has_probable(summary),
        "probable_heading": probable_heading(record.metric),
        "chosen_headings": chosen_headings(summary),
        "chosen_caption": chosen_caption(summary),
        "difference_heading": difference_heading(record.metric),
        "second_heading": second_heading(record.metric) if two_readings(summary) else "",
        "second_words": second_words(record.metric),
        "methods": methods_used(summary),
        "symbols": SYMBOLS,
        "claims": claim_lines(summary),
        "effects": _effects(summary),
        "slots": {arm.name: arm_slot(i) for i, arm in enumerate(record.arms)},
    }


def _second_term(summary: Summary) -> dict[str, str]:
    """Say what the column of the second reading means, where there is one."""
    metric = summary.record.metric
    if not two_readings(summary):
        return {}
    return {second_heading(metric): f"the difference {second_words(metric)}, and its verdict where that is another"}


def _effects(summary: Summary) -> list[tuple[str, list[Effect]]]:
    """Return the comparisons of each row that has any, with its title."""
    by_row: dict[str, list[Effect]] = {}
    for effect in summary.effects:
        by_row.setdefault(effect.row, []).append(effect)
    return [(title, by_row[row]) for row, title in summary.record.rows if row in by_row]


def _drawings(made: Sequence[Plot], extras: Extras) -> Mapping[str, Any]:
    added = [
        (name, "" if isinstance(item, Table) else themed_svg(item, f"extra-{i}", name), item)
        for i, (name, item) in enumerate(extras)
    ]
    return {
        "answer": next((plot for plot in made if plot.name == DIFFERENCES), None),
        "plots": [plot for plot in made if plot.name in SHOWN],
        "more_plots": [plot for plot in made if plot.name not in (*SHOWN, DIFFERENCES)],
        "fluid": fluid,
        "extras": added,
        "has_tables": any(isinstance(item, Table) for _, item in extras),
        "palette": PALETTE,
        "dash_array": dash_array,
    }
