"""The command `gradnoise list`: systems of the paper, their studies, options and claims."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from gradnoise.paper import SYSTEMS, load_system

if TYPE_CHECKING:
    from gradnoise.paper.system import System


@dataclass(frozen=True)
class List:
    """Show the paper's systems: their studies and scales, and the published claims that they test."""

    names: Annotated[Positional[tuple[str, ...]], arg(help_behavior_hint="(default: all)")] = ()
    """Only these systems."""

    def __call__(self, console: Console) -> None:
        """Print them."""
        for system in map(load_system, self.names or SYSTEMS):
            console.print(Text.assemble((system.name, "bold"), f"  {system.title} ({system.table})"))
            console.print(_usage(system))
            console.print(_claims(system))


def _usage(system: System[Any]) -> Table:
    lines = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for study, scales in system.studies.items():
        name = system.name if study == system.main_study else f"{system.name}/{study}"
        lines.add_row(f"gradnoise run {name}", f"--scale {'|'.join(scales)}")
    lines.add_row("", f"--steps N: {system.length_unit} of a run")
    if system.data:
        folder = f"|FOLDER: a folder with {system.folder}" if system.folder else ""
        lines.add_row("", f"--data {'|'.join(system.data_names)}{folder}")
    for option in dataclasses.fields(system.options):
        lines.add_row("", f"--{option.name.replace('_', '-')}, see gradnoise run {system.name} --help")
    for name, command in system.commands.items():
        lines.add_row(f"gradnoise {system.name} {name}", (command.__doc__ or "").partition("\n")[0])
    return lines


def _claims(system: System[Any]) -> Table:
    lines = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for claim in system.claims:
        lines.add_row(claim.id, claim.statement, Text(claim.source, style="dim"))
    return lines
