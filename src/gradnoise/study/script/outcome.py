"""What became of a run, as its folder keeps it: a driver that was killed finds it there."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradnoise.errors import StudyError
from gradnoise.files import replace_atomically
from gradnoise.study.script.pairing import Beginning

FILE = "outcome.json"
FINISHED, BROKEN, TIMEOUT, FAILED = "finished", "not finite", "timeout", "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Args:
        status: FINISHED; BROKEN, when its metric is nan or inf; TIMEOUT; or FAILED.
        sentence: what happened, where it is not finished.
        seconds: how long it ran.
        limit: its time limit in seconds; None for none.
        source: where its metrics were found; "" where nowhere.
        points: metric -> (step, value), in order.
        updates: updates of its first optimizer; 0 where none was seen.
        begin: what the hook wrote down of the first updates.
        variables: of the environment that say where it took place, such as its GPU.
        code: fingerprint of the code that it ran.
        counted: whether it told steps twice or not in order, so that those of `points` are counted.
    """

    status: str
    sentence: str = ""
    seconds: float = 0.0
    limit: float | None = None
    source: str = ""
    points: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    updates: int = 0
    begin: Sequence[Mapping[str, Any]] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    counted: bool = False

    @property
    def tells_twice(self) -> bool:
        """Whether two values have one step, as in folders of before: one of them would be lost."""
        return any(len({step for step, _ in values}) < len(values) for values in self.points.values())

    @property
    def final(self) -> dict[str, float]:
        """The last value of each metric."""
        return {name: float(values[-1][1]) for name, values in self.points.items() if values}

    @property
    def numbers(self) -> dict[str, list[tuple[float, ...]]]:
        """All that it told, to be compared with another run."""
        return {name: [tuple(point) for point in values] for name, values in self.points.items()}

    @property
    def beginning(self) -> Beginning:
        """How it began."""
        return Beginning.of(self.begin)

    @property
    def signature(self) -> str:
        """What failures have in common that are the same: their sentence without its numbers."""
        return re.sub(r"\d+", "N", self.sentence)

    def stands(self, limit: float | None) -> bool:
        """Tell whether the run need not be made again: failures are tried again, and time limits that grew."""
        if self.status == TIMEOUT:
            return self.limit is not None and limit is not None and limit <= self.limit
        return self.status != FAILED

    def write(self, folder: Path) -> None:
        """Keep it.

        Raises:
            StudyError: it cannot be written.
        """
        body = json.dumps(dataclasses.asdict(self)).encode()
        try:
            replace_atomically(folder / FILE, lambda file: file.write(body))
        except OSError as error:
            raise StudyError(
                f"cannot write to {folder}: {error.strerror}; make room, then repeat the command (finished runs are"
                " kept)"
            ) from error

    @classmethod
    def read(cls, folder: Path) -> Outcome | None:
        """Return what a folder keeps; None where its run has not ended, or it keeps something else."""
        try:
            return cls(**json.loads((folder / FILE).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None


def status_of(final: Mapping[str, float], metric: str) -> str:
    """Return how a run ended that told its metrics."""
    return FINISHED if math.isfinite(final[metric]) else BROKEN
