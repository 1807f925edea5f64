"""Answers as one would find them by hand: question and table read word by word, row by row, in exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

Cell = Fraction | str
Row = Mapping[str, Cell]


@dataclass(frozen=True)
class Lookup:
    """Cells that a question asks for.

    Args:
        column: letter.
        rows: which rows, counted from 0.
    """

    column: str
    rows: tuple[int, ...]


def answer(question: Sequence[str], table: Mapping[str, Sequence[Cell]]) -> Fraction | Lookup:
    """Answer a question.

    Args:
        question: tokens with numbers in their places, such as `greater 50.32 C sum E`; where no column is named, the
            first one is meant.
        table: letter -> cells.
    """
    words, only = list(question), next(iter(table))
    rows: list[Row] = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    kept = list(range(len(rows)))
    if meets := _condition(words, only):
        if words[0] in ("and", "or"):
            joined, other = (all if words.pop(0) == "and" else any), _condition(words, only)
            assert other is not None
            kept = [i for i in kept if joined((meets(rows[i]), other(rows[i])))]
        else:
            kept = [i for i in kept if meets(rows[i])]
    return _target(words, only, rows, kept)


def _condition(words: list[str], only: str) -> Callable[[Row], bool] | None:
    """Take a condition from the front of the words, if there is one."""
    if words[0] in ("greater", "lesser"):
        more, number = words.pop(0) == "greater", Fraction(words.pop(0))
        column = _column(words, only)
        return lambda row: row[column] > number if more else row[column] < number  # type: ignore[operator]
    if words[0].startswith("word:"):
        wanted = words.pop(0)
        column = _column(words, only)
        return lambda row: row[column] == wanted
    return None


def _target(words: list[str], only: str, rows: Sequence[Row], kept: Sequence[int]) -> Fraction | Lookup:
    kind = words.pop(0)
    if kind == "print":
        return Lookup(_column(words, only), tuple(kept))
    found = Fraction(len(kept))
    if kind == "sum":
        column = _column(words, only)
        found = sum((Fraction(rows[i][column]) for i in kept), Fraction(0))
    if words and words.pop(0) == "diff":
        other = _target(words, only, rows, kept)
        assert isinstance(other, Fraction)
        return found - other
    return found


def _column(words: list[str], only: str) -> str:
    """Take the name of a column from the front of the words, if there is one."""
    return words.pop(0) if words and len(words[0]) == 1 and words[0].isupper() else only
