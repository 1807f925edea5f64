"""How a script tells a comparison its metrics: one line, which does nothing outside of one."""

from __future__ import annotations

import json
import operator
import os
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

#: The folder in which the driver of a comparison finds what its run tells; set by `gradnoise compare`.
RECORDS = "GRADNOISE_RECORDS"
#: The file in it: one JSON object a line.
REPORTS = "reports.jsonl"


def report(*, step: int | None = None, **metrics: SupportsFloat) -> None:
    """Tell `gradnoise compare` the metrics of this run; do nothing where no comparison runs this process.

    Call it once at the end, or during training too: the last value counts, the earlier ones are a curve. Under torchrun
    only the process of rank 0 tells.

    Args:
        step: updates or epochs done so far, for curves, rising from call to call; None counts the calls, or goes behind
            the last step where others were given.
        metrics: name -> number, or a tensor or array of one number. nan and inf are told as they are.

    Raises:
        TypeError: a value is no number, or step no integer.

    Example:
        >>> report(accuracy=0.93, step=500)
    """
    for name, value in metrics.items():
        if isinstance(value, (str, bytes)):
            raise TypeError(f"report({name}={value!r}): a number is needed, and this is text")
    if isinstance(step, bool) or not (step is None or isinstance(step, SupportsIndex)):
        raise TypeError(f"report(step={step!r}): an integer is needed, the updates or epochs done so far, or None")
    values = {name: float(value) for name, value in metrics.items()}
    folder = os.environ.get(RECORDS)
    if not folder or os.environ.get("RANK", "0") != "0":
        return
    line = json.dumps({"step": None if step is None else operator.index(step), "metrics": values}) + "\n"
    with open(Path(folder) / REPORTS, "a", encoding="utf-8") as file:
        file.write(line)
