"""The ledger: every statement of the paper with what our runs say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gradnoise.errors import StudyError, nearest
from gradnoise.paper import SYSTEMS
from gradnoise.paper.ledger.check import Check, Direction, Size, checks
from gradnoise.paper.ledger.everything import overall
from gradnoise.paper.ledger.evidence import Evidence, gather
from gradnoise.paper.ledger.statements import STATEMENTS, Statement


class State(StrEnum):
    """What became of a statement."""

    REPRODUCED = "reproduced"
    DIRECTION = "direction only"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "undecided"
    UNTESTABLE = "not testable here"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Entry:
    """A row of the ledger.

    Args:
        statement: what the paper says.
        checks: the tests of it, in the order of its system's claims and contrasts.
        direction: verdict over all of them; None where there are none.
        size: whether the intervals hold the published differences, over all of them.
        state: what became of it.
        departures: numbers of the ledger's departures that bear on it.
    """

    statement: Statement
    checks: tuple[Check, ...]
    direction: Direction | None
    size: Size
    state: State
    departures: tuple[int, ...]

    @property
    def why(self) -> str:
        """Why it is not testable or not run; "" where it is judged."""
        if self.state is State.UNTESTABLE:
            return " ".join(dict.fromkeys(c.reason for c in self.checks if c.reason))
        if self.state is not State.NOT_RUN:
            return ""
        if self.statement.system in SYSTEMS:
            return self.statement.waits or "Its runs have not been made."
        return self.statement.waits

    @property
    def rests_on(self) -> dict[str, int]:
        """Folder of results -> runs in the largest check there."""
        runs: dict[str, int] = {}
        for check in self.checks:
            runs[check.folder] = max(runs.get(check.folder, 0), check.runs)
        return runs


@dataclass(frozen=True)
class Ledger:
    """All entries in the paper's order.

    Args:
        entries: one for each of `STATEMENTS`.
        departures: how the studies behind them depart from the paper's protocol, with their folders, and what else
            bears on a comparison; entries name them by number, from 1.
        left_out: result folders that do not count, and why.
    """

    entries: tuple[Entry, ...]
    departures: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]

    def of(self, system: str) -> tuple[Entry, ...]:
        """Return the entries about one system."""
        return tuple(e for e in self.entries if e.statement.system == system)


def make_ledger(results: Path) -> Ledger:
    """Judge every statement of the paper by the results that there are.

    Args:
        results: the folder of all result folders.

    Raises:
        StudyError: the folder is not there, tables are damaged, or a claim belongs to no statement.
    """
    shelf = gather(results)
    found: dict[str, list[Check]] = {s.id: [] for s in STATEMENTS}
    for check in _each_once([*(c for e in shelf.evidence for c in checks(e)), *overall(shelf.evidence)]):
        found[statement_of(check.id)].append(check)
    texts = _departures(shelf.evidence)
    cited = dict.fromkeys(text for s in STATEMENTS for text in _bearing(s, found[s.id], texts))
    numbers = {text: number for number, text in enumerate(cited, start=1)}
    entries = []
    for s in STATEMENTS:
        direction, size = judged(found[s.id], s.readings)
        bearing = tuple(sorted(numbers[text] for text in _bearing(s, found[s.id], texts)))
        entries.append(Entry(s, tuple(found[s.id]), direction, size, state_of(direction, size), bearing))
    return Ledger(tuple(entries), tuple(numbers), shelf.left_out)


def _departures(evidence: Sequence[Evidence]) -> dict[str, list[str]]:
    """Return folder -> its departures, each with all folders that have it."""
    having: dict[str, list[str]] = {}
    for item in evidence:
        for text in item.results.record.deviations:
            having.setdefault(text, []).append(item.folder)
    return {e.folder: [f"{t} ({', '.join(having[t])})" for t in e.results.record.deviations] for e in evidence}


def _bearing(statement: Statement, made: Sequence[Check], texts: dict[str, list[str]]) -> list[str]:
    """Return what bears on a statement that was checked: its note, then the departures of the folders behind it."""
    if not made:
        return []
    noted = [statement.note] if statement.note else []
    return list(dict.fromkeys([*noted, *(text for check in made for text in texts.get(check.folder, ()))]))


def statement_of(id: str) -> str:
    """Return the id of the statement that a claim or contrast tests.

    Raises:
        StudyError: there is none.
    """
    known = [s.id for s in STATEMENTS]
    name = id.partition("/")[0]
    if name not in known:
        raise StudyError(
            f"claim {id!r} belongs to no statement of the paper: its id must be that of one in"
            f" gradnoise.paper.ledger.statements, alone or with parts behind slashes{nearest(name, known)}"
        )
    return name


def _each_once(made: Iterable[Check]) -> list[Check]:
    """Keep one check of each id: the one with the most runs, where several folders have the same row and arm."""
    best: dict[str, Check] = {}
    for check in made:
        if check.id not in best or check.runs > best[check.id].runs:
            best[check.id] = check
    return list(best.values())


def judged(made: Sequence[Check], readings: Sequence[str] = ()) -> tuple[Direction | None, Size]:
    """Bring the checks of a statement together.

    Parts must all hold. Of several readings of the paper only one is meant and nobody knows which: a statement holds,
    or is contradicted, if it is so in every reading that was run.

    Args:
        made: the checks.
        readings: first parts of ids that stand for readings.
    """
    groups: dict[str, list[Check]] = {}
    for check in made:
        part = check.id.split("/")[1] if "/" in check.id else ""
        groups.setdefault(part if part in readings else "", []).append(check)
    directions = {_together([c.direction for c in group]) for group in groups.values()}
    sizes = {c.size for c in made} - {Size.NONE}
    size = Size.MISSED if Size.MISSED in sizes else Size.HELD if sizes else Size.NONE
    if not directions:
        return None, Size.NONE
    return (directions.pop() if len(directions) == 1 else Direction.UNDECIDED), size


def _together(parts: Sequence[Direction]) -> Direction:
    for worst in (Direction.CONTRADICTS, Direction.UNDECIDED, Direction.UNTESTABLE):
        if worst in parts:
            return worst
    return Direction.AGREES


def state_of(direction: Direction | None, size: Size) -> State:
    """Return the state of a statement by its two verdicts; direction None is "not run"."""
    if direction is None:
        return State.NOT_RUN
    if direction is Direction.AGREES:
        return State.DIRECTION if size is Size.MISSED else State.REPRODUCED
    return {
        Direction.CONTRADICTS: State.NOT_REPRODUCED,
        Direction.UNDECIDED: State.UNDECIDED,
        Direction.UNTESTABLE: State.UNTESTABLE,
    }[direction]


def tally(entries: Iterable[Entry]) -> str:
    """Count entries by state, such as "2 reproduced, 1 direction only, 4 not run"; states without any are left out."""
    counts = Counter(e.state for e in entries)
    return ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
