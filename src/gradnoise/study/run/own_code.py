"""What the code of an experiment may not do to the program that trains it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradnoise.errors import PopulationError


class Terminated(SystemExit):
    """This program was told to end; raised by handlers of signals."""


@contextmanager
def not_ended() -> Iterator[None]:
    """Say of an experiment that ends the program within a block that it did: it would end without a word.

    Raises:
        PopulationError: it called exit().
    """
    try:
        yield
    except SystemExit as error:
        if isinstance(error, Terminated):
            raise
        raise PopulationError(
            f"the experiment ended the program (exit({error.code!r})) while it was used; let it raise an error instead"
        ) from error
