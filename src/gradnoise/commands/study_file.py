"""A user's own study, from a Python file: found, loaded, cut to what a command asks for, and found again.

The file is run when it is named on the command line, never because a store names it: a store is data.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from gradnoise.errors import GradnoiseError, StudyError, nearest
from gradnoise.study import Study, StudyRecord
from gradnoise.study.run.runner import LOADING

SUFFIX = ".py"
#: Key of a recipe that says that a study came from a file.
FILE = "file"
#: Names of the modules that were made of files, which another file of the same name may replace.
_loaded: set[str] = set()


@dataclass(frozen=True)
class StudyFile:
    """A study in a file, as the command line names it: `own_model.py`, or `own_model.py:study` where it has several.

    Args:
        path: of the file.
        name: of the study in it, a variable or a function without arguments; empty for the only one.
    """

    path: Path
    name: str = ""

    @classmethod
    def named(cls, text: str) -> StudyFile | None:
        """Read a name; None where it names no file."""
        place, colon, name = text.rpartition(":")
        if colon and place.endswith(SUFFIX):
            return cls(Path(place), name)
        return cls(Path(text)) if text.endswith(SUFFIX) else None

    def load(self) -> Study:
        """Run the file and return its study.

        Raises:
            StudyError: there is no such file or study, there are several, or the code raises; the message says where.
        """
        module = _module(self.path)
        found = {name: x for name, x in vars(module).items() if isinstance(x, Study)}
        if self.name:
            return self._called(module, found)
        if not found:
            raise StudyError(
                f"{self.path} has no study: write `study = Study(...)` at the top level of the file, not within a"
                f" function or `if __name__ == '__main__'`, or name a function that returns one: {self.path}:FUNCTION"
            )
        if len({id(x) for x in found.values()}) > 1:
            choices = ", ".join(f"{self.path}:{name}" for name in found)
            raise StudyError(f"{self.path} has several studies: choose one of {choices}")
        return next(iter(found.values()))

    def _called(self, module: ModuleType, found: Mapping[str, Study]) -> Study:
        value = getattr(module, self.name, None)
        if callable(value):
            with _in_the_file(self.path):
                value = value()
        if isinstance(value, Study):
            return value
        if hasattr(module, self.name):
            raise StudyError(f"{self.name!r} in {self.path} is no study, but of type {type(value).__name__}")
        there = f"there are {', '.join(found)}{nearest(self.name, found)}" if found else "and no other study"
        raise StudyError(f"{self.path} has no {self.name!r}: {there}")


def _module(path: Path) -> ModuleType:
    """Run a file as a module of its name, and let worker processes have its code by value.

    So a worker trains what was read here, even when the file is changed while a study runs.
    """
    if not path.is_file():
        near = nearest(path.name, (p.name for p in path.parent.glob(f"*{SUFFIX}"))) if path.parent.is_dir() else ""
        raise StudyError(f"no file {path}{near}")
    path, name = path.resolve(), path.stem
    _check_name(path)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python FILE` has it: the file may import its neighbours
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _loaded.add(name)
    with _in_the_file(path):
        token = LOADING.set(path.name)
        try:
            spec.loader.exec_module(module)
        finally:
            LOADING.reset(token)
    cloudpickle.register_pickle_by_value(module)
    return module


def _check_name(path: Path) -> None:
    """Refuse a file whose name is none for a module, or that of another module, which it would hide."""
    name = path.stem
    if "." in name:
        raise StudyError(f"{path.name}: the name of a Python file has one dot")
    try:
        other = None if name in _loaded else importlib.util.find_spec(name)
    except ValueError:  # a module made by hand
        other = None
    if other is not None and (other.origin is None or not _same(other.origin, path)):
        raise StudyError(f"{path.name} would hide the module {name!r} of Python or of a package; rename the file")


@contextmanager
def _in_the_file(path: Path) -> Iterator[None]:
    """Turn what a file raises into one sentence that names the line."""
    try:
        yield
    except SyntaxError as error:
        raise StudyError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except SystemExit as error:
        raise StudyError(f"{path} ended the program while it was loaded (sys.exit)") from error
    except Exception as error:
        raise at_its_line(error, path) from error


@contextmanager
def its_own_errors(source: StudyFile) -> Iterator[None]:
    """Turn an error that a file's code raises while it trains into one sentence that names the line.

    Errors of this package pass as they are: they say what to do.
    """
    try:
        yield
    except GradnoiseError:
        raise
    except Exception as error:
        raise at_its_line(error, source.path) from error


def at_its_line(error: Exception, path: Path) -> Exception:
    """Return an error that came out of a file as one that names its last line there; the error itself, if none did."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _same(f.filename, path)]
    if not frames:
        return error
    what = str(error) if isinstance(error, GradnoiseError) else f"{type(error).__name__}: {error}"
    within = "" if frames[-1].name == "<module>" else f", in {frames[-1].name}"
    return StudyError(f"{path.name}, line {frames[-1].lineno}{within}: {what}")


def _same(filename: str, path: Path) -> bool:
    return os.path.realpath(filename) == os.path.realpath(path)


@dataclass(frozen=True)
class Wish:
    """What a command changes in a study; None and () for nothing.

    Args:
        seeds: how many.
        steps: updates per trial.
        eval_every: updates between evaluations.
        rows, arms: only these.
    """

    seeds: int | None = None
    steps: int | None = None
    eval_every: int | None = None
    rows: Sequence[str] = ()
    arms: Sequence[str] = ()

    def of(self, study: Study, source: StudyFile) -> Study:
        """Return a study as this wish has it, with a recipe by which `resume` knows it again.

        Raises:
            StudyError: a name is unknown or a number out of range.
        """
        for option in ("seeds", "steps", "eval_every"):
            number = getattr(self, option)
            if number is not None and number < 1:
                raise StudyError(f"--{option.replace('_', '-')} {number}: give 1 or more")
        wished = study.with_arms(self.arms) if self.arms else study
        wished = wished.with_rows(self.rows) if self.rows else wished
        if self.seeds is not None:
            wished = dataclasses.replace(wished, seeds=_first_seeds(study.seeds, self.seeds))
        recipe = {FILE: source.path.name, "study": source.name, "steps": self.steps, "eval_every": self.eval_every}
        return dataclasses.replace(_with_lengths(wished, self.steps, self.eval_every), recipe=recipe)


def _first_seeds(seeds: Sequence[int], number: int) -> tuple[int, ...]:
    """Return so many seeds: the study's first ones, and after them those that follow its largest."""
    more = range(max(seeds) + 1, max(seeds) + 1 + max(0, number - len(seeds)))
    return (*seeds[:number], *more)


def _with_lengths(study: Study, steps: int | None, eval_every: int | None) -> Study:
    """Return a study whose trials all have this length and are evaluated this often, and which says so."""
    usual, length = [study.lengths(s) for s in study.settings], steps or study.steps
    settings = []
    for setting in study.settings:
        every = setting.eval_every
        if every is not None:
            every = None if eval_every else min(every, steps or setting.steps or study.steps)
        settings.append(dataclasses.replace(setting, steps=None if steps else setting.steps, eval_every=every))
    every = eval_every or min(study.eval_every, length)
    wished = dataclasses.replace(study, steps=length, eval_every=every, settings=tuple(settings))
    said = []
    if steps and any(own != steps for own, _ in usual):
        own_lengths = " or ".join(f"{n:,}" for n in sorted({own for own, _ in usual}))
        said.append(f"{steps:,} updates a run instead of {own_lengths}.")
    if eval_every and any(own != eval_every for _, own in usual):
        said.append(f"Evaluations every {eval_every:,} updates.")
    return dataclasses.replace(wished, deviations=(*study.deviations, *said))


def source_of(record: StudyRecord) -> str | None:
    """Return the file, and the study in it, that a stored study was run from; None where it came from no file."""
    recipe = record.recipe or {}
    if not isinstance(recipe.get(FILE), str):
        return None
    return f"{recipe[FILE]}:{recipe['study']}" if recipe.get("study") else recipe[FILE]


def found_again(record: StudyRecord, folder: Path, given: str | None) -> tuple[Study, StudyFile]:
    """Return the study of a folder from the file that it was run from, and where it stands.

    Args:
        record: of the store.
        folder: of the study, for messages.
        given: the file, and the study in it, as the command names it.

    Raises:
        StudyError: no file is given, or it has another study.
    """
    known = source_of(record)
    source = StudyFile.named(given) if given else None
    if source is None:
        wrong = f"{given} is no Python file; " if given else ""
        asked = known or "FILE.py"
        raise StudyError(
            f"{wrong}{folder} holds the study {record.name!r} of a file of yours: name it, as in"
            f" `gradnoise resume {folder} {asked}`"
        )
    study, recipe = source.load(), record.recipe or {}
    wish = Wish(steps=_number(recipe, "steps"), eval_every=_number(recipe, "eval_every"))
    return dataclasses.replace(wish.of(study, source), seeds=record.seeds), source


def _number(recipe: Mapping[str, Any], name: str) -> int | None:
    value = recipe.get(name)
    return value if isinstance(value, int) else None
