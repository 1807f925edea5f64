"""A worker's lease of a call: while it holds, its checkpoints and its answer count, and no longer."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradnoise.errors import CheckpointError
from gradnoise.study.engine import Keep, Kept
from gradnoise.study.run.spool.folder import ANSWERS, LEASED, OUTAGE, Spool

#: Seconds between two tries to write something.
AGAIN = 1.0


class LeaseLost(BaseException):
    """The driver counts on this worker no longer; no `Exception`, since it is no answer to the call."""


@dataclass(frozen=True)
class Lease:
    """A call that a worker has taken.

    Args:
        spool: where it lies.
        name: of the call.
        worker: id of the worker.
        outage: seconds for which the folder may be away.
    """

    spool: Spool
    name: str
    worker: str
    outage: float = OUTAGE

    def call(self) -> bytes:
        """Read what is to be called."""
        return self.spool.read(LEASED, f"{self.name}@{self.worker}")

    def check(self) -> None:
        """Return if the driver still counts on this worker; wait while the folder is away.

        Raises:
            LeaseLost: it does not, or the folder does not come back.
        """
        deadline = time.monotonic() + self.outage
        while not self._holds():
            if self.spool.there() and not self._holds():  # once more: the folder may have come back in between
                raise LeaseLost(f"the driver has given call {self.name} to another worker")
            if time.monotonic() > deadline:
                raise LeaseLost(f"{self.spool.root} was away for {self.outage:g} s")
            time.sleep(AGAIN)

    def _holds(self) -> bool:
        try:
            os.stat(self.spool.lease(self.name, self.worker))
        except OSError:
            return False
        return True

    def hand_in(self, answer: bytes) -> None:
        """Write the answer, and again where that fails for a while.

        Raises:
            LeaseLost: nobody waits for it any more.
            OSError: it cannot be written.
        """
        deadline = time.monotonic() + self.outage
        while True:
            self.check()
            try:
                self.spool.write(answer, ANSWERS, self.name)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN)
        self.spool.remove(LEASED, f"{self.name}@{self.worker}")

    def give_back(self) -> None:
        """Let another worker take the call."""
        self.spool.give_back(self.name, self.worker)


class LeasedKeep:
    """A keep that writes under a lease only: a worker that was frozen and comes back must not disturb its successor.

    Args:
        keep: where checkpoints lie.
        outage: seconds for which writing one may fail before that counts as an error.
    """

    def __init__(self, keep: Keep, outage: float = OUTAGE) -> None:
        self.keep, self.outage = keep, outage
        #: What the worker works at; none while it measures.
        self.lease: Lease | None = None

    def save(self, chunk: str, step: int, state: Mapping[str, Any]) -> None:
        """Keep the state, and try again for a while where the disk is full or away.

        Raises:
            LeaseLost: another worker has the chunk.
            CheckpointError: it cannot be written.
        """
        deadline = time.monotonic() + self.outage
        while True:
            if self.lease:
                self.lease.check()
            try:
                return self.keep.save(chunk, step, state)
            except CheckpointError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN)

    def latest(self, chunk: str, step: int) -> Kept:
        """Read the newest state."""
        if self.lease:
            self.lease.check()  # a folder that is away holds no checkpoint, and would be told of as damaged
        return self.keep.latest(chunk, step)

    def drop(self, chunk: str) -> None:
        """Remove the checkpoints of a chunk."""
        self.keep.drop(chunk)
