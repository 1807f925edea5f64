"""Where slices run: one small interface, a registry of names, and the executor that runs them here."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from gradnoise.errors import StudyError, nearest
from gradnoise.study.engine import Engine, Job, Keep, Measurement, SliceResult, Worker

#: Workers that pull slices from the study's folder.
SPOOL = "spool"
#: Name -> module and class; the class is called with the number of workers, or None for as many as pay. Its arguments
#: by keyword are its settings; one that is called `folder` gets the study's folder.
#: A new executor is one file and one line here; an `Executor` that the caller made needs no name.
EXECUTORS = {
    "here": ("gradnoise.study.run.executors", "InProcess"),
    "processes": ("gradnoise.study.run.processes", "Processes"),
    "ray": ("gradnoise.study.run.on_ray", "RayExecutor"),
    SPOOL: ("gradnoise.study.run.spool.executor", "SpoolExecutor"),
}
#: Decides between "here" and "processes".
AUTO = "auto"
#: Names of executors that train on this machine.
LOCAL = (AUTO, "here", "processes")


class WorkerDied(RuntimeError):
    """A worker went away in the middle of a slice (killed, out of memory)."""


class WorkerTaken(WorkerDied):
    """A worker was taken away, by preemption or with its node: that says nothing against its slice."""


@runtime_checkable
class Executor(Protocol):
    """Owns workers and hands them slices. A driver uses these five members only.

    Attributes:
        slots: how many slices run at once; known once it has started, and it may change.
    """

    slots: int

    def start(self, engine: Engine, keep: Keep) -> None:
        """Make workers with `engine.worker(keep)`, each where it will train."""
        ...

    def measure(self, job: Job, whole: bool) -> Measurement:
        """Let one of the workers measure, see `Worker.measure`."""
        ...

    def advance(self, job: Job, step: int, seconds: float) -> Future[SliceResult]:
        """Start a slice, see `Worker.advance`, on the worker that has its chunk in memory if that one is free.

        The future gives the result, or raises WorkerDied.
        """
        ...

    def close(self, finished: bool = False) -> None:
        """Stop at once; running slices are lost and will be run again.

        Args:
            finished: whether nothing of the study is left to train, so that workers elsewhere may go. It may be closed
                so without a start.
        """
        ...


class InProcess:
    """One slice after the other, in the calling process."""

    slots = 1

    def __init__(self, workers: int | None = None, worker: Worker | None = None) -> None:
        if workers not in (None, 1):
            raise StudyError(f"executor 'here' is one worker, not {workers}; use 'processes' or leave out --workers")
        self._worker = worker

    def start(self, engine: Engine, keep: Keep) -> None:
        """Make the worker, unless there is one that has looked at the work already."""
        self._worker = self._worker or engine.worker(keep)

    def measure(self, job: Job, whole: bool) -> Measurement:
        """Measure now."""
        assert self._worker is not None, "start comes first"
        return self._worker.measure(job, whole)

    def advance(self, job: Job, step: int, seconds: float) -> Future[SliceResult]:
        """Run the slice now."""
        assert self._worker is not None, "start comes first"
        future: Future[SliceResult] = Future()
        try:
            future.set_result(self._worker.advance(job, step, seconds))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self, finished: bool = False) -> None:
        """Let the worker go, and what it holds in memory."""
        self._worker = None


class Place(Protocol):
    """A worker elsewhere that holds a chunk."""

    #: The chunk that it trained last; None when it has none in memory.
    chunk: str | None

    @property
    def free(self) -> bool:
        """Whether it has nothing to do."""
        ...

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method of the worker; the future raises WorkerDied when the worker ends before it returns."""
        ...


P = TypeVar("P", bound=Place)


def place_for(places: Sequence[P], chunk: str) -> P:
    """Choose the worker that trained a chunk last, if it is free, or else one with nothing in memory, or any other."""
    free = [p for p in places if p.free] or places
    has = [p for p in free if p.chunk == chunk]
    empty = [p for p in free if p.chunk is None]
    return (has or empty or free)[0]


class Placed(Generic[P]):
    """What executors share whose workers stay: a slice goes where its chunk was trained last, if that one is free."""

    _places: list[P]

    def measure(self, job: Job, whole: bool) -> Measurement:
        """Let the first worker measure."""
        return self._places[0].submit("measure", job, whole).result()

    def advance(self, job: Job, step: int, seconds: float) -> Future[SliceResult]:
        """Send the slice to the worker that trained the chunk last, or to another one that is free."""
        place = place_for(self._places, job.chunk)
        place.chunk = job.chunk
        return place.submit("advance", job, step, seconds)


def executor_named(
    name: str, workers: int | None, folder: Path | None = None, settings: Mapping[str, Any] | None = None
) -> Executor:
    """Return an executor that has not started yet.

    Args:
        name: in `EXECUTORS`.
        workers: how many; None for as many as pay.
        folder: of the study, for executors that use it.
        settings: what else it shall be made with.

    Raises:
        StudyError: there is none of that name, or it has no such setting.
    """
    names = (AUTO, *EXECUTORS)
    if name not in EXECUTORS:
        raise StudyError(f"no executor {name!r}: there are {', '.join(names)}{nearest(name, names)}")
    module, kind = EXECUTORS[name]
    made = getattr(importlib.import_module(module), kind)
    known = [p.name for p in inspect.signature(made).parameters.values() if p.kind is p.KEYWORD_ONLY]
    settings = dict(settings or {})
    own = [setting for setting in known if setting != "folder"]
    for setting in settings:
        if setting not in own:
            has = f"it has {', '.join(own)}" if own else "it has none"
            raise StudyError(f"executor {name!r} has no setting {setting!r}: {has}{nearest(setting, own)}")
    if "folder" in known:
        if folder is None:
            raise StudyError(f"executor {name!r} needs the study's folder")
        settings["folder"] = folder
    return made(workers, **settings)
