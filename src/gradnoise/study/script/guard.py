"""Runs a command for a driver, and ends it with all that it started when the driver ends, however that comes about.

A small program of its own, run by path and without site-packages: `python -I -S guard.py FD COMMAND ...`. FD is the
reading end of a pipe whose other end only the driver has. When that is closed, by the driver or by its death, the
command is killed. What the command leaves behind when it ends, such as workers of a data loader, is killed too.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys

SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36  # of Linux's prctl


def main() -> int:
    """Run the command; returns its exit code, or 128 + the signal that killed it."""
    channel, command = int(sys.argv[1]), sys.argv[2:]
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver
    prctl = _prctl()
    prctl(SET_CHILD_SUBREAPER, 1)  # what the command leaves behind becomes a child of this process

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        prctl(SET_PDEATHSIG, signal.SIGKILL)

    try:
        child = subprocess.Popen(command, start_new_session=True, preexec_fn=prepare)
    except OSError as error:
        print(f"cannot start {command[0]!r}: {error.strerror}", file=sys.stderr)
        return 127
    while child.poll() is None:
        ready, _, _ = select.select([channel, woken], [], [])
        if woken in ready:
            os.read(woken, 512)
        if channel in ready:
            break
    _kill(child.pid)
    code = child.wait()
    _kill_rest()
    return code if code >= 0 else 128 - code


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _kill_rest() -> None:
    """Kill what has left the command's process group, where the system tells of it."""
    for _ in range(100):  # what is killed may have children that come here in turn
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            return
        if not children:
            return
        for process in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        for process in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process, 0)


def _prctl():  # type: ignore[no-untyped-def]
    """Return Linux's prctl, or something that does nothing."""
    if sys.platform != "linux":
        return lambda option, value: 0
    import ctypes

    try:
        return ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return lambda option, value: 0


if __name__ == "__main__":
    sys.exit(main())
