"""The commands `run` and `resume`."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, Suppress, arg

from gradnoise.commands.study_command import BEGAN, Machine, StudyCommand, command_line
from gradnoise.errors import StudyError
from gradnoise.paper import load_system

if TYPE_CHECKING:
    from gradnoise.study import Study
    from gradnoise.study.console import Figures


@dataclass(frozen=True)
class Run(StudyCommand):
    """Run a study to its verdict and report; repeat the same command to go on after any interruption.

    Examples: gradnoise run deep-mlp --scale quick; gradnoise run own_model.py --dry-run
    """

    out: Annotated[Path | None, arg(help_behavior_hint="(default: runs/NAME-SCALE, runs/NAME for yours)")] = None
    """Folder of the study."""
    dry_run: bool = False
    """Say what would be done and how long it would take, and do nothing."""

    def __call__(self, console: Console) -> None:
        """Run it and print the verdict."""
        with console.status(f"loading {self.name}"):
            study, usual_folder, figures = self.study()
        with self.own_errors():
            self._run(study, usual_folder, figures, console)

    def _run(self, study: Study, usual_folder: Path, figures: Figures, console: Console) -> None:
        from gradnoise.study import dry_run, run_and_report
        from gradnoise.study.console import describe_plan

        options, out = self.machine.options(), self.out or usual_folder
        if study.experiment.stand_in:
            console.print(Text(f"Data: {study.experiment.data_title}", style="yellow"))
        if self.dry_run:
            plan = dry_run(study, out, options, self.machine.executor)
            describe_plan(plan, study, out, console, before=time.monotonic() - BEGAN)
            return
        run_and_report(
            study,
            out,
            options=options,
            command=command_line(),
            executor=self.machine.executor,
            console=console,
            figures=figures,
        )


@dataclass(frozen=True)
class Resume:
    """Finish every run that a study's folder holds, after an interruption; the folder alone is enough, but for a study
    of your own and for the command of a comparison.

    Examples: gradnoise resume runs/nram-paper; gradnoise resume runs/my-study own_model.py; gradnoise resume
    runs/compare-train -- python train.py --seed {seed}
    """

    folder: Positional[Path]
    """Folder of a `gradnoise run`."""
    file: Annotated[Positional[str | None], arg(help_behavior_hint="(default: none)")] = None
    """The file of a study of your own, as given to `gradnoise run`: code is never run because a folder names it."""
    machine: Machine = field(default_factory=Machine)
    command: Suppress[tuple[str, ...]] = ()
    """The words behind --, put here by the command line."""

    def __call__(self, console: Console) -> None:
        """Build the study again, run it on and print the verdict."""
        from gradnoise.commands.compare import resumed
        from gradnoise.commands.study_file import found_again, its_own_errors, source_of
        from gradnoise.paper.rebuild import build_again, recipe_for_all
        from gradnoise.study import read_folder

        self.machine.options()
        record = read_folder(self.folder).record
        if comparison := resumed(record, self.folder, self.command):
            self._check_machine()
            dataclasses.replace(comparison, accept_changed_code=self.machine.accept_changed_code)(console)
            return
        if self.command:
            raise StudyError(f"{self.folder} holds no comparison; leave out -- and what stands behind it")
        if self.file is not None or source_of(record) is not None:
            study, source = found_again(record, self.folder, self.file)
            with its_own_errors(source):
                self._run(study, lambda _: (), console)
            return
        recipe = recipe_for_all(record)
        self._run(build_again(recipe, record), load_system(recipe.system).extras, console)

    def _check_machine(self) -> None:
        """Refuse options that a comparison has no use for."""
        plain = Machine(accept_changed_code=self.machine.accept_changed_code)
        for known in dataclasses.fields(Machine):
            if getattr(self.machine, known.name) != getattr(plain, known.name):
                raise StudyError(
                    f"--{known.name.replace('_', '-')} is not for comparisons: runs take place where --jobs or --gpus"
                    " had them; repeat the command of the comparison to change that"
                )

    def _run(self, study: Study, figures: Figures, console: Console) -> None:
        from gradnoise.study import run_and_report

        run_and_report(
            study,
            self.folder,
            options=self.machine.options(),
            command=command_line(),
            executor=self.machine.executor,
            console=console,
            figures=figures,
            adds=False,
        )
