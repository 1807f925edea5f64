"""Questions and tables of a user's own: read, and refused where a network could only answer nonsense."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from gradnoise.errors import PopulationError, nearest
from gradnoise.paper.neural_programmer.problems.grammar import COMPARISONS, NUMBER
from gradnoise.paper.neural_programmer.problems.tasks import CELL_WORDS, PADDING, Task

MOST_NUMBERS = 2
#: Letter -> cells.
Table = Mapping[str, tuple[Fraction | str, ...]]


@dataclass(frozen=True)
class Asked:
    """A question.

    Args:
        tokens: its words, # for each number.
        numbers: in their order.
    """

    tokens: tuple[str, ...]
    numbers: tuple[Fraction, ...]


def _of(example: int | None) -> str:
    return "" if example is None else f"example {example}, "


def number_of(text: str) -> Fraction | None:
    """Return the finite number that a text is; None where it is none.

    Raises:
        PopulationError: it is infinite or nan.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not value.is_finite():
        raise PopulationError(f"{text!r} is no finite number")
    return Fraction(value)


def question_of(task: Task, text: str, example: int | None = None) -> Asked:
    """Read a question such as "greater 50.32 C sum E".

    Args:
        task: whose words.
        text: words and numbers with spaces between them.
        example: which of several examples it is, for messages.

    Raises:
        PopulationError: a word is unknown, a number has no word before it, or there are too many or none of either.
    """
    where = f"{_of(example)}question {text!r}"
    tokens: list[str] = []
    numbers: list[Fraction] = []
    known = [word for word in task.vocabulary if word != PADDING]
    for word in text.split():
        number = number_of(word)
        if number is not None:
            numbers.append(number)
        elif word not in known:
            raise PopulationError(f"{where}: unknown word {word!r}; there are {', '.join(known)}{nearest(word, known)}")
        tokens.append(word if number is None else NUMBER)
    if not tokens:
        raise PopulationError(f"{_of(example)}the question is empty")
    if tokens[0] == NUMBER:
        raise PopulationError(f"{where}: it begins with a number; a comparison comes before it")
    if len(numbers) > MOST_NUMBERS:
        raise PopulationError(f"{where}: {len(numbers)} numbers; at most {MOST_NUMBERS} are allowed")
    if (length := len(tokens) - len(numbers)) > task.longest:
        raise PopulationError(f"{where}: {length} words; questions of this task have at most {task.longest}")
    return Asked(tuple(tokens), tuple(numbers))


def table_of(task: Task, columns: Sequence[tuple[str, Sequence[str]]], example: int | None = None) -> Table:
    """Read a table.

    Args:
        task: which columns there may be.
        columns: name and cells of each.
        example: which of several examples it is, for messages.

    Returns:
        The columns in the order of the task's letters.

    Raises:
        PopulationError: a name is unknown or comes twice, columns are missing, empty or of different lengths, or a cell
            is not what its column holds.
    """
    where = f"{_of(example)}table"
    found: dict[str, tuple[Fraction | str, ...]] = {}
    for name, cells in columns:
        if name not in task.columns:
            raise PopulationError(
                f"{where}: no column {name!r}; columns are {', '.join(task.columns)}{nearest(name, task.columns)}"
            )
        if name in found:
            raise PopulationError(f"{where}: two columns are called {name!r}")
        found[name] = tuple(_cell(task, name, x, f"{where}, column {name}, row {i + 1}") for i, x in enumerate(cells))
    if len(found) < task.fewest:
        raise PopulationError(f"{where}: {len(found)} column(s); tables of this task have at least {task.fewest}")
    if len({len(cells) for cells in found.values()}) > 1 or not all(found.values()):
        lengths = {name: len(cells) for name, cells in found.items()}
        raise PopulationError(f"{where}: rows per column are {lengths}; all columns need equally many, at least one")
    return {letter: found[letter] for letter in task.columns if letter in found}


def _cell(task: Task, name: str, cell: str, where: str) -> Fraction | str:
    if name in task.text:
        if cell not in CELL_WORDS:
            raise PopulationError(f"{where}: {cell!r} is none of {', '.join(CELL_WORDS)}{nearest(cell, CELL_WORDS)}")
        return cell
    number = number_of(cell)
    if number is None or not math.isfinite(number):
        raise PopulationError(f"{where}: {cell!r} is no number")
    return number


def check_columns(task: Task, asked: Asked, table: Table, example: int | None = None) -> None:
    """Refuse a question about columns that a table does not have.

    Raises:
        PopulationError: it names one, or compares numbers where there are none.
    """
    for word in asked.tokens:
        if word in task.columns and word not in table:
            raise PopulationError(f"{_of(example)}the question names column {word}; the table has {', '.join(table)}")
    if any(word in COMPARISONS for word in asked.tokens) and not any(letter in table for letter in task.numeric):
        raise PopulationError(f"{_of(example)}the question compares numbers; all columns of the table are text")
