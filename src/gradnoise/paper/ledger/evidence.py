"""Committed results as evidence: folders of studies at the paper's scale, each judged once by today's claims."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gradnoise.errors import StudyError
from gradnoise.paper import SYSTEMS, load_system
from gradnoise.paper.rebuild import recipe_of, renewed
from gradnoise.paper.recipe import MAIN_SCALE
from gradnoise.paper.system import System
from gradnoise.study import StudyResults, read_results
from gradnoise.study.analysis import Summary, summarise


@dataclass(frozen=True)
class Evidence:
    """A results folder that counts.

    Args:
        folder: its path below the folder of all results, with slashes.
        system: whose study it is.
        results: the study, with the claims of today.
    """

    folder: str
    system: System[Any]
    results: StudyResults

    @cached_property
    def summary(self) -> Summary:
        """What its study concludes, as its report does."""
        return summarise(self.results)


@dataclass(frozen=True)
class Shelf:
    """All result folders: those that count, and why others do not."""

    evidence: tuple[Evidence, ...]
    left_out: tuple[tuple[str, str], ...]


def committed_results() -> Path:
    """Find the result folders: results/ here, that of a source checkout, or what came with the package."""
    package = Path(__file__).resolve().parents[2]
    for folder in (Path("results"), package.parents[1] / "results", package / "_results"):
        if folder.is_dir():
            return folder
    raise StudyError("no results folder here and none came with the package; name one with --results")


def gather(results: Path) -> Shelf:
    """Read every folder below `results` that holds a study's `trials.csv`.

    What counts is a study of one of the paper's systems at the paper's scale, on the published data.

    Raises:
        StudyError: there is no such folder, or the tables of a study are damaged or of an older version.
    """
    if not results.is_dir():
        raise StudyError(f"{results} is no folder; name the one that holds result folders such as deep_mlp/")
    counted, left_out = [], []
    for path in sorted(results.rglob("trials.csv")):
        folder, study = path.parent.relative_to(results).as_posix(), read_results(path.parent)
        if reason := _why_not(study):
            left_out.append((folder, reason))
        else:
            system = load_system(recipe_of(study.record).system)
            counted.append(Evidence(folder, system, renewed(study, system)))
    return Shelf(tuple(counted), tuple(left_out))


def _why_not(study: StudyResults) -> str:
    """Say why a study is no evidence on the paper; "" if it is."""
    record = study.record
    if (record.recipe or {}).get("system", record.name) not in SYSTEMS:
        return "a study of another model than the paper's"
    if record.stand_in:
        return f"on stand-in data ({record.data_title})"
    scale = recipe_of(record).scale
    return "" if scale == MAIN_SCALE else f"{scale} scale"
