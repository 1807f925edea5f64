"""A bound on a measure, such as "accuracy >= 90": which evaluations of a run keep it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from gradnoise.errors import StudyError

AT_LEAST, AT_MOST = ">=", "<="
#: What an evaluation that keeps the bound counts as, in %; one that does not counts as 0.
KEPT = 100.0


@dataclass(frozen=True)
class Threshold:
    """A measure and a bound on it.

    Args:
        name: of the measure.
        sign: ">=" or "<=".
        bound: in the unit of the measure.
    """

    name: str
    sign: str
    bound: float

    def __str__(self) -> str:
        """Write it as it is given, such as "accuracy >= 90"."""
        return f"{self.name} {self.sign} {repr(self.bound).removesuffix('.0')}"

    def share(self, value: float) -> float:
        """Return 100 for a value that keeps the bound, 0 for another, and for nan."""
        return float(self.shares(np.array([value]))[0])

    def shares(self, values: np.ndarray) -> np.ndarray:
        """Return 100 or 0 for each value, see `share`."""
        kept = values >= self.bound if self.sign == AT_LEAST else values <= self.bound
        return np.where(kept & np.isfinite(values), KEPT, 0.0)


def threshold(text: str, where: str) -> Threshold:
    """Read a bound on a measure.

    Args:
        text: the name of the measure, ">=" or "<=", and a finite number.
        where: what messages begin with, such as "metric 'learned': of".

    Raises:
        StudyError: it is no such text.

    Example:
        >>> str(threshold("train_loss<=0.10", "of"))
        'train_loss <= 0.1'
    """
    found = re.fullmatch(r"\s*([^<>]*[^\s<>=])\s*([<>]=)\s*([^<>=]+)", text)
    try:
        bound = float(found[3]) if found else math.nan
    except ValueError:
        bound = math.nan
    if found is None or not math.isfinite(bound):
        raise StudyError(
            f"{where} = {text!r} is no bound on a measure; write its name, >= or <=, and a finite number, such as"
            " 'accuracy >= 90'"
        )
    return Threshold(found[1], found[2], bound)
