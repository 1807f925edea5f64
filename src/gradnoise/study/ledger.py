"""The ledger of claims: each published number next to ours, read from committed result folders."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gradnoise.errors import StudyError
from gradnoise.study.analysis.claims import NOT_TESTED
from gradnoise.study.spec import Claim

FILE = "claims.csv"
COLUMNS = ("id", "status", "reason", "published_mean", "our_mean", "published_best", "our_best")
STYLES = {"reproduced": "green", "not reproduced": "red", "undecided": "yellow"}


def committed_results() -> Path:
    """Find the result folders: results/ here, that of a source checkout, or what came with the package."""
    package = Path(__file__).resolve().parents[1]
    for folder in (Path("results"), package.parents[1] / "results", package / "_results"):
        if folder.is_dir():
            return folder
    raise StudyError("no results folder here and none came with the package; name one with --results")


def print_ledger(claims: Mapping[str, Sequence[Claim]], results: Path, console: Console) -> None:
    """Print the claims of every system, also those that have no results yet.

    Args:
        claims: result folder -> claims of that system.
        results: where the folders lie. Each holds the `claims.csv` that a report wrote, or folders with one each.
        console: where to print.
    """
    if not results.is_dir():
        raise StudyError(f"{results} is no folder; name the one that holds result folders such as deep_mlp/")
    for name, known in claims.items():
        found = _found(results / name)
        console.print(Text(name, style="bold"))
        for claim in known:
            row = found.get(claim.id, {})
            status = row.get("status", "not run")
            console.print(Text.assemble((f"{claim.id}  ", "bold"), claim.statement, (f"  ({claim.source})", "dim")))
            shown = "mean" if row.get("published_mean") else "best"
            if published := row.get(f"published_{shown}"):
                console.print(Padding(f"{shown}: {published} published, {row[f'our_{shown}']} ours", (0, 0, 0, 4)))
            console.print(Padding(Text(status, style=STYLES.get(status, "dim")), (0, 0, 0, 4)))
            if reason := row.get("reason"):
                console.print(Padding(Text(reason, style="dim"), (0, 0, 0, 4)))


def _found(folder: Path) -> dict[str, dict[str, str]]:
    """Gather claims by id from a system's own table, and from those of studies in folders within its folder."""
    found: dict[str, dict[str, str]] = {}
    for path in (folder / FILE, *sorted(folder.glob(f"*/{FILE}"))):
        for id, row in _read(path).items():
            if id not in found or row["status"] != NOT_TESTED:
                found[id] = row
    return found


def _read(path: Path) -> dict[str, dict[str, str]]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise StudyError(f"{path} has no column {missing[0]!r}; write it again with `gradnoise report`")
        return {row["id"]: row for row in reader}
