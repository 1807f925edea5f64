"""What commands of the systems share that train a model before they show it: where it is kept, and a bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from gradnoise.data import cache_folder


def weights_cache() -> Path:
    """Return the folder that keeps trained weights, that of the downloads."""
    return cache_folder(os.environ)


@contextmanager
def training_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar from the first call of what is yielded, a function of (updates done, updates in all)."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("training", total=None, visible=False)
        yield lambda done, total: bars.update(bar, completed=done, total=total, visible=True)


def notice(console: Console) -> Callable[[str], None]:
    """Return a function that prints a sentence which the user should know."""
    return lambda text: console.print(text, style="yellow", markup=False, soft_wrap=True)
