"""The bAbI tasks: the published files where they are, generated stories where not."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from gradnoise.errors import DataError, DataNotFoundError, nearest

from ..fetch import DATA_VARIABLE, UNVERIFIED_VARIABLE
from .files import file_names, read_published
from .generator import MAKERS, QUESTIONS, generate
from .parser import Question, Story, parse

SETS = ("auto", "babi", "generated")
TITLE = "bAbI tasks v1.2 (English, 1,000 + 1,000 questions a task"
GENERATED_TITLE = "generated stories (tasks 1, 2, 5, 6, 15 imitated; NOT bAbI)"


@dataclass(frozen=True)
class Task:
    """The stories of one task."""

    train: list[Story]
    test: list[Story]


@dataclass(frozen=True, eq=False)
class BabiData:
    """Tasks by number, 1 to 20. The process shares it: do not write to it.

    Attributes:
        title: its name in headings, with what a reader must know about it.
        tasks: task -> its stories.
        fingerprint: first 16 hex digits of a sha256 over all files.
        is_stand_in: whether the stories are generated: figures from them say nothing about bAbI.
    """

    title: str
    tasks: Mapping[int, Task] = field(repr=False)
    fingerprint: str
    is_stand_in: bool


def load_babi(name: str = "auto") -> BabiData:
    """Load bAbI by name; the same object again for the same name and place in one process.

    Args:
        name: "babi" for the published files, looked for in the folder that GRADNOISE_DATA names (`babi/en`, or the
            official archive) and in the cache; "generated" for stories made here, which need no file;
            "auto" for bAbI where it is and generated stories where not. Changed files are an error, never a silent
            fall-back.

    Raises:
        DataError: `name` is unknown, or a file is missing, changed or malformed.
        DataNotFoundError: bAbI was asked for by name and is not here; the text says how to get it.

    Example:
        >>> sorted(load_babi("generated").tasks)
        [1, 2, 5, 6, 15]
    """
    if name not in SETS:
        raise DataError(f"no story set {name!r}: there are {', '.join(SETS)}{nearest(str(name), SETS)}")
    if name == "generated":
        return _generated()
    try:
        return _published(tuple(map(os.environ.get, (DATA_VARIABLE, UNVERIFIED_VARIABLE, "XDG_CACHE_HOME", "HOME"))))
    except DataNotFoundError:
        if name == "auto":
            return _generated()
        raise


@functools.cache
def _published(_settings: tuple[str | None, ...]) -> BabiData:
    files, right, where = read_published(os.environ)
    tasks = {task: _task(task, *pair, where) for task, pair in files.items()}
    for task, stories in tasks.items():
        for part, found in (("training", stories.train), ("test", stories.test)):
            if right is False and (n := _questions(found)) != QUESTIONS:
                raise DataError(f"{where}: task {task} has {n} {part} questions instead of {QUESTIONS}.")
    return _data(f"{TITLE})" if right else f"{TITLE}; checksums not verified)", files, tasks, stand_in=False)


@functools.cache
def _generated() -> BabiData:
    files = {task: generate(task) for task in MAKERS}
    tasks = {task: _task(task, *pair, "generated stories") for task, pair in files.items()}
    return _data(GENERATED_TITLE, files, tasks, stand_in=True)


def _task(number: int, train: bytes, test: bytes, where: str) -> Task:
    names = file_names(number)
    return Task(parse(train, f"{where}/{names[0]}"), parse(test, f"{where}/{names[1]}"))


def _questions(stories: list[Story]) -> int:
    return sum(isinstance(line, Question) for story in stories for line in story)


def _data(
    title: str, files: Mapping[int, tuple[bytes, bytes]], tasks: Mapping[int, Task], *, stand_in: bool
) -> BabiData:
    content = hashlib.sha256()
    for task, pair in sorted(files.items()):
        for payload in pair:
            content.update(f"{task} {len(payload)} ".encode() + payload)
    return BabiData(title, tasks, content.hexdigest()[:16], stand_in)
