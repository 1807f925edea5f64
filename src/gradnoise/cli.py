"""The command line: one loop over the lab's commands and those that a system mounts (`System.commands`).

A system is imported when it is named, so that help comes at once.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import tyro
from rich.console import Console
from rich.text import Text

from gradnoise import __version__
from gradnoise.commands.clusters import Export, Status, Worker
from gradnoise.commands.compare import Compare, compare_of
from gradnoise.commands.doctor import Doctor
from gradnoise.commands.listing import List
from gradnoise.commands.new import New
from gradnoise.commands.plan import Plan
from gradnoise.commands.repair import Repair
from gradnoise.commands.report import Claims, Report
from gradnoise.commands.run import Resume, Run
from gradnoise.commands.study_command import StudyCommand, with_own_options
from gradnoise.errors import GradnoiseError, StudyError, nearest
from gradnoise.paper import SYSTEMS, load_system
from gradnoise.terminal import NOT_READ, Terminal

DESCRIPTION = f"""Does annealed gradient noise help? Paired studies of deep networks, ending in a verdict.

The systems are {", ".join(SYSTEMS)}: `gradnoise NAME` tells about one, `gradnoise NAME --help` lists its own commands.
`gradnoise --version` prints the version."""

Command = Callable[[Console], None]
#: Commands that name a study, and take the options of its system.
OF_A_STUDY: Mapping[str, type[StudyCommand]] = {"run": Run, "plan": Plan}
COMMANDS: Mapping[str, Callable[..., Command]] = {
    "list": List,
    **OF_A_STUDY,
    "compare": Compare,
    "new": New,
    "resume": Resume,
    "worker": Worker,
    "status": Status,
    "export": Export,
    "report": Report,
    "repair": Repair,
    "claims": Claims,
    "doctor": Doctor,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command `gradnoise`."""
    os.environ["MPLBACKEND"] = "agg"  # pictures go into files: no window, whatever the variable says
    console = Terminal()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _busy(console, words):
            command = _parsed(words)
        command(console)
        if lost := console.lost():
            _fail(lost)
    except GradnoiseError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno in NOT_READ and error.filename is None:
            return  # what was printed by others, such as help
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)  # while training, the study itself says how to go on
    finally:
        console.lost()  # else Python would find out at its end, and complain


def _busy(console: Console, words: Sequence[str]) -> AbstractContextManager[object]:
    """Show that something happens while what a command needs is imported."""
    slow = words[:1] in (["run"], ["resume"]) and not {"-h", "--help"} & set(words)
    return console.status("loading torch") if slow else nullcontext()


def _parsed(words: list[str]) -> Command:
    """Return the command that the words ask for: one of all systems, or one that a system mounts."""
    first = words[0] if words else "--help"
    if first == "--version":
        return lambda console: console.print(f"gradnoise {__version__}")
    if first in SYSTEMS:
        own = load_system(first).commands
        if not own or len(words) == 1:
            return List((first,))
        return _parse(own, f"gradnoise {first}", f"{load_system(first).title}: its own commands.", words[1:])
    if first not in COMMANDS and not first.startswith("-"):
        mounted = [f"gradnoise {name} {first}" for name in SYSTEMS if first in load_system(name).commands]
        hint = f"; did you mean {mounted[0]!r}?" if mounted else nearest(first, (*COMMANDS, *SYSTEMS))
        raise StudyError(f"no command {first!r}: there are {', '.join((*COMMANDS, *SYSTEMS))}{hint}")
    if first == "compare":
        return compare_of(words[1:], lambda commands, program, rest: _parse(commands, program, DESCRIPTION, rest))
    commands = dict(COMMANDS)
    if first == "resume" and "--" in words:
        own = words[: words.index("--")]
        resume = _parse(commands, "gradnoise", DESCRIPTION, own)
        assert isinstance(resume, Resume), "resume was asked for"
        return dataclasses.replace(resume, command=tuple(words[len(own) + 1 :]))
    if first in OF_A_STUDY:
        commands[first] = with_own_options(OF_A_STUDY[first], words[1:])
    return _parse(commands, "gradnoise", DESCRIPTION, words)


def _parse(commands: Mapping[str, Callable[..., Command]], program: str, description: str, words: list[str]) -> Command:
    conf = tyro.conf
    return tyro.extras.subcommand_cli_from_dict(
        dict(commands),
        prog=program,
        description=description,
        args=words or ["--help"],
        config=(conf.OmitSubcommandPrefixes, conf.OmitArgPrefixes, conf.FlagCreatePairsOff, conf.DisallowNone),
    )


def _fail(message: str) -> None:
    lines = "\n" in message  # such as a command, which a person may want to copy
    Terminal(stderr=True).print(Text.assemble(("error: ", "bold red"), message), soft_wrap=lines)
    sys.exit(1)
