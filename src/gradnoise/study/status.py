"""Where a study stands: what is done, what is left and for how long, and who works at it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradnoise.study.run.spool.folder import Spool
from gradnoise.study.store import Store


@dataclass(frozen=True)
class Status:
    """Where a study stands.

    Args:
        title: of the study, with its scale.
        counts: trials by status: pending, running, finished, diverged.
        updates: updates done, summed over trials.
        all_updates: those that the study has; runs that end early do fewer.
        seconds: time spent in slices so far, summed over workers.
        driver: state of the spool's driver; empty where the study has no spool.
        lost: slices of its present run whose worker was taken for dead.
        workers: what those in the spool say of themselves, by id.
        events: the last things that went wrong without harm to the numbers.
    """

    title: str
    counts: dict[str, int]
    updates: int
    all_updates: int
    seconds: float
    driver: str
    lost: int
    workers: dict[str, dict[str, Any]]
    events: tuple[str, ...]

    @property
    def trials(self) -> int:
        """Number of trials."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Trials that ended."""
        return self.counts.get("finished", 0) + self.counts.get("diverged", 0)

    def seconds_left(self, workers: int) -> float | None:
        """Return how long so many workers need for what is left, at the speed so far; None when that is not known."""
        if not self.updates or not workers:
            return None
        return self.seconds / self.updates * (self.all_updates - self.updates) / workers

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """Where the study stands in words: (what, how) lines."""
        counts = ", ".join(f"{n} {name}" for name, n in sorted(self.counts.items()))
        share = self.updates / max(self.all_updates, 1)
        found = [
            ("trials", f"{self.done} of {self.trials} ended ({counts})"),
            ("updates", f"{self.updates:,} of {self.all_updates:,} ({share:.0%})"),
        ]
        left = self.seconds_left(len(self.workers) or 1)
        if left and self.done < self.trials:
            many = f"{len(self.workers)} workers" if len(self.workers) > 1 else "one worker"
            found.append(("left", f"about {left / 3600:.1f} hours of {many}, at the speed so far"))
        if self.driver:
            lost = f", {self.lost} slices run again after their worker was lost" if self.lost else ""
            found.append(("driver", f"{self.driver}{lost}"))
        for name, told in self.workers.items():
            doing = f"at chunk {told['chunk']}" if told["chunk"] else "waits"
            found.append(("worker", f"{name}: {doing}, {told['slices']} slices"))
        return tuple(found)


def status_of(folder: Path, events: int = 5) -> Status:
    """Read where a study stands, also while it runs; nothing is changed.

    Args:
        folder: of the study.
        events: how many of the last ones to return.

    Raises:
        StudyError: the folder holds no study, or its spool is open to others.
    """
    with Store(folder, readonly=True) as store:
        record, counts, seconds, steps = store.record(), store.counts(), store.seconds(), store.lengths()
        updates = sum((steps.get(t, 0) if c.done else c.step) for c in store.chunks() for t in c.trials)
        told = tuple(f"{e.time}, chunk {e.chunk}: {e.sentence}" for e in store.events()[-events:])
    spool = Spool(folder.absolute())
    driver, workers = spool.driver(), {}
    with suppress(FileNotFoundError):
        workers = spool.workers()
    state, lost = (driver.state, driver.lost) if driver else ("", 0)
    return Status(record.heading, counts, updates, sum(steps.values()), seconds, state, lost, workers, told)
