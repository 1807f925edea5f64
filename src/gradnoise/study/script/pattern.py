"""The pattern of --metric-regex: checked before a run, and read so that no part of a number is taken for all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradnoise.errors import StudyError
from gradnoise.study.script.values import NO_NUMBER, UnreadError, value_of

#: What separates thousands; the comma is the point of decimals in half of the world.
_THOUSANDS = "[,_'’\u00a0\u2009\u202f]"
#: A number as people write it, with all that belongs to it: groups of thousands, a comma for decimals, k for thousands.
_WRITTEN = re.compile(
    rf"(?:(?<![^\s:=(\[,])[-+])?"
    rf"(?:[1-9]\d{{0,2}}({_THOUSANDS})\d{{3}}(?:\1\d{{3}})*(?!\d)(?:\.\d+)?"
    r"|[1-9]\d{0,2}(?:\.\d{3})+,\d+(?!\.?\d|,\d)"
    r"|(?<![\d,.])\d+,\d+(?!\.?\d|,\d)"
    r"|[\d.]*\d[\d.]*)"
    r"(?:[eE][-+]?\d+)?(?:[kKMGT](?!\w))?"
)
#: Characters around a match that are looked at: output by progress bars can be one line of many megabytes.
_AROUND = 200


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
    """Return the numbers that the group of a pattern matches, nan where a word for none stands in their place.

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
    for match in _matches(text, pattern):
        (start, end), value = match.span(1), (match[1] or "").rstrip(".")
        whole = _whole(text, start, end)
        if whole and whole not in (value, value.lstrip("+-")):
            hint = "take ([-+.0-9eE]+) as its group"
            if value_of(whole) is None:
                hint = "print it without separators and units, or tell it by gradnoise.report"
            raise UnreadError(
                f"--metric-regex {pattern!r} matches {match[1]!r}, a part of the number in {_line(text, start)!r};"
                f" {hint}"
            )
        number = value_of(value)
        if number is None:
            raise UnreadError(
                f"--metric-regex {pattern!r} matches {match[1]!r} in {_line(text, start)!r}, which is no number"
            )
        found.append(number)
    return found


def _matches(text: str, pattern: str) -> Iterator[re.Match[str]]:
    """Yield the matches of a pattern whose group may be a word for none, too."""
    own = re.compile(pattern, re.MULTILINE)
    for match in re.finditer(_with_no_number(pattern), text, re.MULTILINE):
        if (match[1] or "").startswith("--"):
            other = own.match(text, match.start())  # of a dash of the line, as in "loss -- 0.5"
            if other and "\n" not in other[0]:
                match = other
        yield match


def _whole(text: str, start: int, end: int) -> str:
    """Return all of the number of which a match took something; "" where it took no digit."""
    digit = re.search(r"\d", text[start:end])
    if not digit:
        return ""
    first = max(text.rfind("\n", 0, start) + 1, start - _AROUND)
    place = start + digit.start() - first
    around = text[first : end + _AROUND].partition("\n")[0] if "\n" not in text[start:end] else text[start:end]
    return next((n[0].rstrip(".") for n in _WRITTEN.finditer(around) if n.start() <= place < n.end()), "")


def _line(text: str, place: int) -> str:
    start = text.rfind("\n", 0, place) + 1
    return text[start:].partition("\n")[0].strip()[:100]


def _with_no_number(pattern: str) -> str:
    """Let the group of a pattern match nan, None and their like, too: it would pass over them to an earlier line."""
    start, end = _group(pattern)
    return f"{pattern[:start]}{NO_NUMBER}|{pattern[start:end]}{pattern[end:]}"


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
