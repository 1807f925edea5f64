"""The durable record of a study: what was asked, how far it is, and every number that was measured."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from gradnoise.errors import StudyError
from gradnoise.study.canonical import DamagedError, canonical, restore
from gradnoise.study.codec import read
from gradnoise.study.columns import COLUMNS, checked, count, metric_rows
from gradnoise.study.damage import damaged
from gradnoise.study.database import COPY, COPY_COMMITS, COPY_SECONDS, FILE, NEVER_STARTED, Database
from gradnoise.study.engine import SliceResult
from gradnoise.study.provenance import now
from gradnoise.study.results import Curve, Event, Look, StudyRecord, StudyResults, TrialResult
from gradnoise.study.spec import Config, Trial
from gradnoise.study.tables import LOOKS

#: A row of metrics that cannot be.
NO_MEASURE = (
    "typeof(metric) != 'text' OR typeof(step) != 'integer' OR step < 0"
    " OR typeof(value) NOT IN ('real', 'integer', 'null')"
)

#: How an event begins that readers of verdicts must know of, too.
ACCEPTED = "the code was changed and that was accepted: "

__all__ = ["ACCEPTED", "COPY", "FILE", "Chunk", "Store", "chunk_id", "note_look"]


@dataclass(frozen=True)
class Chunk:
    """Trials that are trained as one population, and how far they are."""

    id: str
    trials: tuple[str, ...]
    step: int = 0
    done: bool = False


class Store(Database):
    """A study's folder, open for writing (one process at a time) or for reading."""

    # --- writing ----------------------------------------------------------------------------------

    def put_record(self, record: StudyRecord) -> None:
        """Set the description of the study."""
        with self.transaction():
            self._put_record(record)

    def _put_record(self, record: StudyRecord) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('record', ?)", (canonical(record),))

    def put_meta(self, name: str, value: Any) -> None:
        """Set another entry beside the description, of plain values, see `meta`."""
        with self.transaction():
            self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, canonical(value)))

    def note(self, sentence: str) -> None:
        """Keep an event that belongs to no chunk."""
        with self.transaction():
            self.db.execute("INSERT INTO events VALUES (?, ?, ?)", (now(), "", sentence))

    def extend(self, record: StudyRecord, trials: Sequence[Trial], chunks: Iterable[Sequence[str]]) -> None:
        """Add the description, trials and chunks in one transaction.

        Args:
            record: the description.
            trials: those that are there keep what is known of them and get the new labels. They are listed
                first from now on, those of earlier runs behind them.
            chunks: which trials train together, by id; kept, so that a resumed study trains the same
                populations.
        """
        rows = [(t.id, i, t.row, t.setting, t.arm, t.seed, t.text) for i, t in enumerate(trials)]
        bodies = [canonical(list(ids)) for ids in chunks]
        with self.transaction():
            self._put_record(record)
            self.db.execute("UPDATE trials SET position = position + ?", (len(rows),))
            self.db.executemany(
                "INSERT INTO trials (id, position, row, setting, arm, seed, config) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET position = excluded.position, row = excluded.row,"
                " setting = excluded.setting, arm = excluded.arm",
                rows,
            )
            self.db.executemany(
                "INSERT OR IGNORE INTO chunks (id, trials) VALUES (?, ?)",
                [(_hash(body), body) for body in bodies],
            )

    def split(self, chunk: str, parts: Sequence[Sequence[str]]) -> None:
        """Let the trials of a chunk start over in smaller chunks, in one transaction."""
        bodies = [canonical(list(ids)) for ids in parts]
        with self.transaction():
            self.db.execute("DELETE FROM chunks WHERE id = ?", (chunk,))
            self.db.executemany("INSERT INTO chunks (id, trials) VALUES (?, ?)", [(_hash(b), b) for b in bodies])
            for trial in (id for ids in parts for id in ids):
                self.db.execute("DELETE FROM metrics WHERE trial = ?", (trial,))
                self.db.execute(
                    "UPDATE trials SET status = 'pending', step = 0, diverged_at = NULL, final = '{}' WHERE id = ?",
                    (trial,),
                )

    def commit(self, result: SliceResult) -> None:
        """Add what a slice brought in one transaction.

        Raises:
            StudyError: it has two values for one metric, trial and step, of which one would be lost.
        """
        rows = metric_rows(result.rows)
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)", rows)
            self.db.execute(
                "UPDATE chunks SET step = ?, done = ?, seconds = seconds + ? WHERE id = ?",
                (result.step, result.done, result.seconds, result.chunk),
            )
            self.db.executemany(
                "INSERT INTO events VALUES (?, ?, ?)", [(now(), result.chunk, sentence) for sentence in result.events]
            )
            self.db.execute("DELETE FROM notes WHERE chunk = ?", (result.chunk,))
            notes = [(result.chunk, sentence) for sentence in dict.fromkeys(result.notes)]
            self.db.executemany("INSERT INTO notes VALUES (?, ?)", notes)
            (body,) = self.db.execute("SELECT trials FROM chunks WHERE id = ?", (result.chunk,)).fetchone()
            for trial in json.loads(body):
                status, step = _standing(result, trial)
                self.db.execute(
                    "UPDATE trials SET status = ?, step = ?, diverged_at = ?, final = ?"
                    " WHERE id = ? AND status NOT IN ('finished', 'diverged')",
                    (status, step, result.diverged.get(trial), json.dumps(result.final.get(trial, {})), trial),
                )
        if self.read_back("SELECT step FROM chunks WHERE id = ?", (result.chunk,)) != (result.step,):
            raise damaged(self.folder, "what was committed is not in it; something else has written to it")
        self.copy(lambda seconds, commits: commits >= COPY_COMMITS and seconds >= COPY_SECONDS)

    def reopen(self, chunk: Chunk) -> None:
        """Forget how a chunk ended, so that the next run trains it again; what was measured stays until then."""
        with self.transaction():
            self.db.execute("UPDATE chunks SET step = 0, done = 0 WHERE id = ?", (chunk.id,))
            self.db.executemany(
                "UPDATE trials SET status = 'pending', step = 0, diverged_at = NULL, final = '{}' WHERE id = ?",
                [(trial,) for trial in chunk.trials],
            )

    # --- reading ----------------------------------------------------------------------------------

    def record(self) -> StudyRecord:
        """Return the description of the study."""
        plain = self.meta("record")
        if plain is None:
            raise StudyError(NEVER_STARTED.format(self.folder))
        with self._reading():
            return read(StudyRecord, plain)

    def trials(self, known: Iterable[type | FunctionType] = ()) -> dict[str, Trial]:
        """Return all trials by id, also those that an earlier run of the study asked for and this one does not.

        Args:
            known: dataclasses and functions that may occur in configurations besides our own, see `Study.dataclasses`.
        """
        if self.meta("record") is None:
            return {}
        experiment, known, trials = self.record().experiment, tuple(known), {}
        columns = ("id", "row", "setting", "arm", "seed")
        made: dict[object, tuple[Config, str]] = {}
        for *values, text in self.rows("SELECT id, row, setting, arm, seed, config FROM trials ORDER BY position"):
            with self._reading():
                fields = checked("trials", dict(zip(columns, values, strict=True)))
            if text not in made:
                made[text] = self._configuration(text, known)
            id = fields.pop("id")
            trials[id] = Trial(experiment, **fields, config=made[text][0], written=made[text][1])
        return trials

    def _configuration(self, text: str, known: Iterable[type | FunctionType]) -> tuple[Config, str]:
        """Return the configuration of some trials, and as it is written today."""
        with self._reading():
            plain = checked("trials", {"config": text})["config"]
            for key in ("steps", "eval_every"):
                if count(plain.get(key)) < 1:
                    raise ValueError(f"a trial has {key} = {plain[key]}")
        try:
            config = restore(text, known)
        except DamagedError as error:
            raise damaged(self.folder, error) from error
        return config, canonical(config)

    def chunks(self) -> list[Chunk]:
        """Return all chunks in the order in which they were planned."""
        return [Chunk(**fields) for fields in self._all("chunks", "id", "trials", "step", "done", order="rowid")]

    def events(self) -> list[Event]:
        """Return what went wrong without harm to the numbers, in order; none in a file of an older version."""
        if "events" not in self._tables():
            return []
        return [Event(**fields) for fields in self._all("events", order="rowid")]

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of verdicts must know of the trials, each sentence with the number of its seeds."""
        if "notes" not in self._tables():
            return ()
        seed_of: dict[str, int] = dict(self.rows("SELECT id, seed FROM trials"))
        seeds = {
            chunk.id: {seed_of[trial] for trial in chunk.trials if trial in seed_of}
            for chunk in self.chunks()
            if chunk.done
        }
        found: dict[str, set[int]] = {}
        for fields in self._all("notes", order="rowid"):
            found.setdefault(fields["sentence"], set()).update(seeds.get(fields["chunk"], ()))
        said = sorted(((s, len(n)) for s, n in found.items() if n), key=lambda item: -item[1])
        ended = len(set().union(*seeds.values()))
        return tuple(f"{s}{'' if n == ended else f' ({n} of {ended} seeds)'}." for s, n in said)

    def looks(self) -> tuple[Look, ...]:
        """Return the times at which verdicts were read, in order; none in a file of an older version."""
        if "looks" not in self._tables():
            return ()
        return tuple(Look(**fields) for fields in self._all("looks", order="rowid"))

    def measured(self, trial: str, step: int) -> dict[str, float]:
        """Return the metrics of one trial after so many updates; empty when it was not evaluated there."""
        rows = self.rows("SELECT metric, value FROM metrics WHERE trial = ? AND step = ?", (trial, step))
        with self._reading():
            return {metric: np.nan if value is None else float(value) for metric, value in rows}

    def counts(self, trials: Sequence[str] | None = None) -> Counter[str]:
        """Return the number of trials by status: of all, or of those with some ids."""
        where, arguments = "", ()
        if trials is not None:
            where, arguments = "WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(trials)),)
        return Counter(dict(self.rows(f"SELECT status, count(*) FROM trials {where} GROUP BY status", arguments)))

    def lengths(self) -> dict[str, int]:
        """Return the updates that each trial has, by id."""
        with self._reading():
            return {x["id"]: count(x["config"].get("steps")) for x in self._all("trials", "id", "config", order="id")}

    def begun(self) -> list[str]:
        """Return the ids of the trials of which something was trained."""
        return [id for (id,) in self.rows("SELECT id FROM trials WHERE status != 'pending'")]

    def seconds(self) -> float:
        """Return the time spent in slices, summed over workers."""
        return next(self.rows("SELECT coalesce(sum(seconds), 0) FROM chunks"))[0]

    def results(self) -> StudyResults:
        """Return the study as reports and tables want it; events stand in the provenance of the record."""
        with self.snapshot():
            record, curves, looks = self.record(), self._curves(), self.looks()
            events = tuple(("event", str(e)) for e in self.events())
            waiting = {trial for chunk in self.chunks() if not chunk.done for trial in chunk.trials}
            trials = tuple(
                TrialResult(**fields, curves=curves.get(fields["id"], {}), waiting=fields["id"] in waiting)
                for fields in self._all("trials", order="position")
            )
            accepted = tuple(
                f"{e.sentence[0].upper()}{e.sentence[1:]}." for e in self.events() if e.sentence.startswith(ACCEPTED)
            )
            notes = record.notes + accepted + self.notes()
        record = dataclasses.replace(record, provenance=record.provenance + events, notes=notes)
        return StudyResults(record, tuple(t.with_rates(record) for t in trials), looks)

    def _all(self, table: str, *columns: str, order: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table by column, every value checked; all columns where none is named."""
        columns, shared = columns or tuple(COLUMNS[table]), {}
        for values in self.rows(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}"):
            with self._reading():
                fields = checked(table, dict(zip(columns, values, strict=True)), shared)
            yield fields

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Say of a value that cannot be that the store is damaged."""
        try:
            yield
        except (TypeError, ValueError) as error:
            raise damaged(self.folder, error) from error

    def _curves(self) -> dict[str, Mapping[str, Curve]]:
        """Read all curves: trial -> metric -> curve."""
        for row in self.rows(f"SELECT trial, metric, step, value FROM metrics WHERE {NO_MEASURE} LIMIT 1"):
            raise damaged(self.folder, f"a measured value is {row!r}")
        points = self.rows("SELECT step, ifnull(value, 9e999) FROM metrics ORDER BY trial, metric, step")
        read = np.fromiter(points, [("step", np.int64), ("value", np.float64)])
        steps, values = read["step"].copy(), read["value"].copy()
        values[np.isinf(values)] = np.nan
        lengths = self.rows("SELECT trial, metric, count(*) FROM metrics GROUP BY trial, metric ORDER BY trial, metric")
        curves, end = dict[str, Mapping[str, Curve]](), 0
        for trial, metrics in groupby(lengths, key=itemgetter(0)):
            of_trial = curves[trial] = {}
            for _, metric, n in metrics:
                start, end = end, end + n
                of_trial[sys.intern(metric)] = Curve(steps[start:end], values[start:end])
        return curves


def note_look(folder: Path, asked: int, seeds: Iterable[int]) -> None:
    """Keep that the verdicts of a study are read now, also while another process trains it.

    A look at the same seeds as the last one is the same look.

    Args:
        folder: of the study.
        asked: how many seeds it has been asked for.
        seeds: those that have a pair.

    Raises:
        StudyError: the file cannot be written.
    """
    body, path = json.dumps(sorted(seeds)), Path(folder) / FILE
    try:
        with closing(sqlite3.connect(path, timeout=30)) as db, db:
            db.execute(LOOKS)
            last = db.execute("SELECT seeds FROM looks ORDER BY rowid DESC LIMIT 1").fetchone()
            if last is None or last[0] != body:
                db.execute("INSERT INTO looks VALUES (?, ?, ?)", (now(), asked, body))
    except sqlite3.Error as error:
        raise StudyError(f"cannot write to {path}: {error}; this look at the study is not kept") from error


def chunk_id(trials: Sequence[str]) -> str:
    """Return the id of the chunk of some trials."""
    return _hash(canonical(list(trials)))


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:12]


def _standing(result: SliceResult, trial: str) -> tuple[str, int]:
    """Return the status of a trial after a slice, and its updates."""
    if trial in result.diverged:
        return "diverged", result.diverged[trial]
    if trial in result.finished:
        return "finished", result.finished[trial]
    return "finished" if result.done else "running", result.step
