"""The commands of the lab: what all studies share. Help texts are the docstrings of fields.

Heavy imports stand inside the commands, so that help comes at once.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from gradnoise.errors import StudyError
from gradnoise.paper import SYSTEMS, load_system

if TYPE_CHECKING:
    from gradnoise.study import Options, Study
    from gradnoise.study.console import Figures
    from gradnoise.study_file import StudyFile


#: Options that only some executors have.
SETTINGS = ("address", "num_gpus", "accelerator_type")


@dataclass(frozen=True)
class Machine:
    """Where and how to train; no result depends on it beyond rounding."""

    device: str = "cpu"
    """Where to train: cpu, cuda, cuda:1, ..."""
    workers: Annotated[int | None, arg(help_behavior_hint="(default: measured)")] = None
    """Worker processes."""
    chunk: Annotated[int | None, arg(help_behavior_hint="(default: measured)")] = None
    """Replicas trained as one program."""
    executor: str = "auto"
    """Where slices of training run: here (in this process), processes (worker processes of this machine), auto
    (whichever of these is faster), spool (workers on any machine that reaches the folder, see gradnoise worker), or ray
    (a Ray cluster)."""
    address: Annotated[str | None, arg(help_behavior_hint="(ray)")] = None
    """Ray cluster: auto for the one that this machine belongs to, HOST:PORT, or local to start one here."""
    num_gpus: Annotated[float | None, arg(help_behavior_hint="(ray; default: 0)")] = None
    """GPUs of one worker; a fraction lets several share one."""
    accelerator_type: Annotated[str | None, arg(help_behavior_hint="(ray; default: any)")] = None
    """Kind of GPU, as Ray names it."""
    slice_seconds: float = 8.0
    """Training is handed out, and committed, in slices of about this many seconds; longer ones for many workers."""
    compile: bool = False
    """Compile the training step (slow to start; needs a C++ compiler on a CPU)."""
    no_trace: bool = False
    """Run the Python code of model and loss in every update instead of recording it once: slow, and right for a loss
    that counts its updates itself."""
    accept_changed_code: bool = False
    """Go on with a folder whose finished trials were trained by other code; the report will say so."""

    def options(self) -> Options:
        """Return the options of a run.

        Raises:
            StudyError: a number is out of range.
        """
        from gradnoise.study import Options

        for option, value in (("workers", self.workers), ("chunk", self.chunk)):
            if value is not None and value < 1:
                raise StudyError(f"--{option} {value}: give 1 or more")
        if not self.slice_seconds >= 0:
            raise StudyError(f"--slice-seconds {self.slice_seconds}: give 0 or more")
        settings = {name: getattr(self, name) for name in SETTINGS if getattr(self, name) is not None}
        how = (self.workers, self.device, self.compile, self.chunk, self.slice_seconds)
        code = {"trace": not self.no_trace, "accept_changed_code": self.accept_changed_code}
        return Options(*how, settings=settings, **code)


@dataclass(frozen=True)
class Asked(ABC):
    """A study as a command line names it, and what to do with it."""

    name: Positional[str]
    """Which system, or one of its other studies: deep-mlp, nram, nram/ablations; see `gradnoise list`. Or a file with a
    study of yours: own_model.py, or own_model.py:NAME where it has several; see `gradnoise new`."""
    scale: Annotated[str | None, arg(help_behavior_hint="(default: quick)")] = None
    """smoke (seconds), quick (minutes on two cores) or paper (the published protocol)."""
    seeds: Annotated[int | None, arg(help_behavior_hint="(default: the scale's own)")] = None
    """Number of seeds; more than before adds runs to the study."""
    steps: Annotated[int | None, arg(help_behavior_hint="(default: the scale's own)")] = None
    """Length of a run in the system's unit, see `gradnoise list`; in updates, for a study of yours. Another than the
    usual one is reported as a deviation."""
    arms: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: all)")] = ()
    """Only these arms and the baseline."""
    rows: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: all)")] = ()
    """Only these rows of the table. Run again with other rows to add them to the study."""
    data: str = "auto"
    """Name of the data, or a folder of them where the system takes one, see `gradnoise list`. auto takes the published
    data where they can be had, otherwise a stand-in that needs no file."""
    eval_every: Annotated[int | None, arg(help_behavior_hint="(default: the scale's own)")] = None
    """Length between evaluations in the system's unit, for runs that evaluating slows down; a run that is interrupted
    goes on from its last evaluation."""
    machine: Machine = field(default_factory=Machine)

    @abstractmethod
    def __call__(self, console: Console) -> None:
        """Do it."""

    def study(self) -> tuple[Study, Path, Figures]:
        """Return the study, the usual folder for it, and what it adds to the report."""
        from gradnoise.study_file import StudyFile

        if (source := StudyFile.named(self.name)) is None:
            return self._of_a_system()
        study = self._of_a_file(source)
        return study, Path("runs") / study.name, lambda _: ()

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Turn errors of a user's own file, where the study is from one, into one sentence each."""
        from gradnoise.study_file import StudyFile, its_own_errors

        source = StudyFile.named(self.name)
        with nullcontext() if source is None else its_own_errors(source):
            yield

    def _of_a_system(self) -> tuple[Study, Path, Figures]:
        """Return a study of the paper, the folder for it, and what it adds to the report."""
        self.machine.options()  # a bad number there is found before any data is loaded
        name, _, study_name = self.name.partition("/")
        system = load_system(name)
        study = system.study(
            self.scale or "quick",
            self.data,
            self.seeds,
            self.steps,
            study=study_name or None,
            rows=self.rows,
            arms=self.arms,
            eval_every=self.eval_every,
            options=self.own_options(),
        )
        return study, Path("runs") / f"{study.name}-{study.scale}", system.extras

    def _of_a_file(self, source: StudyFile) -> Study:
        """Return a study of the user's own, cut to what is asked."""
        from gradnoise.study_file import Wish

        for option, given in (("scale", self.scale is not None), ("data", self.data != "auto")):
            if given:
                raise StudyError(
                    f"--{option} is for the paper's systems; {source.path} says itself what it trains on and for how"
                    " long, and --seeds, --steps, --rows and --arms change that"
                )
        self.machine.options()
        return Wish(self.seeds, self.steps, self.eval_every, self.rows, self.arms).of(source.load(), source)

    def own_options(self) -> dict[str, Any]:
        """Return the values of the options that only this system has."""
        return {}


@dataclass(frozen=True)
class Run(Asked):
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
            describe_plan(dry_run(study, out, options, self.machine.executor), study, out, console)
            return
        run_and_report(
            study,
            out,
            options=options,
            command=_command(),
            executor=self.machine.executor,
            console=console,
            figures=figures,
        )


A = TypeVar("A", bound=Asked)


def with_own_options(command: type[A], words: Sequence[str]) -> type[A]:
    """Return a command with the options of the system that a command line names, if it names one."""
    name = next((name for name in (word.partition("/")[0] for word in words) if name in SYSTEMS), "")
    options = load_system(name).options if name else None
    if options is None or not dataclasses.fields(options):
        return command
    heading = name.replace("-", "_")  # of the options in the help

    def own_options(asked: Asked) -> dict[str, Any]:
        return dataclasses.asdict(getattr(asked, heading))

    own = (heading, options, field(default_factory=options))
    namespace = {"__doc__": command.__doc__, "own_options": own_options}
    return dataclasses.make_dataclass(command.__name__, [own], bases=(command,), namespace=namespace, frozen=True)


@dataclass(frozen=True)
class Resume:
    """Finish every run that a study's folder holds, after an interruption; the folder alone is enough, but for a study
    of your own.

    Examples: gradnoise resume runs/nram-paper; gradnoise resume runs/my-study own_model.py
    """

    folder: Positional[Path]
    """Folder of a `gradnoise run`."""
    file: Annotated[Positional[str | None], arg(help_behavior_hint="(default: none)")] = None
    """The file of a study of your own, as given to `gradnoise run`: code is never run because a folder names it."""
    machine: Machine = field(default_factory=Machine)

    def __call__(self, console: Console) -> None:
        """Build the study again, run it on and print the verdict."""
        from gradnoise.paper.rebuild import build_again, recipe_for_all
        from gradnoise.study import Store
        from gradnoise.study_file import found_again, its_own_errors, source_of

        self.machine.options()
        with Store(self.folder, readonly=True) as store:
            record = store.record()
        if self.file is not None or source_of(record) is not None:
            study, source = found_again(record, self.folder, self.file)
            with its_own_errors(source):
                self._run(study, lambda _: (), console)
            return
        recipe = recipe_for_all(record)
        self._run(build_again(recipe, record), load_system(recipe.system).extras, console)

    def _run(self, study: Study, figures: Figures, console: Console) -> None:
        from gradnoise.study import run_and_report

        run_and_report(
            study,
            self.folder,
            options=self.machine.options(),
            command=_command(),
            executor=self.machine.executor,
            console=console,
            figures=figures,
            adds=False,
        )


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
        summary = conclude(results, self.out or self.folder, console, figures, table=self.table)
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


@dataclass(frozen=True)
class Doctor:
    """Show versions, devices, threads, where data was found, and which code draws the noise."""

    def __call__(self, console: Console) -> None:
        """Print them."""
        from gradnoise.doctor import findings

        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for name, value in findings():
            table.add_row(Text(name, style="bold"), value)
        console.print(table)


def _command() -> str:
    """Return the command line of this process, which a report shows and an interrupted study names to go on."""
    return shlex.join(["gradnoise", *sys.argv[1:]])
