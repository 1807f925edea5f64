"""The ledger as one self-contained page: the paper's sections in order, each statement beside what our runs say."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gradnoise.files import replace_atomically
from gradnoise.paper.ledger.book import Entry, Ledger, State
from gradnoise.paper.ledger.console import SYMBOLS, part, verdicts
from gradnoise.paper.ledger.statements import TITLES

_TEMPLATES = Path(__file__).with_name("templates")
#: Where reports are read when they did not come with the package.
ONLINE = "https://github.com/gradnoise/gradnoise/tree/main/results"


def write_page(ledger: Ledger, path: Path, results: Path) -> None:
    """Write the page: no script, nothing fetched; works in light and dark, wide and narrow.

    Args:
        ledger: what `make_ledger` returned.
        path: the file, replaced as a whole.
        results: the folder of all result folders; links to their reports are relative to the page.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = render(ledger, path.parent, results).encode()
    replace_atomically(path, lambda file: file.write(content))


def render(ledger: Ledger, page_folder: Path, results: Path) -> str:
    """Render the page as HTML.

    Args:
        ledger, results: see `write_page`.
        page_folder: where the page will lie.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    counts = Counter(e.state for e in ledger.entries)
    sections = [
        (section, title, [e for e in ledger.entries if e.statement.section == section])
        for section, title in TITLES.items()
    ]
    return environment.get_template("ledger.html.j2").render(
        ledger=ledger,
        sections=sections,
        counts=[(state, counts[state]) for state in State if counts[state]],
        symbols=SYMBOLS,
        part=part,
        verdicts=verdicts,
        link=lambda folder: _link(folder, page_folder, results),
        minus=lambda text: re.sub(r"(?<![\w.])-(?=[\d.])", "−", text),
    )


def _link(folder: str, page_folder: Path, results: Path) -> str:
    """Return where a folder's report is read; "" for what is no folder."""
    if not (results / folder).is_dir():
        return ""
    report = results / folder / "report.html"
    if not report.exists():
        return f"{ONLINE}/{folder}"
    return Path(os.path.relpath(report.resolve(), page_folder.resolve())).as_posix()


def plain(ledger: Ledger) -> str:
    """Return the ledger as JSON: a list of statements with their verdicts, checks and departures."""
    return json.dumps([_entry(e, ledger) for e in ledger.entries], indent=1, ensure_ascii=False)


def _entry(entry: Entry, ledger: Ledger) -> dict[str, Any]:
    said = entry.statement
    return {
        "id": said.id,
        "section": said.section,
        "system": said.system,
        "statement": said.text,
        "published": said.figures,
        "state": entry.state,
        "direction": entry.direction,
        "size": entry.size,
        "why": entry.why,
        "checks": [dataclasses.asdict(c) for c in entry.checks],
        "runs": entry.rests_on,
        "departures": [ledger.departures[number - 1] for number in entry.departures],
    }
