"""The command line as a test calls it."""

import signal

from gradnoise.cli import main


def gradnoise(*arguments: str) -> int:
    """The exit code of a command."""
    try:
        main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def heeds_interrupts() -> None:
    """Begin a process as a terminal does: it heeds Ctrl-C, also where the tests are a background job that does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
