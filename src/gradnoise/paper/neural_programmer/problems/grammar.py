"""The grammar of the questions: every template of a task, in which # stands for a number (Neelakantan et al. 2016)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gradnoise.paper.neural_programmer.problems.tasks import CELL_WORDS

CATEGORIES = ("simple", "comparison", "logic", "difference")
COMPARISONS = ("greater", "lesser")
NUMBER = "#"


@dataclass(frozen=True)
class Condition:
    """What rows are wanted.

    Args:
        kind: "greater", "lesser", or "word".
        column: letter; None where questions name no columns.
        word: what a text cell must hold, for "word".
    """

    kind: str
    column: str | None
    word: str | None = None

    @property
    def tokens(self) -> tuple[str, ...]:
        """The words of the condition."""
        head = (self.word or self.kind,) if self.word else (self.kind, NUMBER)
        return head if self.column is None else (*head, self.column)


@dataclass(frozen=True)
class Target:
    """What is done with the rows: "sum" or "print" of a column, or "count"."""

    kind: str
    column: str | None = None

    @property
    def tokens(self) -> tuple[str, ...]:
        """The words of the target."""
        return (self.kind,) if self.column is None else (self.kind, self.column)


@dataclass(frozen=True)
class Template:
    """A question without its numbers.

    Args:
        category: one of `CATEGORIES`.
        conditions: none, one or two.
        connective: "and" or "or" between two conditions.
        targets: one; or two, whose difference is asked for.
    """

    category: str
    targets: tuple[Target, ...]
    conditions: tuple[Condition, ...] = ()
    connective: str | None = None

    @property
    def tokens(self) -> tuple[str, ...]:
        """The question, # for each number."""
        found: list[str] = []
        for i, condition in enumerate(self.conditions):
            found += [self.connective or "", *condition.tokens] if i else condition.tokens
        for i, target in enumerate(self.targets):
            found += ["diff", *target.tokens] if i else target.tokens
        return tuple(found)

    @property
    def pattern(self) -> tuple[object, ...]:
        """What is left where columns and words are left open."""
        return tuple(c.kind for c in self.conditions), self.connective, tuple(t.kind for t in self.targets)

    @property
    def columns(self) -> frozenset[str]:
        """Letters that the question names."""
        return frozenset(c for x in (*self.conditions, *self.targets) if (c := x.column) is not None)


@lru_cache(maxsize=16)
def templates(text: str, numeric: str, lettered: bool = True, word_word: bool = True) -> tuple[Template, ...]:
    """Return all templates, in a fixed order.

    With C numeric columns there are (2C+1) + 2C(2C+1) + 4C^2(2C+1) + 2C: 23, 109, 307, 1231 for C = 1, 2, 3, 5.

    Args:
        text, numeric: letters of the columns.
        lettered: whether questions name columns; without letters there is one numeric column.
        word_word: whether both conditions of a question may be about words.
    """
    letters: Sequence[str | None] = list(numeric) if lettered else [None]
    printed: Sequence[str | None] = [*text, *numeric] if lettered else [None]
    targets = [*(Target("sum", c) for c in letters), Target("count"), *(Target("print", c) for c in printed)]
    single = [Condition(kind, c) for kind in COMPARISONS for c in letters]
    single += [Condition("word", c, word) for c in text for word in CELL_WORDS]
    sums = [Target("sum", c) for c in letters]
    return (
        *(Template("simple", (x,)) for x in targets),
        *(Template("comparison", (x,), (c,)) for c in single for x in targets),
        *(
            Template("logic", (x,), pair, connective)
            for pair in _pairs(single, word_word)
            for connective in ("and", "or")
            for x in targets
        ),
        *(Template("difference", (x, Target("count"))) for x in sums),
        *(Template("difference", (Target("count"), x)) for x in sums),
    )


def _pairs(conditions: Sequence[Condition], word_word: bool) -> Iterator[tuple[Condition, Condition]]:
    """Yield ordered pairs; two comparisons are of different kinds."""
    for one, other in itertools.product(conditions, repeat=2):
        both_words = one.kind == other.kind == "word"
        if (both_words and word_word) or one.kind != other.kind:
            yield one, other
