"""Memory of a worker: how much it used, and what it says when it runs out."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradnoise.errors import MemoryFullError, StudyError
from gradnoise.population.memory import is_out_of_memory


def peak_bytes() -> int:
    """Return the most memory that this process has used."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def first_line(error: Exception) -> str:
    """Return what an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


#: What is said where a single trial does not fit.
NOT_FOR_ONE = (
    "{}: it does not suffice for one trial; train on a machine with more, or with fewer --workers. Finished trials are"
    " kept"
)


@contextmanager
def one_fits() -> Iterator[None]:
    """Say of memory that runs out within a block with a single trial that there is nothing smaller to try.

    Raises:
        StudyError: memory ran out.
    """
    try:
        with memory_told(1, lambda: None):
            yield
    except MemoryFullError as error:
        raise StudyError(NOT_FOR_ONE.format(error)) from error


@contextmanager
def memory_told(trials: int, let_go: Callable[[], None]) -> Iterator[None]:
    """Say of memory that runs out within a block that it did.

    Args:
        trials: how many train together in it.
        let_go: called then, to give back what is held.

    Raises:
        MemoryFullError: memory ran out.
    """
    try:
        yield
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = first_line(error)
    gc.collect()  # out of the handler, whose error held everything
    let_go()
    raise MemoryFullError(f"memory ran out while {trials} trials were trained together ({reason})")
