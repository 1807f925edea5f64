"""The commands `report` and `claims`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Report:
    """Write the report of a study again from its folder, and print the answer.

    Example: gradnoise report runs/nram-paper --table
    """

    folder: Positional[Path]
    """Folder of a `gradnoise run`, or one of results/, which has the tables of a study without its store."""
    out: Annotated[Path | None, arg(help_behavior_hint="(default: the study's folder)")] = None
    """Where to write report, tables and figures."""
    table: bool = False
    """Print the whole table, too."""

    def __call__(self, console: Console) -> None:
        """Write and print."""
        from gradnoise.paper.rebuild import renewed, system_of
        from gradnoise.study import read_folder
        from gradnoise.study.console import conclude, keep_look, no_figures
        from gradnoise.study.store import FILE

        results = read_folder(self.folder)
        if system := system_of(results.record):
            results, figures = renewed(results, system), system.extras
        else:
            figures = no_figures
        summary = conclude(results, self.out or self.folder, console, figures, table=self.table, study=self.folder)
        if (self.folder / FILE).exists():
            keep_look(self.folder, summary, console)


@dataclass(frozen=True)
class Claims:
    """Print the ledger: every statement of the paper, its figures, ours with their intervals, and what became of it.

    Example: gradnoise claims --html ledger.html
    """

    results: Annotated[Path | None, arg(help_behavior_hint="(default: results/ here, or what the package has)")] = None
    """Folder of result folders."""
    html: Annotated[Path | None, arg(help_behavior_hint="(default: none)")] = None
    """Draw the ledger as one page into this file instead of printing it."""
    json: bool = False
    """Print it as JSON."""

    def __call__(self, console: Console) -> None:
        """Judge what there is, then print or draw it."""
        from gradnoise.paper.ledger import committed_results, make_ledger, plain, print_ledger, write_page

        results = self.results or committed_results()
        ledger = make_ledger(results)
        if self.html:
            write_page(ledger, self.html, results)
            console.print(f"ledger: {self.html}", soft_wrap=True)
        elif self.json:
            console.out(plain(ledger), highlight=False)
        else:
            print_ledger(ledger, console)
