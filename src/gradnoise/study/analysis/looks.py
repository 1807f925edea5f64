"""How often a study was looked at, and what that asks of its tests."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gradnoise.study.results import Look, StudyRecord


@dataclass(frozen=True)
class Monitoring:
    """Looks at a study whose seeds were not all there at the first one."""

    planned: int
    """Seeds that were declared."""
    looks: tuple[frozenset[int], ...]
    """The seeds seen at each look, ascending; the last is now."""

    @property
    def anytime(self) -> bool:
        """Whether there are more seeds than were declared, so that only a test for any time is valid."""
        return len(self.looks[-1]) > self.planned

    @property
    def sentence(self) -> str:
        """What a report says of it."""
        seen, before = len(self.looks[-1]), [str(len(look)) for look in self.looks[:-1]]
        if self.anytime:
            return (
                f"Seeds were added after a look at {', '.join(before)} of {self.planned} declared ones"
                if before
                else f"More seeds were run than the {self.planned} declared ones"
            ) + ": verdicts rest on an e-process, which is valid however often one looks, and takes more seeds."
        earlier = f", after looks at {', '.join(before)}" if before else ""
        return (
            f"This is a look at {seen} of {self.planned} declared seeds{earlier}: p-values are those of alpha spending,"
            " so that the error rate holds over all looks together."
        )


def monitoring(record: StudyRecord, looks: Sequence[Look], seen: Collection[int]) -> Monitoring | None:
    """Tell how a study was looked at before; None where all of its seeds are read at once, as a fixed design.

    Declared is `max_seeds`; without it, what was asked for at the first look, or now.

    Args:
        record: the study.
        looks: earlier ones.
        seen: seeds that have a pair now.
    """
    now = frozenset(seen)
    earlier = sorted({frozenset(look.seeds) & now for look in looks} - {now, frozenset()}, key=len)
    planned = record.max_seeds or (looks[0].asked if looks else len(record.seeds))
    if not now or (not earlier and len(now) >= planned and (record.max_seeds is None or len(now) == planned)):
        return None
    return Monitoring(planned, (*earlier, now))
