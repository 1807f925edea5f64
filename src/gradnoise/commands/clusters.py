"""Commands for studies on several machines. Help texts are the docstrings of fields."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from gradnoise.errors import StudyError

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
#: Exit status of a process that was ended by SIGTERM.
TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Worker:
    """Train slices of a study that `gradnoise run ... --executor spool` drives, on any machine that reaches its folder.

    Start as many as you like, when you like: one for each core, or for each GPU. A slice whose worker is killed is run
    by another. SIGTERM ends a worker after its present slice, a second one at once.

    Example: gradnoise worker --study runs/nram-paper --until 3h50m
    """

    study: Path
    """Folder of the study: the driver's --out, as this machine sees it. It may be empty still."""
    until: Annotated[str | None, arg(help_behavior_hint="(default: until the study is finished)")] = None
    """Leave after this time, such as 3h50m, and before a slice would be cut off."""
    idle: str = "1h"
    """Leave after this time without a driver."""
    device: Annotated[str | None, arg(help_behavior_hint="(default: as the driver)")] = None
    """Which device of this machine to train on, such as cuda:1; of the kind that the driver has."""

    def __call__(self, console: Console) -> None:
        """Work, and say why it ends."""
        from gradnoise.study.run.own_code import Terminated
        from gradnoise.study.run.spool.worker import SpoolWorker, Until

        if not self.study.is_dir():
            raise StudyError(f"{self.study} is no folder; name the folder of the study, the --out of its driver")
        until = Until(None if self.until is None else seconds(self.until), seconds(self.idle))

        def say(line: str) -> None:
            console.print(Text(line), soft_wrap=True)

        worker = SpoolWorker(self.study, device=self.device, until=until, say=say)

        def at_once(*_: object) -> None:
            raise Terminated(TERMINATED)

        def leave(*_: object) -> None:
            signal.signal(signal.SIGTERM, at_once)
            worker.leave()

        before = signal.signal(signal.SIGTERM, leave)
        try:
            say(f"worker {worker.id}: {worker.work()}")
        finally:
            signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Status:
    """Show where a study stands, also while it runs: what is left, who works at it, what went wrong.

    Example: gradnoise status runs/nram-paper
    """

    folder: Positional[Path]
    """Folder of a `gradnoise run`."""

    def __call__(self, console: Console) -> None:
        """Print it."""
        from gradnoise.study.status import status_of

        status = status_of(self.folder)
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_row(Text("study", style="bold"), Text(status.title))
        for name, value in status.lines:
            table.add_row(Text(name, style="bold"), Text(value))
        for event in status.events:
            table.add_row(Text("event", style="bold"), Text(event, style="yellow"))
        console.print(table)


@dataclass(frozen=True)
class Export:
    """Write the trials and curves of a study for other programs.

    Example: gradnoise export runs/nram-paper --to parquet
    """

    folder: Positional[Path]
    """Folder of a `gradnoise run`, or one of results/."""
    to: str
    """csv, parquet (for pandas, polars, DuckDB), tensorboard, mlflow or wandb-offline (for `wandb sync`)."""
    out: Annotated[Path | None, arg(help_behavior_hint="(default: FOLDER/export-FORMAT)")] = None
    """Where to; a folder that does not exist yet, or is empty."""

    def __call__(self, console: Console) -> None:
        """Write them."""
        from gradnoise.study import Store, read_results
        from gradnoise.study.exported import RECORD
        from gradnoise.study.report.formats import export
        from gradnoise.study.store import FILE

        if (self.folder / RECORD).exists() and not (self.folder / FILE).exists():
            results = read_results(self.folder, curves=True)
        else:
            with Store(self.folder, readonly=True) as store:
                results = store.results()
        out = self.out or self.folder / f"export-{self.to}"
        export(results, self.to, out)
        console.print(f"Written: {out}", soft_wrap=True)


def seconds(text: str) -> float:
    """Return a time in seconds: 90s, 45m, 3h50m, 1d12h.

    Raises:
        StudyError: it is none.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise StudyError(f"{text!r} is no time: write such as 90s, 45m, 3h50m or 1d12h")
    return sum(float(number) * UNITS[unit] for number, unit in parts)
