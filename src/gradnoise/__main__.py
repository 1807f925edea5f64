"""`python -m gradnoise` is the command `gradnoise`.

Ctrl-C ends it without a word while it imports. Later the first one stops the work, which says how to go on; a second
one ends the process at once, which loses no more than a power cut would.
"""

import os
import signal
import sys
import threading

STOPPED = 130  # as shells have it


def _at_once(*_: object) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        os.write(2, b"\x1b[?25h")  # a progress bar hides the cursor
    os._exit(STOPPED)


def _first(*_: object) -> None:
    signal.signal(signal.SIGINT, _at_once)
    raise KeyboardInterrupt


def _heeds_interrupts() -> bool:
    """Say whether Ctrl-C is for us: a shell's background job ignores it."""
    heeded = signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None)
    return heeded and threading.current_thread() is threading.main_thread()


def main() -> None:
    """Run the command."""
    heeds = _heeds_interrupts()
    if heeds:
        signal.signal(signal.SIGINT, _at_once)
    from gradnoise.cli import main as run

    if heeds:
        signal.signal(signal.SIGINT, _first)
    run()


if __name__ == "__main__":
    main()
