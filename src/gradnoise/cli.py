"""The command line: a thin shell over the study lab and the paper's systems."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from gradnoise.data import DataError
from gradnoise.paper import SYSTEMS, system
from gradnoise.paper.memory_network import check_figure, print_reading, read, save_figure, trained
from gradnoise.paper.nram import trace_oracle, trace_run
from gradnoise.population import PopulationError
from gradnoise.population.checkpoint import CheckpointError
from gradnoise.study import Options, Store, StudyError, dry_run, run_and_report
from gradnoise.study.console import conclude, describe_plan
from gradnoise.study.ledger import committed_results, print_ledger

Positional = tyro.conf.Positional
EXPECTED_ERRORS = (StudyError, DataError, PopulationError, CheckpointError, OSError)


@dataclass(frozen=True)
class List:
    """Show the paper's systems and the published claims that each of them tests."""

    def __call__(self, console: Console) -> None:
        """Print them."""
        for s in SYSTEMS.values():
            console.print(Text.assemble((s.name, "bold"), f"  {s.title}"))
            console.print(Text(f"  run it: gradnoise run {s.name} --scale {'|'.join(s.scales)}", style="dim"))
            table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
            for claim in s.claims:
                table.add_row(claim.id, claim.statement, Text(claim.source, style="dim"))
            console.print(table)


@dataclass(frozen=True)
class Run:
    """Run a study to its verdict and report; repeat the same command to go on after any interruption.

    Example: gradnoise run deep-mlp --scale quick
    """

    name: Positional[str]
    """Which system: see `gradnoise list`."""
    scale: str = "quick"
    """smoke (seconds), quick (minutes on two cores) or paper (the published protocol)."""
    seeds: int | None = None
    """Number of seeds; more than before adds runs to the study. Default: the scale's own."""
    steps: int | None = None
    """Updates per run; softmax epochs for memn2n. Default: the scale's own; another one is reported as a deviation."""
    arms: tuple[str, ...] = ()
    """Only these arms, beside the baseline. Default: all."""
    rows: tuple[str, ...] = ()
    """Only these rows of the table. Default: all. Run again with other rows to add them to the study."""
    data: str = "auto"
    """auto; mnist, fashion-mnist or digits (deep-mlp); babi or generated (memn2n). auto takes the published data
    where they can be had, else what is embedded."""
    out: Path | None = None
    """Folder of the study. Default: runs/NAME-SCALE."""
    device: str = "cpu"
    """Where to train: cpu, cuda, cuda:1, ..."""
    workers: int | None = None
    """Worker processes. Default: measured."""
    chunk: int | None = None
    """Replicas trained as one program. Default: measured."""
    compile: bool = False
    """Compile the training step (slow to start; needs a C++ compiler on a CPU)."""
    dry_run: bool = False
    """Say what would be done and how long it would take, and do nothing."""

    def __call__(self, console: Console) -> None:
        """Run it and print the verdict."""
        for option, value in (
            ("--workers", self.workers),
            ("--chunk", self.chunk),
            ("--seeds", self.seeds),
            ("--steps", self.steps),
        ):
            if value is not None and value < 1:
                raise StudyError(f"{option} {value}: give 1 or more")
        chosen = system(self.name)
        study = chosen.study(self.scale, self.data, self.seeds, self.steps)
        if self.arms:
            study = study.with_arms(self.arms)
        if self.rows:
            study = study.with_rows(self.rows)
        out = self.out or Path("runs") / f"{self.name}-{self.scale}"
        options = Options(self.workers, self.device, self.compile, self.chunk)
        if study.experiment.stand_in:
            console.print(Text(f"Data: {study.experiment.data_title}", style="yellow"))
        if self.dry_run:
            describe_plan(dry_run(study, out, options), study, out, console)
            return
        command = shlex.join(["gradnoise", *sys.argv[1:]])
        run_and_report(study, out, options=options, command=command, console=console, figures=chosen.figures)


@dataclass(frozen=True)
class Report:
    """Write the report of a study again from its folder, and print its table."""

    folder: Positional[Path]
    """Folder of a `gradnoise run`."""
    out: Path | None = None
    """Where to write report, tables and figures. Default: the study's folder."""

    def __call__(self, console: Console) -> None:
        """Write and print."""
        with Store(self.folder, readonly=True) as store:
            results = store.results()
        known = SYSTEMS.get(results.record.name)
        conclude(results, self.out or self.folder, console, *([known.figures] if known else []))


@dataclass(frozen=True)
class Claims:
    """The ledger: each published figure, ours beside it with its interval, and the verdict."""

    results: Path | None = None
    """Folder of result folders. Default: results/ here, else the figures that came with the package."""

    def __call__(self, console: Console) -> None:
        """Print the ledger."""
        claims = {s.results: s.claims for s in SYSTEMS.values()}
        print_ledger(claims, self.results or committed_results(), console)


@dataclass(frozen=True)
class Answer:
    """Watch a memory network answer a question: where each hop looks in the story, the answer, and the truth.

    The first time a network is trained for the task, which takes seconds to a minute; it is kept in the cache.

    Example: gradnoise answer --task 2 --question 7
    """

    task: int = 1
    """Which bAbI task: 1..20 (1, 2, 5, 6, 15 where stories are generated)."""
    question: int = 1
    """Which of its test questions."""
    stage: str = "two"
    """two: with a linear start; one: softmax from the start."""
    noise: bool = False
    """Train with gradient noise, eta 0.01."""
    epochs: int = 60
    """Softmax epochs of the training."""
    seed: int = 0
    """Of the training; the best of three restarts from here on answers."""
    data: str = "auto"
    """auto, babi or generated."""
    figure: Path | None = None
    """Save the attention as a picture, too: FILE.svg, FILE.png or FILE.pdf."""

    def __call__(self, console: Console) -> None:
        """Train or load, read, print."""
        if self.figure:
            check_figure(self.figure)
        with Progress(console=console, transient=True) as bars:
            bar = bars.add_task("training", total=None, visible=False)

            def show(done: int, total: int) -> None:
                bars.update(bar, completed=done, total=total, visible=True)

            reader = trained(
                self.task,
                stage=self.stage,
                noise=self.noise,
                epochs=self.epochs,
                seed=self.seed,
                data=self.data,
                progress=show,
            )
        reading = read(reader, self.question)
        print_reading(reader, reading, console)
        if self.figure:
            save_figure(reading, self.figure)
            console.print(f"Picture: {self.figure}", soft_wrap=True)


@dataclass(frozen=True)
class Trace:
    """Watch a neural random-access machine run a program that it learned: its circuit step by step, soft and hard.

    Soft: each value the most likely one, with its probability. Hard: every choice replaced by its most likely one.
    A study keeps no weights: the first time the run is trained once more, and its weights are kept.

    Example: gradnoise trace runs/nram-quick --row pairs, or, with a program written by hand, gradnoise trace
    --oracle listk
    """

    folder: Positional[Path] = Path("runs/nram-quick")
    """Folder of a `gradnoise run nram`."""
    oracle: str | None = None
    """A task whose program written by hand is shown instead: access, increment, copy, reverse or listk."""
    row: str | None = None
    """Row of the run. Default: any; of all that fit, one that reached zero error."""
    arm: str | None = None
    """Arm of the run."""
    seed: int | None = None
    """Seed of the run."""
    weights: Path | None = None
    """File that keeps the weights. Default: one in the study's folder."""
    n: int | None = None
    """Size of the problem."""
    problem: int = 0
    """Which problem of that size: 0, 1, 2, ..."""
    memory: tuple[int, ...] = ()
    """A problem of your own instead: what each cell holds."""

    def __call__(self, console: Console) -> None:
        """Train or load, run, print."""
        try:
            if self.oracle:
                trace_oracle(self.oracle, self.n, self.problem, console)
            else:
                run = (self.row, self.arm, self.seed)
                trace_run(self.folder, *run, self.weights, self.n, self.problem, self.memory, console)
        except ValueError as error:  # a problem that is none
            raise StudyError(str(error)) from error


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


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Claims, tyro.conf.subcommand("claims")]
    | Annotated[Answer, tyro.conf.subcommand("answer")]
    | Annotated[Trace, tyro.conf.subcommand("trace")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command `gradnoise`."""
    command = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="gradnoise",
        description="Does annealed gradient noise help? Paired studies of deep networks, ending in a verdict.",
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    console = Console(highlight=False)
    try:
        command(console)
    except EXPECTED_ERRORS as error:
        Console(stderr=True, highlight=False).print(Text.assemble(("error: ", "bold red"), str(error)))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)  # while training, the study itself says how to go on
