"""Parameters that are chosen by patterns of their names, in which * stands for any text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase


def named(name: str, patterns: Iterable[str]) -> bool:
    """Say whether some pattern names a parameter."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def idle(patterns: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the first pattern that names no parameter, None for none."""
    return next((p for p in patterns if not any(named(name, (p,)) for name in names)), None)
