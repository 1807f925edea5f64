"""The text format of bAbI: numbered lines, a story after another, questions between the statements."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from gradnoise.errors import DataError

Words = tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """A line that tells something."""

    id: int
    words: Words


@dataclass(frozen=True)
class Question:
    """A line that asks something.

    Attributes:
        id: line number within the story.
        words: the question in lower case, without the question mark.
        answer: one class, in lower case; several words are joined by commas ("apple,football").
        support: ids of the statements that the answer follows from.
    """

    id: int
    words: Words
    answer: str
    support: tuple[int, ...]


Story = tuple[Statement | Question, ...]


def parse(payload: bytes, where: str) -> list[Story]:
    """The stories of a file, every word in lower case.

    Args:
        payload: the file's bytes: ASCII, lines `<id> <statement>.` and `<id> <question>? TAB <answer> TAB <ids>`;
            ids count from 1 within a story. Carriage returns are dropped, with a warning.
        where: the file's name in errors.

    Raises:
        DataError: a line breaks the format; the text names file, line and what is expected. Labels are not judged.
    """
    if b"\r" in payload:
        warnings.warn(f"{where} has carriage returns; they are ignored", stacklevel=2)
        payload = payload.replace(b"\r", b"")
    if not payload.strip():
        raise DataError(f"{where} is empty: bAbI stories are expected.")
    stories: list[list[Statement | Question]] = []
    for number, raw in enumerate(payload.rstrip(b"\n").split(b"\n"), 1):
        try:
            line = _parse_line(_text(raw))
            if line.id == 1:
                stories.append([])
            elif not stories or line.id != stories[-1][-1].id + 1:
                expected = f"1 or {stories[-1][-1].id + 1}" if stories else "1"
                raise ValueError(f"line id {line.id}, where {expected} is expected (ids count up within a story)")
            if isinstance(line, Question):
                _check_question(line, stories[-1])
            stories[-1].append(line)
        except ValueError as error:
            raise DataError(f"{where}, line {number}: {error}.") from None
    return [tuple(story) for story in stories]


def _text(raw: bytes) -> str:
    if b"\0" in raw or not raw.isascii():
        raise ValueError("a byte that is not printable ASCII; bAbI files are plain ASCII text")
    return raw.decode("ascii")


def _parse_line(line: str) -> Statement | Question:
    number, _, text = line.partition(" ")
    if not number.isdecimal():
        raise ValueError(f"{line[:40]!r} does not start with an integer id and a space")
    if "\t" not in text:
        return Statement(int(number), _sentence(text, ".", "a statement"))
    fields = text.split("\t")
    if len(fields) != 3:
        raise ValueError(f"{len(fields)} fields between tabs; a question has 3: question, answer, supporting ids")
    question, answer, support = (f.strip() for f in fields)
    if not answer:
        raise ValueError("the answer is empty; it must be a word, or words joined by commas")
    if not all(part.isdecimal() for part in support.split()):
        raise ValueError(f"supporting ids {support!r} are not integers separated by spaces")
    return Question(int(number), _sentence(question, "?", "a question"), answer.lower(), _integers(support))


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split())


def _sentence(text: str, mark: str, what: str) -> Words:
    text = text.strip()
    if not text.endswith(mark) or not (words := tuple(text[:-1].lower().split())):
        raise ValueError(f"{text!r} is not {what}: words that end in {mark!r} are expected")
    return words


def _check_question(question: Question, story: list[Statement | Question]) -> None:
    told = {line.id for line in story if isinstance(line, Statement)}
    if not told:
        raise ValueError("a question before any statement of its story")
    if wrong := [i for i in question.support if i not in told]:
        raise ValueError(f"supporting id {wrong[0]} is no earlier statement; those of the story are {sorted(told)}")
