"""A command that runs to its end, to its time limit, or until the driver is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradnoise.errors import StudyError

GUARD = Path(__file__).with_name("guard.py")
#: Seconds between two looks at a process.
ATTENTION = 0.1


class Stopped(Exception):
    """The driver stops: the run is lost, and will be made again."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: its exit code, or 128 + a signal; None when it ran into the time limit.
        seconds: how long it ran.
    """

    code: int | None
    seconds: float

    @property
    def sentence(self) -> str:
        """What happened, such as "exit code 1"."""
        if self.code is None:
            return f"no end after {self.seconds:.0f} s"
        if self.code == 128 + signal.SIGKILL:
            return "killed by signal 9, as for want of memory"
        if 128 < self.code < 128 + signal.NSIG:
            return f"killed by signal {self.code - 128}"
        return f"exit code {self.code}"


def run_to_the_end(
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdout: Path,
    stderr: Path,
    timeout: float | None,
    stop: threading.Event,
    attend: Callable[[], None] = lambda: None,
) -> Ended:
    """Run a command; nothing that it started outlives this call, nor this process.

    Args:
        words: the command.
        environment: all of its environment.
        stdout, stderr: files of its output, written anew.
        timeout: seconds after which it is killed; None for no limit.
        stop: when set, the command is killed.
        attend: called now and then while it runs; what it raises ends the command.

    Raises:
        Stopped: `stop` was set.
        StudyError: the output cannot be written.
    """
    started = time.monotonic()
    watched, held = os.pipe()  # the guard ends when this process has closed `held`, or died
    try:
        with _opened(stdout) as out, _opened(stderr) as err:
            guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(watched), *words],
                pass_fds=(watched,),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(watched)
    try:
        while True:
            try:
                code = guard.wait(ATTENTION)
                return Ended(code if code >= 0 else 128 - code, time.monotonic() - started)
            except subprocess.TimeoutExpired:
                pass
            attend()
            if stop.is_set():
                raise Stopped
            if timeout is not None and time.monotonic() - started > timeout:
                return Ended(None, time.monotonic() - started)
    finally:
        os.close(held)
        guard.wait()


def _opened(path: Path):  # type: ignore[no-untyped-def]
    try:
        return open(path, "wb")
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror}; make room, then repeat the command") from error
