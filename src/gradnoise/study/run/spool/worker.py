"""A worker on a spool: it takes calls until the study is finished, its time is up, or it is told to leave."""

from __future__ import annotations

import json
import os
import pickle
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gradnoise.errors import StudyError
from gradnoise.given import Between, settle
from gradnoise.study.engine import Engine, Keep, SliceResult
from gradnoise.study.run.keep import FolderKeep
from gradnoise.study.run.shipment import Shipment, answer
from gradnoise.study.run.spool.folder import (
    FINISHED,
    LEASED,
    OUTAGE,
    RUNNING,
    WAITING,
    WORKERS,
    Driver,
    Spool,
    parts_of,
)
from gradnoise.study.run.spool.lease import AGAIN, Lease, LeasedKeep, LeaseLost

#: Seconds between two looks for a call.
TICK = 0.05
#: Seconds for which a worker takes nothing but the next slice of the chunk that it has in memory.
PATIENCE = 0.5
#: Seconds without a driver after which a worker leaves.
IDLE = 3600.0
#: The same where the study was finished before the worker came: its driver may be about to start once more.
LATE = 60.0


@dataclass(frozen=True)
class Until:
    """When a worker leaves by itself.

    Args:
        seconds: after so many, and early enough for one more slice as long as the longest so far; None for no limit.
        idle: after so many seconds without a driver.
    """

    seconds: Annotated[float | None, Between(0)] = None
    idle: Annotated[float, Between(0)] = IDLE

    def __post_init__(self) -> None:
        """Check types and ranges."""
        settle(self, StudyError)


class SpoolWorker:
    """Takes calls from the spool of a study.

    Args:
        study: the study's folder.
        device: where to train, a device of the same kind as the driver's; None for just that.
        until: when to leave.
        say: is told what happens, a line at a time.
        outage: seconds for which the folder may be away.
    """

    def __init__(
        self,
        study: Path,
        *,
        device: str | None = None,
        until: Until | None = None,
        say: Callable[[str], None] = print,
        outage: float = OUTAGE,
    ) -> None:
        self.spool, self.until, self.say = Spool(study.absolute()), until or Until(), say
        self.id = f"{_host()}.{os.getpid()}.{secrets.token_hex(3)}"
        self._device, self._outage = device, outage
        self._leaving = False
        self._run, self._worker, self._keep = "", None, None
        self._held, self._answered = "", 0.0  # the chunk that is in memory, if it goes on; since when
        self._longest = 0.0
        self._driver_seen = -1, 0.0  # the driver's beat, and when it was new
        self._unclear = False  # whether a call may lie among those of this worker that it does not work at
        self._heart = _Heart(self.spool, self.id)

    def leave(self) -> None:
        """End after the present slice."""
        self._leaving = True

    def work(self) -> str:
        """Work until there is a reason to leave; returns it.

        Raises:
            StudyError: this machine cannot train the study, others may write to the spool, or it cannot be used for too
                long; the message says what to do.
        """
        started = idle = time.monotonic()
        trouble: float | None = None
        try:
            while True:
                try:
                    if reason := self._reason(started, idle):
                        return reason
                    idle = time.monotonic() if self._turn() else idle
                    trouble = None
                except OSError as error:
                    self._unclear, trouble = True, trouble or time.monotonic()
                    if time.monotonic() - trouble > self._outage:
                        raise StudyError(
                            f"{self.spool.root} could not be used for {self._outage:g} s: {error}; the slice will be"
                            " run by another worker"
                        ) from error
                    time.sleep(AGAIN)
        finally:
            self._heart.stop()

    def _reason(self, started: float, idle: float) -> str:
        """Return why to leave now; empty for no reason."""
        now = time.monotonic()
        if self._leaving:
            return "told to leave"
        if self.until.seconds is not None and now - started + self._longest >= self.until.seconds:
            return "its time is up"
        if now - idle > self.until.idle:
            return f"there was no driver for {self.until.idle:g} s"
        late = self._worker is None and now - started <= LATE
        driver = self.spool.driver()
        return "the study is finished" if driver and driver.state == FINISHED and not late else ""

    def _turn(self) -> bool:
        """Take a call if there is one, and answer it; returns whether there is a driver."""
        driver = self.spool.driver()
        if driver is None or driver.state != RUNNING or not self._lives(driver):
            time.sleep(10 * TICK)
            return False
        if driver.run != self._run:
            self._load(driver)
        if self._unclear:
            self._clear_up()
        name = self._next(driver.run)
        if name is None or not self.spool.take(name, self.id):
            time.sleep(TICK)
        else:
            self._serve(Lease(self.spool, name, self.id, self._outage))
        return True

    def _lives(self, driver: Driver) -> bool:
        """Whether a driver's beat goes on."""
        now = time.monotonic()
        if self._driver_seen[0] != driver.beat or driver.run != self._run:
            self._driver_seen = driver.beat, now
        return now - self._driver_seen[1] < driver.lease

    def _load(self, driver: Driver) -> None:
        """Make a worker of what the driver shipped."""
        self._worker, self._held = None, ""
        shipment = pickle.loads(self.spool.read(f"engine-{driver.run}"))
        assert isinstance(shipment, Shipment), "a driver wrote it"
        engine, keep = shipment.open()
        engine = placed(engine, self._device)
        engine.local_workers()  # tells what this machine lacks
        self._keep = LeasedKeep(_seen_from(self.spool.study, keep), self._outage)
        self._worker, self._run = engine.worker(self._keep), driver.run
        self._heart.begin(driver.lease, str(getattr(engine, "hardware", "")))
        self.say(f"worker {self.id}: at work in {self.spool.study}")

    def _clear_up(self) -> None:
        """Give back what could not be given back while the folder was away."""
        for lease in self.spool.names(LEASED):
            name, _, worker = lease.partition("@")
            if worker == self.id:
                self.spool.give_back(name, worker)
        self._unclear = False

    def _next(self, run: str) -> str | None:
        """Choose a call: of the chunk that is in memory, else the oldest."""
        waiting = [name for name in self.spool.names(WAITING) if parts_of(name)[0] == run]
        mine = [name for name in waiting if parts_of(name)[2] == self._held]
        if not mine and self._held and time.monotonic() - self._answered < PATIENCE:
            return None
        return next(iter(mine or waiting), None)

    def _serve(self, lease: Lease) -> None:
        """Do what a call asks for and hand the answer in."""
        assert self._worker is not None and self._keep is not None, "it was loaded"
        chunk, started = parts_of(lease.name)[2], time.monotonic()
        try:
            self._keep.lease = lease
            method, arguments = pickle.loads(lease.call())
            self._heart.tells(chunk)
            self._held, worker = "", self._worker
            lease.hand_in(answer(lambda: self._noted(chunk, getattr(worker, method)(*arguments))))
        except LeaseLost as lost:
            self._held = ""
            self.say(f"worker {self.id}: {lost}")
        except BaseException:
            self._held = ""
            lease.give_back()
            raise
        finally:
            self._keep.lease = None
            self._heart.tells("")
            self._answered = time.monotonic()
            self._longest = max(self._longest, self._answered - started)

    def _noted(self, chunk: str, value: Any) -> Any:
        """Remember which chunk is in memory now."""
        self._held = chunk if isinstance(value, SliceResult) and not value.done else ""
        return value


class _Heart:
    """Rewrites what a worker says of itself, so that the driver sees it live."""

    def __init__(self, spool: Spool, worker: str) -> None:
        self._spool, self._worker = spool, worker
        self._told: dict[str, Any] = {"host": _host(), "pid": os.getpid(), "beat": 0, "slices": 0, "chunk": ""}
        self._pause = 1.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="gradnoise-heart", daemon=True)

    def begin(self, lease: float, hardware: str) -> None:
        """Beat fast enough for a lease, from now on."""
        self._pause = min(lease / 10, 5.0)
        self._told["hardware"] = hardware
        self._once()
        if not self._thread.is_alive():
            self._thread.start()

    def tells(self, chunk: str) -> None:
        """Say which chunk is worked at; empty for none."""
        self._told |= {"chunk": chunk, "slices": self._told["slices"] + bool(chunk)}

    def _once(self) -> None:
        self._told["beat"] += 1
        self._spool.write(json.dumps(self._told).encode(), WORKERS, self._worker)

    def _beat(self) -> None:
        while not self._stopped.wait(self._pause):
            with suppress(OSError):
                self._once()

    def stop(self) -> None:
        """Beat no more, and be gone."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(OSError):
            self._spool.remove(WORKERS, self._worker)


def placed(engine: Engine, device: str | None) -> Engine:
    """Return an engine that trains on a device of this machine; the same one where none is named.

    Raises:
        StudyError: the engine takes none, or one of another kind.
    """
    if device is None:
        return engine
    on = getattr(engine, "on", None)
    if on is None:
        raise StudyError(f"{engine.name} is an engine and decides itself where it trains; leave out --device")
    return on(device)


def _seen_from(study: Path, keep: Keep) -> Keep:
    """Return a keep within the study's folder, which may have another path on the driver's machine."""
    return FolderKeep(study / keep.folder) if isinstance(keep, FolderKeep) else keep


def _host() -> str:
    """Return the name of this machine as a part of file names."""
    return "".join(c if c.isalnum() else "-" for c in socket.gethostname())
