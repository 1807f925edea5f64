"""The driver's side of a spool: it puts calls there, takes answers in, and runs again what dead workers had."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import secrets
import threading
import time
from collections.abc import Set
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import cloudpickle

from gradnoise.errors import CheckpointError, StudyError
from gradnoise.given import Between, arguments
from gradnoise.study.engine import Engine, Job, Keep, Measurement, SliceResult
from gradnoise.study.run.executors import WorkerDied
from gradnoise.study.run.shipment import Shipment, opened
from gradnoise.study.run.spool.folder import (
    ANSWERS,
    FINISHED,
    LEASED,
    OUTAGE,
    RUNNING,
    STOPPED,
    WAITING,
    WORKERS,
    Driver,
    Spool,
    named,
    parts_of,
)

#: Seconds without a sign of life after which a worker's slice is run again.
LEASE = 60.0
#: Seconds between two looks for answers.
TICK = 0.05


class SpoolExecutor:
    """Slices in the study's folder, for workers that pull them: `gradnoise worker --study FOLDER`.

    Workers come and go as they like. The driver alone writes the store, and may be killed and started again: workers
    wait for it.

    Args:
        workers: how many are expected: so many slices lie ready, and chunks are cut for so many. With None as many
            slices as there are workers.
        folder: of the study; all workers reach it.
        lease: seconds without a sign of life after which a worker's slice is run again.
        outage: seconds for which the folder may be away.

    Raises:
        StudyError: a time is not positive.
    """

    @arguments(StudyError)
    def __init__(
        self,
        workers: Annotated[int | None, Between(1)] = None,
        *,
        folder: Path,
        lease: Annotated[float, Between(0.01)] = LEASE,
        outage: Annotated[float, Between(0)] = OUTAGE,
    ) -> None:
        self._spool = Spool(Path(folder).absolute())
        self._expected, self._lease, self._outage = workers or 1, lease, outage
        self._driver = Driver(secrets.token_hex(6), RUNNING, 0, lease)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._open: dict[str, Future[Any]] = {}
        self._outbox: dict[str, bytes] = {}
        self._missing: dict[str, float] = {}
        self._workers: dict[str, tuple[int, float]] = {}  # its beat, and when that was new
        self._failure: StudyError | None = None
        self._closed, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, name="gradnoise-spool", daemon=True)

    @property
    def slots(self) -> int:
        """Slices at once: one for every worker that lives or is expected."""
        return max(self._expected, len(self._workers))

    def start(self, engine: Engine, keep: Keep) -> None:
        """Begin a run; what earlier ones left is cleared away, and workers notice."""
        self._spool.make()
        shipment = Shipment.of(engine, _within(keep, self._spool.study))
        self._tell(dataclasses.replace(self._driver, state=STOPPED))  # what is taken from now on is of no earlier run
        self._spool.clear(WAITING, LEASED, ANSWERS)
        self._spool.write(pickle.dumps(shipment), f"engine-{self._driver.run}")
        self._tell(self._driver)
        self._thread.start()

    def measure(self, job: Job, whole: bool) -> Measurement:
        """Let a worker measure, as soon as there is one."""
        return self._submit(job.chunk, "measure", job, whole).result()

    def advance(self, job: Job, step: int, seconds: float) -> Future[SliceResult]:
        """Lay a slice out."""
        return self._submit(job.chunk, "advance", job, step, seconds)

    def close(self, finished: bool = False) -> None:
        """Take back what lies there; workers leave if all is finished, and wait for the next driver if not."""
        self._closed.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self._spool.there() or (self._failure and not finished):
            return
        with suppress(OSError):
            self._tell(dataclasses.replace(self._driver, state=FINISHED if finished else STOPPED))
            self._spool.clear(WAITING, LEASED, ANSWERS)

    # --- the thread that alone touches the folder -------------------------------------------------

    def _submit(self, chunk: str, method: str, *arguments: Any) -> Future[Any]:
        name, outcome = named(self._driver.run, next(self._numbers), chunk), Future()
        with self._lock:
            if self._failure:
                raise self._failure
            self._open[name], self._outbox[name] = outcome, cloudpickle.dumps((method, arguments))
        self._wake.set()
        return outcome

    def _serve(self) -> None:
        look, trouble = 0.0, None
        while not self._closed.is_set():
            now = time.monotonic()
            try:
                self._send()
                self._collect()
                if now >= look:
                    self._look(now)
                    look = now + min(self._lease / 10, 2.0)
                trouble = None
            except OSError as error:
                trouble = trouble or now
                if now - trouble > self._outage:
                    self._fail(StudyError(f"{self._spool.root} could not be used for {self._outage:g} s: {error}"))
                    return
                self._workers = {worker: (beat, now) for worker, (beat, _) in self._workers.items()}
                self._missing.clear()  # a folder that is away says nothing about workers
            except Exception as error:
                self._fail(error if isinstance(error, StudyError) else StudyError(f"the spool failed: {error!r}"))
                return
            self._wake.wait(TICK)
            self._wake.clear()

    def _fail(self, error: StudyError) -> None:
        """Let the driver know: every slice ends in this error."""
        with self._lock:
            self._failure, outcomes = error, list(self._open.values())
            self._open.clear()
        for outcome in outcomes:
            outcome.set_exception(error)

    def _send(self) -> None:
        with self._lock:
            letters = list(self._outbox.items())
        for name, content in letters:
            self._spool.write(content, WAITING, name)
            with self._lock:
                del self._outbox[name]

    def _collect(self) -> None:
        for name in self._spool.names(ANSWERS):
            if name in self._open:
                content = self._spool.read(ANSWERS, name)
                outcome = self._taken(name)
                try:
                    outcome.set_result(opened(content))
                except CheckpointError as error:
                    outcome.set_exception(WorkerDied(str(error)))
                except Exception as error:
                    outcome.set_exception(error)
            self._spool.remove(ANSWERS, name)

    def _taken(self, name: str) -> Future[Any]:
        with self._lock:
            return self._open.pop(name)

    def _look(self, now: float) -> None:
        """Show that the driver lives, and see who else does."""
        there = self._spool.driver()
        if there is None or there.run != self._driver.run:
            if there is None and not self._spool.there():
                raise FileNotFoundError("the spool is not there")
            raise StudyError(f"another driver has taken over {self._spool.root}; let only one run the study")
        present = self._spool.workers()
        for worker, told in present.items():
            if worker not in self._workers or self._workers[worker][0] != told["beat"]:
                self._workers[worker] = told["beat"], now
        leases = self._spool.names(LEASED)
        for lease in leases:
            self._check_lease(lease, now)
        self._let_go(present.keys() | {lease.partition("@")[2] for lease in leases}, now)
        self._find_missing({lease.partition("@")[0] for lease in leases}, now)
        self._driver = dataclasses.replace(self._driver, beat=self._driver.beat + 1)
        self._tell(self._driver)

    def _check_lease(self, lease: str, now: float) -> None:
        """Run the slice of a worker again that shows no life."""
        name, _, worker = lease.partition("@")
        _, since = self._workers.setdefault(worker, (-1, now))
        if name not in self._open:
            self._spool.remove(LEASED, lease)
        elif now - since > self._lease:
            self._spool.remove(LEASED, lease)
            self._driver = dataclasses.replace(self._driver, lost=self._driver.lost + 1)
            self._taken(name).set_exception(WorkerDied(f"no sign of life from {worker} for {self._lease:g} s"))

    def _let_go(self, known: Set[str], now: float) -> None:
        """Forget workers that left, and those that show no life."""
        for worker, (_, since) in list(self._workers.items()):
            if worker not in known or now - since > self._lease:
                del self._workers[worker]
                self._spool.remove(WORKERS, worker)

    def _find_missing(self, leased: set[str], now: float) -> None:
        """Give up calls that somebody removed: they are neither waiting nor taken nor answered."""
        with self._lock:
            ours = set(self._open) - set(self._outbox) - leased
        missing = ours - set(self._spool.names(WAITING)) - set(self._spool.names(ANSWERS))
        self._missing = {name: self._missing.get(name, now) for name in missing}
        for name, since in self._missing.items():
            if now - since > self._lease and name in self._open:
                self._taken(name).set_exception(WorkerDied(f"call {parts_of(name)[1]} vanished from the spool"))

    def _tell(self, driver: Driver) -> None:
        self._spool.write(json.dumps(dataclasses.asdict(driver)).encode(), "driver")


def _within(keep: Keep, study: Path) -> Keep:
    """Return a keep as seen from the study's folder, which may have another path where a worker runs."""
    from gradnoise.study.run.keep import FolderKeep

    if isinstance(keep, FolderKeep) and keep.folder.is_relative_to(study):
        return FolderKeep(keep.folder.relative_to(study))
    return keep
