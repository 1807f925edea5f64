"""Where the metrics of a run are found: what it reported, or else the files and lines that common tools leave."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradnoise.errors import StudyError, nearest
from gradnoise.reporting import REPORTS
from gradnoise.study.script.pattern import numbers_in
from gradnoise.study.script.values import NO_NUMBER, Points, Told, UnreadError, points_of, value_of

#: Bytes at the end of an output in which a line of JSON is looked for.
TAIL = 1 << 20
#: A bare word in the place of a value, which printing by hand leaves in what should be JSON.
_BARE = re.compile(rf":\s*{NO_NUMBER}(?=\s*[,}}\]])")


class NoReaderError(Exception):
    """A source is there that nothing here can read; others are asked, and the sentence says why."""


@dataclass(frozen=True)
class Found:
    """The metrics of a run.

    Args:
        source: where they were found, such as "all_results.json".
        points: what was found there.
        counted: whether steps came twice or not in order, so that those of `points` are counted.
    """

    source: str
    points: Points
    counted: bool = False

    @property
    def final(self) -> dict[str, float]:
        """The last value of each metric."""
        return {name: values[-1][1] for name, values in self.points.items() if values}


@dataclass(frozen=True)
class Places:
    """Where to look for the metrics of a run.

    Args:
        records: folder of what `gradnoise.report` wrote.
        folder: the one given for `{dir}`.
        stdout, stderr: files of its output.
        pattern: regular expression with one group, for the value; None for none.
    """

    records: Path
    folder: Path
    stdout: Path
    stderr: Path
    pattern: str | None = None


def find(places: Places, metric: str) -> tuple[Found | None, str]:
    """Return the first source that has the metric; without one, None and a sentence on what was found instead.

    In it the last mention of the metric counts: where that cannot be read, nothing earlier takes its place.
    """
    seen: list[tuple[str, Points]] = []
    unread: list[str] = []
    for name, read in _SOURCES if places.pattern is None else _with_pattern(places, places.pattern):
        try:
            for told in read(places, metric):
                points, counted = points_of(told, metric)
                if points.get(metric):
                    return Found(name, points, counted), ""
                if points:
                    seen.append((name, points))
        except UnreadError as error:
            return None, f"{error}, in {name}"
        except NoReaderError as error:
            unread.append(str(error))
    return None, f"it told no {metric!r}: {'; '.join([*unread, _what_there_is(places, metric, seen)])}"


def _what_there_is(places: Places, metric: str, seen: list[tuple[str, Points]]) -> str:
    if places.pattern is not None:
        return f"no line of its output, nor of *.log and *.txt in {{dir}}, matches --metric-regex {places.pattern!r}"
    if not seen:
        return (
            f"call gradnoise.report({_word(metric)}=...) at the end of the script, or print a last line of JSON such as"
            f' {{"{metric}": 0.93}}, or give a pattern for its output with --metric-regex; files are looked for in'
            " {dir} alone"
        )
    there = "; ".join(f"{name} has {', '.join(sorted(points)[:12])}" for name, points in seen)
    return f"{there}{nearest(metric, [n for _, points in seen for n in points])}"


def _word(metric: str) -> str:
    return metric if metric.isidentifier() else "accuracy"


# --- the sources ----------------------------------------------------------------------------------


def _reported(places: Places, metric: str) -> Iterator[Told]:
    yield [(record["step"], record["metrics"]) for record in json_lines(places.records / REPORTS)]


def _all_results(places: Places, metric: str) -> Iterator[Told]:
    for path in _newest(places.folder, "all_results.json"):
        final = _json(_text(path), metric)
        told: list[tuple[int | None, dict[str, object]]] = []
        known: set[tuple[int, str]] = set()
        history = _json(_text(path.with_name("trainer_state.json")), "").get("log_history", [])
        for entry in history if isinstance(history, list) else []:
            step = _step(entry.get("step")) if isinstance(entry, dict) else None
            if step is not None:  # an evaluation after training, of the same step, is the final one
                told.append((step, {n: entry[n] for n in final.keys() & entry.keys() if (step, n) not in known}))
                known |= {(step, name) for name in told[-1][1]}
        yield [*told, (None, final)]


def _csv_logs(places: Places, metric: str) -> Iterator[Told]:
    for path in _newest(places.folder, "metrics.csv"):
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        steps = [_step(line.get("step")) for line in lines]
        if all(step is None for step in steps):
            steps = list(range(len(lines)))
        cells = [  # an empty cell was not logged
            {name: _plain(x) for name, x in line.items() if isinstance(x, str) and x.strip() and name != "step"}
            for line in lines
        ]
        yield list(zip(steps, cells, strict=True))


def _tensorboard(places: Places, metric: str) -> Iterator[Told]:
    folders = {path.parent: None for path in _newest(places.folder, "events.out.tfevents.*")}
    if not folders:
        return
    try:
        from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingImports]
            EventAccumulator,
        )
    except ImportError as error:
        raise NoReaderError(
            f"it may be among the TensorBoard events in {next(iter(folders))}, and reading them needs tensorboard"
            " beside gradnoise: pip install tensorboard"
        ) from error
    for folder in folders:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        scalars = [(e, tag) for tag in events.Tags()["scalars"] for e in events.Scalars(tag)]
        yield [(e.step, {tag: e.value}) for e, tag in sorted(scalars, key=lambda scalar: scalar[0].wall_time)]


def _last_line(places: Places, metric: str) -> Iterator[Told]:
    for line in reversed(tail(places.stdout, TAIL).splitlines()):
        found = _json(line, metric) if line.strip().startswith("{") else {}
        if metric in found or any(isinstance(value, int | float) for value in found.values()):
            yield [(None, found)]
            return


def _with_pattern(places: Places, pattern: str) -> Iterator[tuple[str, _Read]]:
    """Yield what is searched for a pattern: the output, and logs that the script writes itself."""
    logs = sorted([*_newest(places.folder, "*.log"), *_newest(places.folder, "*.txt")], key=_age)
    names = {places.stdout: "its output", places.stderr: "its errors", **{path: path.name for path in logs}}

    def reader(path: Path) -> _Read:
        def read(places: Places, metric: str) -> Iterator[Told]:
            if values := numbers_in(_text(path), pattern):
                yield [(None, {metric: value}) for value in values]

        return read

    return ((f"the lines of {name} that match --metric-regex", reader(path)) for path, name in names.items())


_Read = Callable[[Places, str], Iterator[Told]]
#: In the order in which they are asked.
_SOURCES: tuple[tuple[str, _Read], ...] = (
    ("gradnoise.report", _reported),
    ("all_results.json", _all_results),
    ("metrics.csv", _csv_logs),
    ("TensorBoard events", _tensorboard),
    ("the last line of JSON that it printed", _last_line),
)


# --- small readers --------------------------------------------------------------------------------


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line; a last line that a killed process left unfinished is dropped.

    Raises:
        StudyError: another line is none, so that what stands behind it would be lost without a word.
    """
    lines, found = _text(path).splitlines(), []
    for i, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if i < len(lines):
                raise StudyError(f"{path}, line {i} cannot be read, as after a full disk: {line[:80]!r}") from error
    return found


def tail(path: Path, size: int) -> str:
    """Return the last bytes of a file as text; "" for one that is not there."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _newest(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.rglob(pattern), key=_age)


def _age(path: Path) -> tuple[int, str]:
    return -path.stat().st_mtime_ns, path.name


def _json(text: str, metric: str) -> dict[str, Any]:
    """Return a JSON object, of which values may be bare words such as nan; an empty one where the text is none.

    Raises:
        UnreadError: the text names the metric and is no JSON.
    """
    for attempt in (text, _BARE.sub(": NaN", text)):
        try:
            plain = json.loads(attempt)
        except ValueError:
            continue
        return plain if isinstance(plain, dict) else {}
    if metric and f'"{metric}"' in text:
        raise UnreadError(f"{metric} stands in {text.strip()[:100]!r}, which is no JSON")
    return {}


def _plain(text: str) -> float | str:
    """Return what a cell of text holds."""
    try:
        return float(text)
    except ValueError:
        return text


def _step(there: object) -> int | None:
    """Return a step; None for what is none."""
    value = value_of(there)
    return int(value) if value is not None and math.isfinite(value) else None
