"""Operations for which vmap has no rule and that it therefore runs replica by replica: torch says so in a warning."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

#: What torch says, of each such operation.
PATTERN = re.compile(
    r"There is a performance drop because we have not yet implemented the batching rule for (\S+?)\.? "
)


class ExperimentWarning(UserWarning):
    """What a study says of an experiment once, before training."""


class SlowOperation(ExperimentWarning):
    """An operation that vmap runs replica by replica."""


def slow_sentence(role: str, found: Iterable[str]) -> str:
    """Say which operations make a loss or evaluation slow."""
    names = ", ".join(sorted(found))
    return f"{role} is slower than it might be: vmap has no rule for {names} and runs it replica by replica"


@contextmanager
def noting_slow(role: str, found: set[str]) -> Iterator[None]:
    """Run a block and add the operations that vmap has no rule for to `found`; all other warnings are given.

    New ones are told of in one warning of ours, a `SlowOperation`.
    """
    before = set(found)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if known := PATTERN.match(str(warning.message)):
            found.add(known.group(1))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if found - before:
        warnings.warn(slow_sentence(role, found - before), SlowOperation, stacklevel=4)
