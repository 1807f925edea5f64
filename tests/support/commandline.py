"""The command line as a test calls it."""

from gradnoise.cli import main


def gradnoise(*arguments: str) -> int:
    """The exit code of a command."""
    try:
        main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)
    return 0
