"""A study read back from the tables that its report wrote, where its store is not at hand."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gradnoise.errors import StudyError
from gradnoise.files import UNREADABLE, opened, read_bytes, unpacked
from gradnoise.study.canonical import TAG_KEY
from gradnoise.study.codec import read
from gradnoise.study.columns import checked
from gradnoise.study.results import Curve, Look, StudyRecord, StudyResults, TrialResult
from gradnoise.study.store import FILE, Store

RECORD, TRIALS, CURVES = "study.json", "trials.csv", "curves.csv.gz"
#: Bytes that a table may have, and unfold to.
MOST_BYTES, MOST_UNPACKED = 1 << 30, 4 << 30


def read_folder(folder: str | Path) -> StudyResults:
    """Read the study of a folder: from its store, or where there is none from the tables of its report.

    Raises:
        StudyError: it has neither, or what it has is damaged.
    """
    folder = Path(folder)
    if (folder / RECORD).exists() and not (folder / FILE).exists():
        return read_results(folder, curves=True)
    with Store(folder, readonly=True) as store:
        return store.results()


def read_results(folder: str | Path, *, curves: bool = False) -> StudyResults:
    """Read the study of a results folder from its `study.json` and `trials.csv`.

    All final values and the best value of the primary metric come back exactly, so that `summarise` concludes what it
    concludes from the store; where another evaluation than the last counts, the curves are read, too.
    A value None of a configuration is left out if other trials have another value there.

    Args:
        folder: where `write_report` wrote.
        curves: whether to read `curves.csv.gz`, too; without it a trial has that best value as a curve of one point.

    Raises:
        StudyError: a file is not there or is damaged.
    """
    folder = Path(folder)
    path = folder / RECORD
    if not path.exists():
        raise StudyError(f"{folder} has no {RECORD}; write its tables again with `gradnoise report`")
    try:
        plain = json.loads(read_bytes(path, MOST_BYTES).decode())
        record = read(StudyRecord, plain)
        looks = tuple(read(Look, {"time": "", **look}) for look in plain.get("looks", ()))
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise StudyError(f"{path} is damaged: {_reason(error)}") from error
    lines = _lines(folder / TRIALS, dict)
    config = [name for name in (lines[0] if lines else ()) if name.startswith("config.")]
    nothing = {name for name in config if not any(line[name] for line in lines)}
    trials = _parsed(folder / TRIALS, lines, lambda line: _trial(line, record.metric.name, nothing))
    if curves or any(m.by is not None for m in record.metrics):
        drawn = _curves(folder / CURVES)
        if unknown := drawn.keys() - {t.id for t in trials}:
            raise StudyError(
                f"{folder / CURVES} has a curve of the trial {min(unknown)}, which {TRIALS} lacks: one of the two is"
                " damaged or of another time; write both again with `gradnoise report`"
            )
        trials = [dataclasses.replace(t, curves=drawn.get(t.id, {})) for t in trials]
    return StudyResults(record, tuple(trials), looks)


T = TypeVar("T")


def _lines(path: Path, parse: Callable[[dict[str, str]], T]) -> list[T]:
    """Read and parse every line of a table."""
    if not path.exists():
        raise StudyError(f"{path} is not there; write the tables again with `gradnoise report`")
    try:
        with opened(path, MOST_BYTES) as file:
            content = unpacked(file, MOST_UNPACKED) if path.suffix == ".gz" else file
            with io.TextIOWrapper(content, newline="", encoding="utf-8") as text:
                lines = csv.DictReader(text)
                if lines.fieldnames is None:
                    raise StudyError(f"{path} is empty; write it again with `gradnoise report`")
                if lines.fieldnames and "id" not in lines.fieldnames:  # a table without lines has no columns
                    raise StudyError(f"{path} has no column 'id'; write it again with `gradnoise report`")
                return _parsed(path, lines, parse)
    except (*UNREADABLE, csv.Error, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is damaged: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _parsed(path: Path, lines: Iterable[dict[str, str]], parse: Callable[[dict[str, str]], T]) -> list[T]:
    """Parse lines; one that cannot be parsed is named."""
    found = []
    for number, line in enumerate(lines, start=2):
        try:
            if None in line or None in line.values():
                raise ValueError("it has not as many cells as the first line has names")
            found.append(parse(line))
        except KeyError as error:
            raise StudyError(f"{path} has no column {error}; write it again with `gradnoise report`") from error
        except (TypeError, ValueError, RecursionError, AttributeError) as error:
            raise StudyError(f"{path}, line {number}: {error}") from error
    return found


def _trial(line: Mapping[str, str], metric: str, nothing: Collection[str]) -> TrialResult:
    """Make a trial of its line; `nothing` are the columns of a configuration that are empty in every line."""
    final = {key.removeprefix("final."): float(v) for key, v in line.items() if key.startswith("final.") and v}
    config = {k.removeprefix("config."): v for k, v in line.items() if k.startswith("config.") and (v or k in nothing)}
    best = float(line["best"]) if line["best"] else math.nan
    numbers: dict[str, object] = {name: int(line[name]) for name in ("step", "seed")}
    numbers["diverged_at"] = int(line["diverged_at"]) if line["diverged_at"] else None
    texts = {name: line[name] for name in ("id", "row", "setting", "arm", "status")}
    return TrialResult(
        **checked("trials", texts | numbers),
        config=_nested(config),
        final=final,
        curves={metric: Curve(np.array([int(line["step"])]), np.array([best]))} if math.isfinite(best) else {},
        # a run that is finished and not counted yet has a final value of the metric, and none in the column `final`
        waiting=line["status"] == "finished" and not line["final"] and metric in final,
    )


def _curves(path: Path) -> dict[str, dict[str, Curve]]:
    """Read all curves: trial -> metric -> curve; a value that is not finite is nan."""
    points: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    lines = _lines(path, lambda x: (x["id"], x["metric"], int(x["step"]), float(x["value"] or math.nan)))
    for trial, metric, step, value in lines:
        steps, values = points.setdefault(trial, {}).setdefault(metric, ([], []))
        steps.append(step)
        values.append(value)
    return {
        trial: {metric: Curve(np.array(s), np.array(v)) for metric, (s, v) in metrics.items()}
        for trial, metrics in points.items()
    }


def _nested(flat: Mapping[str, str]) -> dict[str, Any]:
    """Undo the dots of a configuration; the column of a nested one holds the tag of its dataclass."""
    nested: dict[str, Any] = {}
    for name in sorted(flat):
        *parents, last = name.split(".")
        place = nested
        for parent in parents:
            tag = place.get(parent, {})
            place[parent] = tag if isinstance(tag, dict) else {TAG_KEY: tag}
            place = place[parent]
        place[last] = _plain(flat[name])
    return nested


def _plain(text: str) -> Any:
    if not text:
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        return json.loads(text)
    except ValueError:
        return text
