"""A progress bar for downloads, shown on a terminal and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .fetch import Progress

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def terminal_progress(console: "Console | None" = None) -> Iterator[Progress | None]:
    """Show downloads as bars while the block runs.

    Args:
        console: where to draw; standard error by default, so that piped output stays clean.

    Yields:
        A callback for `load_images`, or None where `console` is no terminal.

    Example:
        >>> with terminal_progress() as progress:
        ...     data = load_images("auto", progress=progress)
    """
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    from gradnoise.terminal import Terminal

    console = console or Terminal(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        tasks = {}

        def progress(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield progress
