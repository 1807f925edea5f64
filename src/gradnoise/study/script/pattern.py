"""The pattern of --metric-regex: checked before a run, and read so that no part of a number is taken for all of it."""

from __future__ import annotations

import re

from gradnoise.errors import StudyError

#: What a loss may be besides a number; patterns such as ([0-9.]+) would pass over it and take an earlier line.
NOT_FINITE = r"(?i:[-+]?(?:nan|inf(?:inity)?))\b"
#: A number goes on behind or before what a group took of it.
_GOES_ON, _BEGAN = re.compile(r"\d|\.\d|[eE][-+]?\d"), re.compile(r"[\d.]$|(?:^|[\s:=(\[,])-$")


class UnreadError(Exception):
    """A source of metrics is there that cannot be read; the sentence says why."""


def check_pattern(pattern: str | None) -> None:
    """Check a regular expression for a metric.

    Raises:
        StudyError: it is none, or has no group for the value.
    """
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise StudyError(f"--metric-regex {pattern!r} is no regular expression: {error}") from error
    if groups != 1:
        raise StudyError(
            f"--metric-regex {pattern!r} has {groups} groups; it needs one, around the value: 'accuracy: ([0-9.]+)'"
        )


def numbers_in(text: str, pattern: str) -> list[float]:
    """Return the numbers that the group of a pattern matches, nan and inf where they stand in their place.

    Args:
        text: an output.
        pattern: a regular expression that `check_pattern` passed.

    Raises:
        UnreadError: a match is no number, or a part of one.

    Example:
        >>> numbers_in("loss: 0.5, loss: nan", "loss: ([0-9.]+)")
        [0.5, nan]
    """
    found = []
    for match in re.finditer(_with_not_finite(pattern), text, re.MULTILINE):
        (start, end), value = match.span(1), (match[1] or "").rstrip(".")
        if _GOES_ON.match(text, end) or _BEGAN.search(text[max(0, start - 2) : start]):
            raise UnreadError(
                f"--metric-regex {pattern!r} matches {match[1]!r}, a part of the number in {_line(text, start)!r}; take"
                " ([-+.0-9eE]+) as its group"
            )
        try:
            found.append(float(value))
        except ValueError as error:
            raise UnreadError(
                f"--metric-regex {pattern!r} matches {match[1]!r} in {_line(text, start)!r}, which is no number"
            ) from error
    return found


def _line(text: str, place: int) -> str:
    start = text.rfind("\n", 0, place) + 1
    return text[start:].partition("\n")[0].strip()[:100]


def _with_not_finite(pattern: str) -> str:
    """Let the group of a pattern match nan and inf, too."""
    start, end = _group(pattern)
    return f"{pattern[:start]}{pattern[start:end]}|{NOT_FINITE}{pattern[end:]}"


def _group(pattern: str) -> tuple[int, int]:
    """Return where the content of the only capturing group of a pattern begins and ends."""
    begin, inner, depth, i, in_class = -1, 0, 0, 0, False
    while i < len(pattern):
        c = pattern[i]
        if c == "\\":
            i += 1
        elif in_class:
            in_class = c != "]"
        elif c == "[":
            in_class = True
            i += len(re.match(r"\^?\]?", pattern[i + 1 :])[0])  # type: ignore[index]
        elif c == "(":
            named = re.match(r"\?P<\w+>", pattern[i + 1 :])
            if begin < 0 and (named or pattern[i + 1 : i + 2] != "?"):
                begin, inner = i + 1 + (len(named[0]) if named else 0), depth
            depth += 1
        elif c == ")":
            depth -= 1
            if begin >= 0 and depth == inner:
                return begin, i
        i += 1
    return len(pattern), len(pattern)
