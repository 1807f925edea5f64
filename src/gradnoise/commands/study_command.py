"""A study as a command line names it, and the machine that it is to train on."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from rich.console import Console
from tyro.conf import Positional, arg

from gradnoise.errors import StudyError
from gradnoise.paper import SYSTEMS, load_system

if TYPE_CHECKING:
    from gradnoise.commands.study_file import StudyFile
    from gradnoise.study import Options, Study
    from gradnoise.study.console import Figures


#: When the command began: before torch was imported.
BEGAN = time.monotonic()
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
class StudyCommand(ABC):
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
        from gradnoise.commands.study_file import StudyFile

        if (source := StudyFile.named(self.name)) is None:
            return self._of_a_system()
        study = self._of_a_file(source)
        return study, Path("runs") / study.name, lambda _: ()

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Turn errors of a user's own file, where the study is from one, into one sentence each."""
        from gradnoise.commands.study_file import StudyFile, its_own_errors

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
        from gradnoise.commands.study_file import Wish

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


A = TypeVar("A", bound=StudyCommand)


def with_own_options(command: type[A], words: Sequence[str]) -> type[A]:
    """Return a command with the options of the system that a command line names, if it names one."""
    name = next((name for name in (word.partition("/")[0] for word in words) if name in SYSTEMS), "")
    options = load_system(name).options if name else None
    if options is None or not dataclasses.fields(options):
        return command
    heading = name.replace("-", "_")  # of the options in the help

    def own_options(asked: StudyCommand) -> dict[str, Any]:
        return dataclasses.asdict(getattr(asked, heading))

    own = (heading, options, field(default_factory=options))
    namespace = {"__doc__": command.__doc__, "own_options": own_options}
    return dataclasses.make_dataclass(command.__name__, [own], bases=(command,), namespace=namespace, frozen=True)


def command_line() -> str:
    """Return the command line of this process, which a report shows and an interrupted study names to go on."""
    return shlex.join(["gradnoise", *sys.argv[1:]])
