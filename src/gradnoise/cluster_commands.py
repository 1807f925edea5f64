"""Commands for studies on several machines. Help texts are the docstrings of fields."""

from __future__ import annotations

import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.text import Text
from tyro.conf import arg

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
        from gradnoise.study.run.spool.worker import SpoolWorker, Until

        if not self.study.is_dir():
            raise StudyError(f"{self.study} is no folder; name the folder of the study, the --out of its driver")
        until = Until(None if self.until is None else seconds(self.until), seconds(self.idle))

        def say(line: str) -> None:
            console.print(Text(line), soft_wrap=True)

        worker = SpoolWorker(self.study, device=self.device, until=until, say=say)

        def leave(*_: object) -> None:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
            worker.leave()

        before = signal.signal(signal.SIGTERM, leave)
        try:
            say(f"worker {worker.id}: {worker.work()}")
        finally:
            signal.signal(signal.SIGTERM, before)


def seconds(text: str) -> float:
    """Return a time in seconds: 90s, 45m, 3h50m, 1d12h.

    Raises:
        StudyError: it is none.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise StudyError(f"{text!r} is no time: write such as 90s, 45m, 3h50m or 1d12h")
    return sum(float(number) * UNITS[unit] for number, unit in parts)
