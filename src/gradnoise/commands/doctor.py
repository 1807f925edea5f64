"""The command `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Doctor:
    """Show versions, devices, threads, where data was found, and which code draws the noise."""

    def __call__(self, console: Console) -> None:
        """Print them."""
        from gradnoise.commands.findings import findings

        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for name, value in findings():
            table.add_row(Text(name, style="bold"), value)
        console.print(table)
