"""Templates as tensors: what the network reads, and what decides the answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradnoise.paper.neural_programmer.problems.grammar import CATEGORIES, NUMBER, Template, templates
from gradnoise.paper.neural_programmer.problems.tasks import CELL_WORDS, PADDING, Task

#: Codes of conditions, connectives and targets; 0 is none.
GREATER, LESSER, WORD = 1, 2, 3
AND, OR = 1, 2
SUM, COUNT, PRINT, SUM_COUNT, COUNT_SUM = range(5)
KINDS = {"greater": GREATER, "lesser": LESSER, "word": WORD}
CONNECTIVES = {None: 0, "and": AND, "or": OR}
TARGETS = {
    ("sum",): SUM,
    ("count",): COUNT,
    ("print",): PRINT,
    ("sum", "count"): SUM_COUNT,
    ("count", "sum"): COUNT_SUM,
}


class Questions(NamedTuple):
    """K questions as the network reads them, without their numbers.

    Args:
        tokens: int64 [K, Q], padded.
        length: int64 [K], real tokens.
        left: int64 [K, 2], place of the token to the left of each number; 0 where there is none.
        given: int64 [K], how many numbers the question has.
        present: bool [K, L], which columns the table has.
    """

    tokens: Tensor
    length: Tensor
    left: Tensor
    given: Tensor
    present: Tensor


class Programs(NamedTuple):
    """What T templates ask for, as arrays.

    Args:
        kinds, columns, words: int [T, 2], of both conditions.
        connective: int [T].
        target, target_column: int [T].
    """

    kinds: np.ndarray
    columns: np.ndarray
    words: np.ndarray
    connective: np.ndarray
    target: np.ndarray
    target_column: np.ndarray


@lru_cache(maxsize=8)
def all_templates(task: Task, word_word: bool = True) -> tuple[Template, ...]:
    """Return the templates of a task; without lettered questions they name its only column in thought."""
    return templates(task.text, task.numeric, task.lettered, word_word)


def read(task: Task, questions: Sequence[Sequence[str]], present: Tensor | None = None) -> Questions:
    """Return questions as the network reads them.

    Args:
        task: whose vocabulary.
        questions: tokens, # for each number.
        present: which columns tables have, bool [K, L]; None for all.
    """
    k = len(questions)
    tokens = torch.full((k, task.longest), task.token[PADDING])
    length, count = torch.zeros(2, k, dtype=torch.int64)
    left = torch.zeros(k, 2, dtype=torch.int64)
    for i, question in enumerate(questions):
        at = 0
        for word in question:
            if word == NUMBER:
                left[i, count[i]] = at - 1
                count[i] += 1
            else:
                tokens[i, at] = task.token[word]
                at += 1
        length[i] = at
    if present is None:
        present = torch.ones(k, len(task.columns), dtype=torch.bool)
    return Questions(tokens, length, left, count, present)


@lru_cache(maxsize=8)
def programs(task: Task, word_word: bool = True) -> Programs:
    """Return what every template of a task asks for."""
    known = all_templates(task, word_word)
    kinds, columns, words = np.zeros((3, len(known), 2), dtype=np.int64)
    for t, template in enumerate(known):
        for i, condition in enumerate(template.conditions):
            kinds[t, i] = KINDS[condition.kind]
            columns[t, i] = _column(task, condition.column)
            words[t, i] = CELL_WORDS.index(condition.word) if condition.word else 0
    return Programs(
        kinds,
        columns,
        words,
        np.array([CONNECTIVES[t.connective] for t in known]),
        np.array([TARGETS[tuple(x.kind for x in t.targets)] for t in known]),
        np.array([_column(task, next((x.column for x in t.targets if x.kind != "count"), None)) for t in known]),
    )


@lru_cache(maxsize=8)
def all_questions(task: Task, word_word: bool = True) -> Questions:
    """Return every template of a task as the network reads it, about tables with all columns."""
    return read(task, [t.tokens for t in all_templates(task, word_word)])


def _column(task: Task, letter: str | None) -> int:
    return 0 if letter is None else task.columns.index(letter)


def categories(task: Task, word_word: bool = True) -> Tensor:
    """Return the category of every template, int64 [T], see `CATEGORIES`."""
    return torch.tensor([CATEGORIES.index(t.category) for t in all_templates(task, word_word)])
