"""A study that goes on from the tables of its report, where its store is not at hand."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from gradnoise.errors import StudyError
from gradnoise.study.canonical import DamagedError, canonical, restore
from gradnoise.study.database import acquire, is_blank
from gradnoise.study.engine import SliceResult
from gradnoise.study.exported import RECORD, TRIALS, read_results
from gradnoise.study.results import StudyResults, TrialResult
from gradnoise.study.run.folder import check_same_study
from gradnoise.study.run.resolve import Resolved
from gradnoise.study.store import COPY, FILE, Store, chunk_id, note_look
from gradnoise.study.trial import Trial

#: Begins the name of the folder in which a store is made.
UNFINISHED = ".taking-over-"


def has_tables_alone(folder: Path) -> bool:
    """Say whether a folder holds the tables of a report and no store, or an empty one."""
    if os.path.lexists(folder / COPY) or not is_blank(folder / FILE):
        return False
    return any((folder / name).exists() for name in (RECORD, TRIALS))


def take_over(folder: Path, resolved: Resolved) -> None:
    """Make the store of a folder of its tables, so that finished runs stay finished and the tables are not lost.

    Args:
        folder: of the study; one without tables, or with a store, stays as it is.
        resolved: what is asked.

    Raises:
        StudyError: the tables are those of another study, or are damaged.
    """
    if not has_tables_alone(folder):
        return
    found = _found(folder, resolved)
    lock = acquire(folder)
    try:
        for killed in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(killed, ignore_errors=True)
        if has_tables_alone(folder):  # as before: no other process was quicker
            with TemporaryDirectory(dir=folder, prefix=UNFINISHED) as made:
                _write(*found, Path(made))
                for suffix in ("-wal", "-shm"):
                    (folder / f"{FILE}{suffix}").unlink(missing_ok=True)
                os.replace(Path(made) / FILE, folder / FILE)
    except OSError as error:
        raise StudyError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error
    finally:
        os.close(lock)


def enter(folder: Path, resolved: Resolved, into: Path) -> None:
    """Write a store of the tables of a folder into another folder, see `take_over`; nothing changes in the first."""
    _write(*_found(folder, resolved), into)


def _found(folder: Path, resolved: Resolved) -> tuple[StudyResults, list[Trial]]:
    """Read the tables, and return with them the trials that are done or asked for."""
    results = read_results(folder, curves=True)
    check_same_study(resolved, results.record)
    wanted = [t for t in results.trials if t.done or t.id in resolved.trials]
    return results, [_trial(t, results, resolved, folder) for t in wanted]


def _write(results: StudyResults, trials: list[Trial], into: Path) -> None:
    done = [t for t in results.trials if t.done]
    ids = [t.id for t in done]
    with Store(into) as store:
        store.extend(results.record, trials, [ids] if ids else [])
        if ids:
            store.commit(_slice(done, results))
        store.note(f"{len(ids)} finished runs were entered from the tables of a report, as there was no store")
    for look in results.looks:
        note_look(into, look.asked, look.seeds)
    if ids:  # its verdict was read, or there would be no tables
        note_look(into, len(results.record.seeds), {t.seed for t in done})
    for suffix in ("-wal", "-shm"):
        (into / f"{FILE}{suffix}").unlink(missing_ok=True)


def _trial(found: TrialResult, results: StudyResults, resolved: Resolved, folder: Path) -> Trial:
    """Return a trial; what was asked for before and is not now has its configuration from the table."""
    if found.id in resolved.trials:
        asked = resolved.trials[found.id]
        return Trial(asked.experiment, found.row, found.setting, found.arm, found.seed, asked.config, asked.text)
    text = canonical(found.config)
    try:
        config = restore(text, resolved.study.dataclasses())
    except DamagedError as error:
        raise StudyError(f"{folder / TRIALS}: trial {found.id}: {error}") from error
    trial = Trial(results.record.experiment, found.row, found.setting, found.arm, found.seed, config, text)
    if trial.id != found.id:
        raise StudyError(
            f"{folder / TRIALS}: the values of trial {found.id} ({found.row}, {found.arm}, seed {found.seed}) are not"
            " all in the table, so that the study cannot go on from it unless it is asked for again, as `gradnoise"
            f" resume {folder}` does; or choose another folder with --out"
        )
    return trial


def _slice(done: list[TrialResult], results: StudyResults) -> SliceResult:
    rates = {m.name for m in results.record.metrics if m.of is not None}  # of what was measured, which is kept
    rows = [
        (t.id, name, int(step), float(value))
        for t in done
        for name, curve in t.curves.items()
        if name not in rates
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    hours = re.match(r"[\d.]+(?= hours)", dict(results.record.provenance).get("training time", ""))
    return SliceResult(
        chunk=chunk_id([t.id for t in done]),
        step=max(t.step for t in done),
        done=True,
        rows=rows,
        diverged={t.id: t.diverged_at for t in done if t.status == "diverged" and t.diverged_at is not None},
        final={t.id: {name: value for name, value in t.final.items() if name not in rates} for t in done},
        seconds=3600 * float(hours.group()) if hours else 0.0,
        finished={t.id: t.step for t in done if t.status == "finished"},
    )
