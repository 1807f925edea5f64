"""The spool: a folder through which a study's driver and its workers exchange slices.

    spool/driver               which run it is, whether it goes on, and a beat: JSON
    spool/engine-RUN           what trains, as a `Shipment`
    spool/waiting/NAME         a call of a worker's method
    spool/leased/NAME@WORKER   the same file, taken by a worker
    spool/answers/NAME         what came of it
    spool/workers/WORKER       who works at what, and a beat: JSON

A NAME is RUN-NUMBER-CHUNK. A worker takes a call by renaming its file, which one of several can do. Nothing here is
locked, and no clock is compared with that of another machine: a beat is a number that goes on, and who sees it stand
still for the time of a lease takes its writer for dead.

What lies here is unpickled. So the folder is closed to all other users, and a file that is read belongs to the reader.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradnoise.errors import StudyError

#: The parts of a spool.
WAITING, LEASED, ANSWERS, WORKERS = "waiting", "leased", "answers", "workers"
#: States of a driver: at work, interrupted, or done with the whole study.
RUNNING, STOPPED, FINISHED = "running", "stopped", "finished"
#: Stands for the chunk in the name of a call that belongs to none.
TIMING = "timing"
#: Seconds for which a folder may be away (a server restarts, a disk is full) before one gives up.
OUTAGE = 600.0


@dataclass(frozen=True)
class Spool:
    """The spool of a study.

    Args:
        study: the study's folder.
    """

    study: Path

    @property
    def root(self) -> Path:
        """Folder of the spool."""
        return self.study / "spool"

    def make(self) -> None:
        """Make the folders that are missing, and check all of them.

        Raises:
            StudyError: other users may write there.
        """
        with suppress(FileExistsError):
            self.root.mkdir(mode=0o700)
        self.check()
        for part in (WAITING, LEASED, ANSWERS, WORKERS):
            with suppress(FileExistsError):
                (self.root / part).mkdir(mode=0o700)

    def check(self) -> None:
        """Check that the spool is this user's alone.

        Raises:
            FileNotFoundError: there is none.
            StudyError: other users may read or write there, or it is no folder.
        """
        found = os.lstat(self.root)
        if not stat.S_ISDIR(found.st_mode):
            raise StudyError(f"{self.root} is no folder; remove it")
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise StudyError(
                f"{self.root} is open to others (owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):o}), and"
                f" workers run what lies there; it must belong to user {os.geteuid()} with mode 700"
            )

    def read(self, *path: str) -> bytes:
        """Read a file of the spool.

        Raises:
            FileNotFoundError: it is not there (any more).
            StudyError: it was written by another user, or is no plain file.
        """
        place = self.root.joinpath(*path)
        stranger = f"{place} is no plain file written by user {os.geteuid()}; it is not read, since it would be run"
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise StudyError(stranger) if error.errno == errno.ELOOP else error from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise StudyError(stranger)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)

    def write(self, content: bytes, *path: str) -> None:
        """Write a file, whole or not at all.

        It need not survive a crash of the machine, since a new driver begins a new run. And no folder is made: one that
        is away for a moment must not find another in its place when it comes back.
        """
        target = self.root.joinpath(*path)
        temporary = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def remove(self, *path: str) -> None:
        """Remove a file, if it is there."""
        self.root.joinpath(*path).unlink(missing_ok=True)

    def names(self, part: str) -> list[str]:
        """List a part of the spool, the oldest call first."""
        return sorted(name for name in os.listdir(self.root / part) if not name.startswith("."))

    def clear(self, *parts: str) -> None:
        """Remove everything in some parts, and what trained in earlier runs; unfinished files too."""
        for part in parts:
            for name in os.listdir(self.root / part):
                self.remove(part, name)
        for name in os.listdir(self.root):
            if name.startswith(("engine-", ".")):
                self.remove(name)

    def driver(self) -> Driver | None:
        """Return what the driver says of itself; None when none has been here."""
        try:
            self.check()
            return Driver(**self._told("driver"))
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise StudyError(f"{self.root / 'driver'} is damaged ({error}); remove it") from error

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return what workers say of themselves."""
        found = {}
        for name in self.names(WORKERS):
            with suppress(FileNotFoundError):  # it has just left
                found[name] = {"chunk": "", "slices": 0, "beat": 0} | self._told(WORKERS, name)
        return found

    def _told(self, *path: str) -> dict[str, Any]:
        """Read what a driver or worker says of itself."""
        try:
            told = json.loads(self.read(*path))
        except (ValueError, RecursionError) as error:
            raise StudyError(f"{self.root.joinpath(*path)} is damaged ({error}); remove it") from error
        if not isinstance(told, dict):
            raise StudyError(f"{self.root.joinpath(*path)} is damaged; remove it")
        return told

    def there(self) -> bool:
        """Whether the folder can be reached: else nothing follows from a file that is not found."""
        try:
            os.stat(self.root / "driver")
        except OSError:
            return False
        return True

    # --- leases -----------------------------------------------------------------------------------

    def take(self, name: str, worker: str) -> bool:
        """Take a waiting call for a worker; False when another was faster."""
        lease = self.lease(name, worker)
        try:
            os.rename(self.root / WAITING / name, lease)
        except FileNotFoundError:
            return lease.exists()  # a network file system may rename, lose the reply, and rename once more
        return True

    def give_back(self, name: str, worker: str) -> None:
        """Let another worker take a call."""
        with suppress(FileNotFoundError):
            os.rename(self.lease(name, worker), self.root / WAITING / name)

    def lease(self, name: str, worker: str) -> Path:
        """Return the file that is there as long as the driver counts on a worker."""
        return self.root / LEASED / f"{name}@{worker}"


@dataclass(frozen=True)
class Driver:
    """What a driver says of itself.

    Args:
        run: another one for every start of a driver.
        state: RUNNING, STOPPED or FINISHED.
        beat: goes on as long as the driver lives.
        lease: seconds without a beat after which a worker is taken for dead; it should beat much faster.
        lost: slices of this run whose worker was taken for dead.
    """

    run: str
    state: str
    beat: int
    lease: float
    lost: int = 0


def named(run: str, number: int, chunk: str) -> str:
    """Return the name of a call."""
    return f"{run}-{number:09d}-{chunk or TIMING}"


def parts_of(name: str) -> tuple[str, int, str]:
    """Return (run, number, chunk) of the name of a call.

    Raises:
        StudyError: it is none.
    """
    found = re.fullmatch(r"([0-9a-f]+)-(\d+)-(\w+)", name)
    if not found:
        raise StudyError(f"{name!r} lies in a spool and is no call; remove it")
    return found[1], int(found[2]), found[3]
