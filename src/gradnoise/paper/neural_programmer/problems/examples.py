"""Generated examples: questions drawn from the grammar, random tables, answers.

Numbers have two decimals and are kept as integers, hundredths, so that comparisons and sums are exact wherever they
are computed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradnoise.paper.neural_programmer.problems.grammar import CATEGORIES
from gradnoise.paper.neural_programmer.problems.questions import (
    AND,
    COUNT,
    COUNT_SUM,
    GREATER,
    LESSER,
    OR,
    PRINT,
    SUM,
    SUM_COUNT,
    Programs,
    all_templates,
    programs,
)
from gradnoise.paper.neural_programmer.problems.tasks import CELL_WORDS, Task
from gradnoise.population import derive_seed

HUNDREDTHS = 100
#: Largest number, and fewest and most rows, in training and in tests.
TRAIN_RANGE, TRAIN_ROWS = 100, (30, 100)
TEST_RANGE, TEST_ROWS = 200, (120, 120)
#: Questions that are evaluated together.
CHUNK = 1300


class Examples(NamedTuple):
    """n examples as tensors; padding holds zeros.

    Args:
        template: int64 [n].
        present: bool [n, L], which columns there are.
        rows: int64 [n], M of each.
        cells: int16 [n, C, M], numbers in hundredths, column by column in the order of the letters.
        words: uint8 [n, K, M], text cells by their place in `CELL_WORDS`.
        numbers: int16 [n, 2], numbers in the question, hundredths.
        lookup: bool [n], whether cells are asked for and not a number.
        scalar: int32 [n], the number asked for, in hundredths.
        selected: bool [n, M], rows whose cells are asked for.
        column: int64 [n], the column whose cells are asked for.
    """

    template: Tensor
    present: Tensor
    rows: Tensor
    cells: Tensor
    words: Tensor
    numbers: Tensor
    lookup: Tensor
    scalar: Tensor
    selected: Tensor
    column: Tensor


@lru_cache(maxsize=3)
def training(task: Task, n: int, seed: int, word_word: bool = True, empty_pairs: bool = True) -> Examples:
    """Return n training examples.

    A category is drawn uniformly, then a pattern of it, then columns and words. The columns of a table are a random
    set, of random size where the task says so.

    Args:
        task: of what kind.
        n: how many.
        seed: of the data.
        word_word: see `templates`.
        empty_pairs: whether numbers are drawn whatever the table is, so that about half of the questions with two
            comparisons and "and" select no row. Otherwise those two are drawn anew until a row is selected.
    """
    rng = _generator(seed, f"{task.name} training")
    present = _columns(rng, task, n)
    template = _questions(rng, task, present, word_word)
    return _answered(rng, task, template, present, TRAIN_RANGE, TRAIN_ROWS, word_word, empty_pairs)


@lru_cache(maxsize=6)
def held_out(
    task: Task, part: str, tables: int, seed: int, word_word: bool = True, empty_pairs: bool = True
) -> tuple[Examples, ...]:
    """Return every template on R tables: all templates in their order on the first table each, then on the second, ...

    They come in chunks of about `CHUNK` questions, which hold all templates once or several times.

    Args:
        task: of what kind.
        part: "valid", "test" or "confirmation": they differ in the tables.
        tables: R.
        seed: of the data.
        word_word: see `templates`.
        empty_pairs: see `training`.
    """
    rng = _generator(seed, f"{task.name} {part}")
    once = np.arange(len(all_templates(task, word_word)))
    most = max(1, CHUNK // len(once))
    chunks = []
    for start in range(0, tables, most):
        template = np.tile(once, min(most, tables - start))
        present = np.ones((len(template), len(task.columns)), dtype=bool)
        chunks.append(_answered(rng, task, template, present, TEST_RANGE, TEST_ROWS, word_word, empty_pairs))
    return tuple(chunks)


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(derive_seed(seed, 0, f"neural programmer, {purpose}")))


# --- questions ----------------------------------------------------------------------------------------


def _columns(rng: np.random.Generator, task: Task, n: int) -> np.ndarray:
    """Draw which columns each table has, bool [n, L]."""
    most = len(task.columns)
    count = rng.integers(task.fewest, most + 1, size=n)
    place = np.argsort(np.argsort(rng.random((n, most)), axis=1), axis=1)
    return place < count[:, None]


def _questions(rng: np.random.Generator, task: Task, present: np.ndarray, word_word: bool) -> np.ndarray:
    """Draw a template for each table that names only columns that are there."""
    found = np.empty(len(present), dtype=np.int64)
    for i, (row, (first, second, third)) in enumerate(zip(present, rng.random((len(present), 3)), strict=True)):
        letters = "".join(c for c, there in zip(task.columns, row, strict=True) if there)
        patterns = _pools(task, word_word, letters)[int(first * len(CATEGORIES))]
        pool = patterns[int(second * len(patterns))]
        found[i] = pool[int(third * len(pool))]
    return found


@lru_cache(maxsize=64)
def _pools(task: Task, word_word: bool, letters: str) -> list[list[list[int]]]:
    """Return category -> pattern -> templates that name no other columns than these."""
    pools: list[dict[object, list[int]]] = [{} for _ in CATEGORIES]
    for i, template in enumerate(all_templates(task, word_word)):
        if template.columns <= set(letters):
            pools[CATEGORIES.index(template.category)].setdefault(template.pattern, []).append(i)
    return [list(pool.values()) for pool in pools]


# --- tables and answers -------------------------------------------------------------------------------


def _answered(
    rng: np.random.Generator,
    task: Task,
    template: np.ndarray,
    present: np.ndarray,
    largest: int,
    rows: tuple[int, int],
    word_word: bool,
    empty_pairs: bool,
) -> Examples:
    """Draw tables and numbers for questions, and answer them."""
    n, most, bound = len(template), rows[1], largest * HUNDREDTHS
    asked = Programs(*(x[template] for x in programs(task, word_word)))
    count = rng.integers(rows[0], most + 1, size=n)
    real = np.arange(most) < count[:, None]
    cells = rng.integers(-bound, bound + 1, size=(n, len(task.numeric), most)).astype(np.int16)
    cells *= present[:, len(task.text) :, None] & real[:, None]
    words = rng.integers(len(CELL_WORDS), size=(n, len(task.text), most)).astype(np.uint8) * real[:, None]
    comparisons = ((asked.kinds == GREATER) | (asked.kinds == LESSER)).sum(1)
    numbers = rng.integers(-bound, bound + 1, size=(n, 2)) * (np.arange(2) < comparisons[:, None])
    selected = chosen_rows(task, asked, cells, words, numbers) & real
    if not empty_pairs:
        while (empty := (asked.connective == AND) & (comparisons == 2) & ~selected.any(1)).any():
            numbers[empty] = rng.integers(-bound, bound + 1, size=(empty.sum(), 2))
            these = Programs(*(x[empty] for x in asked))
            selected[empty] = chosen_rows(task, these, cells[empty], words[empty], numbers[empty]) & real[empty]
    lookup = asked.target == PRINT
    arrays = (
        template,
        present,
        count,
        cells,
        words,
        numbers.astype(np.int16),
        lookup,
        scalars(task, asked, cells, selected).astype(np.int32),
        selected & lookup[:, None],
        asked.target_column,
    )
    return Examples(*map(torch.from_numpy, arrays))


def chosen_rows(task: Task, asked: Programs, cells: np.ndarray, words: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return which rows meet the conditions, bool [n, M]; comparisons are strict.

    Args:
        task: which columns there are.
        asked: what each question asks for.
        cells, words, numbers: see `Examples`.
    """
    text, both = len(task.text), []
    for i in range(2):
        kind = asked.kinds[:, i, None]
        column = np.maximum(asked.columns[:, i] - text, 0)
        x = np.take_along_axis(cells, column[:, None, None], 1)[:, 0]
        # the second number is that of the second comparison; a question about a word has none
        number = np.where((i == 1) & (asked.kinds[:, 0] != 0) & (asked.kinds[:, 0] <= LESSER), *numbers.T[::-1])
        met = np.where(kind == GREATER, x > number[:, None], x < number[:, None])
        if text:
            met = np.where(kind <= LESSER, met, words[:, 0] == asked.words[:, i, None])
        both.append(np.where(kind == 0, True, met))
    return np.where(asked.connective[:, None] == OR, both[0] | both[1], both[0] & both[1])


def scalars(task: Task, asked: Programs, cells: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Return the numbers asked for [n], in hundredths; 0 where cells are asked for."""
    column = np.maximum(asked.target_column - len(task.text), 0)
    x = np.take_along_axis(cells, column[:, None, None], 1)[:, 0].astype(np.int64)
    total, count = (x * selected).sum(1), HUNDREDTHS * selected.sum(1)
    answers = {SUM: total, COUNT: count, SUM_COUNT: total - count, COUNT_SUM: count - total}
    return np.select([asked.target == kind for kind in answers], list(answers.values()), 0)
