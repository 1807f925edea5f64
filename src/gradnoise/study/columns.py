"""What the columns of a store may hold: every value is checked before anything is done with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradnoise.errors import StudyError
from gradnoise.study.canonical import checked_id

STATUS = ("pending", "running", "finished", "diverged")
#: The largest number of updates or seconds that is believed; SQLite keeps integers of 64 bits.
MOST = 2**63 - 1


def metric_rows(rows: Sequence[tuple[str, str, int, float]]) -> list[tuple[str, str, int, float | None]]:
    """Return metric rows as SQLite keeps them: nan and inf are NULL.

    Raises:
        StudyError: a metric has two values after the same updates of a trial, of which one would be lost.
    """
    kept = [(t, m, s, v if math.isfinite(v) else None) for t, m, s, v in rows]
    known: dict[tuple[str, str, int], float | None] = {}
    for t, m, s, v in kept:
        if known.setdefault((t, m, s), v) != v:
            raise StudyError(f"trial {t} was given two values of {m!r} after {s:,} updates: {known[t, m, s]} and {v}")
    return kept


def text(value: object) -> str:
    """Return text; that of a store is UTF-8, and so can be written again."""
    if not isinstance(value, str):
        raise ValueError(f"{_short(value)} is no text")
    return value


def whole(value: object) -> int:
    """Return a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{_short(value)} is no whole number")
    return value


def count(value: object) -> int:
    """Return a whole number >= 0."""
    if whole(value) < 0:
        raise ValueError(f"{_short(value)} is below 0")
    return whole(value)


def count_or_none(value: object) -> int | None:
    """Return a whole number >= 0, or None."""
    return None if value is None else count(value)


def flag(value: object) -> bool:
    """Return whether a number is 1; it must be 0 or 1."""
    if value not in (0, 1):
        raise ValueError(f"{_short(value)} is neither 0 nor 1")
    return bool(value)


def seconds(value: object) -> float:
    """Return a finite number >= 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{_short(value)} is no time")
    return float(value)


def status(value: object) -> str:
    """Return the status of a trial."""
    if value not in STATUS:
        raise ValueError(f"{_short(value)} is no status")
    return str(value)


def ids(value: object) -> tuple[str, ...]:
    """Return the ids of trials, from a list in JSON."""
    return tuple(checked_id(id) for id in _json(value, list))


def seeds(value: object) -> tuple[int, ...]:
    """Return seeds, from a list in JSON."""
    return tuple(whole(seed) for seed in _json(value, list))


def config(value: object) -> Mapping[str, Any]:
    """Return a configuration as plain values."""
    return _json(value, dict)


def measures(value: object) -> Mapping[str, float]:
    """Return metrics by name."""
    found = _json(value, dict)
    for name, number in found.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{name} = {_short(number)} is no number")
    return found


#: Table -> column -> what makes a value of it.
COLUMNS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "trials": {
        "id": checked_id,
        "row": text,
        "setting": text,
        "arm": text,
        "seed": whole,
        "config": config,
        "status": status,
        "step": count,
        "diverged_at": count_or_none,
        "final": measures,
    },
    "chunks": {"id": checked_id, "trials": ids, "step": count, "done": flag, "seconds": seconds},
    "events": {"time": text, "chunk": text, "sentence": text},
    "looks": {"time": text, "asked": count, "seeds": seeds},
    "notes": {"chunk": text, "sentence": text},
}


def checked(table: str, values: Mapping[str, object], shared: dict[object, Any] | None = None) -> dict[str, Any]:
    """Return some values of a row, each as it is meant.

    Args:
        table: name of the table.
        values: as they stand in the file, by column.
        shared: configurations that were read before, by what stands in the file: many rows have the same one.

    Raises:
        ValueError: a value cannot be; the message says which.
    """
    made = {}
    for column, value in values.items():
        try:
            if column == "config" and shared is not None:
                if value not in shared:
                    shared[value] = config(value)
                made[column] = shared[value]
            else:
                made[column] = COLUMNS[table][column](value)
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError(f"{column} of a row of {table}: {error}") from error
    return made


def _json(value: object, kind: type) -> Any:
    written = text(value)
    found = json.loads(written)
    if "\\u" in written:
        json.dumps(found, ensure_ascii=False).encode()  # half of a pair of surrogates could not be written anywhere
    if not isinstance(found, kind):
        raise ValueError(f"{_short(value)} is no JSON of that kind")
    return found


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
