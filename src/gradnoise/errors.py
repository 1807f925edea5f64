"""The errors that a user can meet. Each message says what was given, what is allowed and what is nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GradnoiseError(Exception):
    """Base of all errors that this package raises on purpose."""


class DataError(GradnoiseError, ValueError):
    """Data is not there, damaged, or not what was asked for."""


class DataNotFoundError(DataError):
    """Data is not there; the message says how to get it."""


class PopulationError(GradnoiseError, ValueError):
    """A model, batch or setting that cannot be trained as a population; the message says why and what to do."""


class CheckpointError(GradnoiseError, RuntimeError):
    """A checkpoint could not be read or written; the message names the file and what to do."""


class MemoryFullError(GradnoiseError, RuntimeError):
    """Memory ran out; with fewer replicas together it may suffice."""


class StudyError(GradnoiseError, ValueError):
    """A study was asked for something that it cannot do; the message says what is allowed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint `; did you mean 'noise'?` for a name that is nearly one of the known, else nothing."""
    near = difflib.get_close_matches(str(name), list(map(str, known)), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
