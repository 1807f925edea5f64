"""Find a machine in the folder of an NRAM study, and say how it differs from one that is trained once more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from gradnoise.paper.runs import Found, Wanted, find
from gradnoise.study import TrialResult

#: Metrics that are compared, in % of wrong cells.
ERRORS = ("error", "stopped_error", "hard_error")


def find_machine(folder: Path, wanted: Wanted) -> Found:
    """Find a run: of all that fit one that reached zero error, if there is one.

    Args:
        folder: of a `gradnoise run nram`.
        wanted: which run.

    Raises:
        StudyError: the folder holds no such study or no such run.
    """
    return find(folder, "nram", wanted, merit=lambda run: run.final.get("solved", 0.0) >= 100)


def difference(run: TrialResult, metrics: Mapping[str, float]) -> str:
    """Say how a machine that was trained once more differs from the stored run; "" where its errors are the same.

    Args:
        run: as it is stored.
        metrics: of the machine trained again.
    """
    pairs = [(name, run.final[name], metrics.get(name, math.nan)) for name in ERRORS if name in run.final]
    if metrics.get("error") == 0:  # then the stored one is of the second, larger exam
        pairs = [pair for pair in pairs if pair[0] != "error"]
    differing = [f"{name.replace('_', ' ')} {then:g} % then, {now:g} % now" for name, then, now in pairs if then != now]
    if not differing:
        return ""
    return (
        f"This is another machine than the stored run: {'; '.join(differing)}. Where a run is trained alone or by"
        " other code, sums are rounded in another order, and it can end elsewhere."
    )
