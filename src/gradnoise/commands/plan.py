"""The command `plan`: how many seeds an effect needs, and the time that they take, before anything is run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.text import Text
from tyro.conf import arg

from gradnoise.commands.study_command import StudyCommand
from gradnoise.errors import StudyError

if TYPE_CHECKING:
    from gradnoise.study import Plan as Timed
    from gradnoise.study import Study, StudyResults


@dataclass(frozen=True)
class Plan(StudyCommand):
    """Say how many seeds a study needs to show an effect, and how long they take; nothing is run or written.

    How far pairs differ must be known for that: from a pilot of a few seeds, or by --spread. Name the number of seeds
    before the first look at the results: seeds that are added later cost more.

    Examples: gradnoise plan deep-mlp --scale paper --effect 2; gradnoise plan own_model.py --effect 0.5 --spread 1.2
    """

    effect: Annotated[float | None, arg(help_behavior_hint="(default: the margin of the metric)")] = None
    """Smallest difference that is to be shown, in the unit of the metric: 2 is two points of an accuracy in %."""
    power: float = 0.8
    """Chance to show it."""
    spread: Annotated[float | None, arg(help_behavior_hint="(default: from the pilot)")] = None
    """Standard deviation of the differences between paired runs, in the unit of the metric."""
    pilot: Annotated[Path | None, arg(help_behavior_hint="(default: the study's own folder, else results/)")] = None
    """Folder of a study with finished pairs in the same rows and arms."""

    def __call__(self, console: Console) -> None:
        """Print what each comparison needs, and the time."""
        from gradnoise.study.analysis import seeds_needed, summarise
        from gradnoise.study.analysis.shapes import difference_unit
        from gradnoise.study.needs import describe_needs

        study, folder, _ = self.study()
        effect = study.metric.margin if self.effect is None else self.effect
        if not effect:
            raise StudyError(f"--effect: say what difference of {study.metric.title} is to be shown")
        found = None if self.spread is not None else self._pilot(study, folder)
        summary = summarise(found[1]) if found else None
        needs = seeds_needed(study, effect, pilot=summary, spread=self.spread, power=self.power)
        if not any(need.spread for need in needs):
            raise StudyError(
                "how far pairs differ is not known: run a pilot of two or more seeds and name its folder with --pilot,"
                " or give --spread"
            )
        unit = difference_unit(study.metric)
        size = f"{effect:g} {unit.removesuffix('s') if effect == 1.0 else unit}".strip()
        console.print(Text(study.heading, style="bold"))
        console.print(
            f"To show {size} of {study.metric.title} with a chance of {self.power:.0%}, at the 95% level over"
            f" {len(needs)} comparison{'s' if len(needs) > 1 else ''}.",
            soft_wrap=True,
        )
        if found:
            console.print(f"Spread: 80% intervals, from the pairs in {found[0]}.", soft_wrap=True)
        with self.own_errors():
            time = self._timed(study)
        describe_needs(study, needs, time, console)

    def _pilot(self, study: Study, folder: Path) -> tuple[Path, StudyResults] | None:
        """Return the first folder with results of this study's metric, and what is in it."""
        from gradnoise.study import read_folder, read_results
        from gradnoise.study.store import FILE

        if self.pilot:
            results = read_folder(self.pilot)
            if results.record.metric.name != study.metric.name:
                raise StudyError(
                    f"{self.pilot} was judged by {results.record.metric.title}, this study is by {study.metric.title}:"
                    " its pairs say nothing of how far these differ"
                )
            return self.pilot, results
        if (folder / FILE).exists():
            return folder, read_folder(folder)
        return next(((path, read_results(path)) for path in _committed(study)), None)

    def _timed(self, study: Study) -> Timed:
        from gradnoise.study import dry_run

        with tempfile.TemporaryDirectory() as nothing:
            return dry_run(study, Path(nothing) / "study", self.machine.options(), self.machine.executor)


def _committed(study: Study) -> Iterator[Path]:
    """Yield the result folders of the same study of a system, at the same scale."""
    from gradnoise.paper.ledger import committed_results
    from gradnoise.study.exported import RECORD

    asked = study.recipe or {}
    if "system" not in asked:
        return
    for path in sorted(committed_results().rglob(RECORD)):
        there = json.loads(path.read_text(encoding="utf-8")).get("recipe") or {}
        if all(there.get(name) == asked[name] for name in ("system", "study", "scale")):
            yield path.parent
