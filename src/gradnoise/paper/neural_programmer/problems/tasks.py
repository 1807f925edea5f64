"""The three tasks: which columns a table has, which words and operations there are, and how tests are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gradnoise.errors import PopulationError, nearest

WORDS = ("sum", "count", "print", "greater", "lesser", "and", "or", "diff")
#: What text cells hold, and what questions ask for.
CELL_WORDS = tuple(f"word:{i}" for i in range(10))
PADDING = "<pad>"
OPERATIONS = ("sum", "count", "difference", "greater", "lesser", "and", "or", "assign", "reset")
TEXT_MATCH = "text_match"


@dataclass(frozen=True)
class Task:
    """What is asked about which tables. Text columns come before numeric ones.

    Args:
        name, title: of the task.
        text, numeric: letters of the columns.
        lettered: whether questions name columns.
        fewest: columns of the smallest tables in training; tests have all.
        longest: Q, tokens of the longest question.
        tables: R, tables that each test question is asked about.
        encoder: of questions, see `NeuralProgrammer`.
    """

    name: str
    title: str
    text: str
    numeric: str
    lettered: bool
    fewest: int
    longest: int
    tables: int
    encoder: str

    @property
    def columns(self) -> str:
        """Letters of all columns, L of them."""
        return self.text + self.numeric

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """All tokens: the grammar's words, column names, what text cells hold, padding."""
        return (*WORDS, *self.columns, *(CELL_WORDS if self.text else ()), PADDING)

    @cached_property
    def token(self) -> dict[str, int]:
        """Token -> its place in the vocabulary."""
        return {word: i for i, word in enumerate(self.vocabulary)}

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations, O of them: nine, and text_match where there is text."""
        return (*OPERATIONS, TEXT_MATCH) if self.text else OPERATIONS


TASKS = {
    task.name: task
    for task in (
        Task("single", "one numeric column", "", "A", False, 1, 4, 50, "plain"),
        Task("five", "up to five numeric columns", "", "ABCDE", True, 1, 7, 5, "bidirectional"),
        Task("text", "a text and a numeric column", "A", "B", True, 2, 7, 5, "bidirectional"),
    )
}


def task_of(name: str, known: Sequence[str] = tuple(TASKS)) -> Task:
    """Return the task of a name.

    Raises:
        PopulationError: there is none of that name.
    """
    if name not in TASKS:
        raise PopulationError(f"no task {name!r}: there are {', '.join(known)}{nearest(name, known)}")
    return TASKS[name]
