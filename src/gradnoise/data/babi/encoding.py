"""Stories as arrays of word ids: a dictionary, distinct sentences, and questions with the memories before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradnoise.errors import DataError

from .parser import Question, Statement, Story, Words
from .stories import BabiData

Ids = NDArray[np.int64]
MEMORIES = 50
NIL = 0
#: Of one task, the last training questions in file order are for validation; of all tasks together, random ones.
VALIDATION_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Questions:
    """Q questions, each with the statements that come before it in its story.

    Attributes:
        story: [Q, S] sentence ids of those statements, slot 0 the oldest kept; NIL where there is none.
        n: [Q] statements kept.
        question: [Q] sentence id of the question.
        answer: [Q] word id of the answer.
        task: [Q] number of the task.
    """

    story: Ids
    n: Ids
    question: Ids
    answer: Ids
    task: Ids

    def __len__(self) -> int:
        return len(self.answer)

    def __getitem__(self, rows: slice | Ids) -> Questions:
        """Some of the questions."""
        return Questions(*(x[rows] for x in (self.story, self.n, self.question, self.answer, self.task)))


@dataclass(frozen=True, eq=False)
class Encoded:
    """One task, or all tasks together, ready for a memory network.

    Attributes:
        words: the dictionary, V words; word NIL is nil.
        sentences: [U, L] word ids of the distinct sentences, NIL behind their ends; sentence NIL is empty.
        train, validation, test: the questions.
    """

    words: tuple[str, ...]
    sentences: Ids
    train: Questions
    validation: Questions
    test: Questions

    @property
    def slots(self) -> int:
        """S: memory slots, the longest story before a training question but at most MEMORIES."""
        return self.train.story.shape[1]

    @property
    def unseen_answers(self) -> tuple[str, ...]:
        """Answers of the validation or test part that no training question has; they can hardly be given."""
        held_out = np.concatenate([self.validation.answer, self.test.answer])
        return tuple(self.words[i] for i in np.setdiff1d(held_out, self.train.answer))


def encode(data: BabiData, tasks: Sequence[int], *, split_seed: int = 0) -> Encoded:
    """Encode one task, or several with one dictionary.

    Words get ids in the order in which they appear in the training files, then in the test files. A question's
    memories are all statements of its story before it, the last S of them; earlier questions take no slot. A
    single task is split in file order, several together are shuffled first.

    Args:
        data: the stories.
        tasks: their numbers.
        split_seed: decides the shuffle.

    Raises:
        DataError: a task is not there, or has too few questions to validate.
    """
    for task in tasks:
        if task not in data.tasks:
            raise DataError(f"There is no task {task} in {data.title}; there are {sorted(data.tasks)}.")
    chosen = [data.tasks[t] for t in tasks]
    words: dict[str, int] = {"nil": NIL}
    for line in _lines([*(t.train for t in chosen), *(t.test for t in chosen)]):
        for word in (*line.words, *((line.answer,) if isinstance(line, Question) else ())):
            words.setdefault(word, len(words))
    sentences: dict[Words, int] = {(): NIL}
    slots = min(MEMORIES, max(_longest(t.train) for t in chosen))
    known, test = (
        _join([_questions(getattr(data.tasks[t], part), t, words, sentences, slots) for t in tasks])
        for part in ("train", "test")
    )
    order = np.arange(len(known))
    if len(tasks) > 1:
        order = np.random.Generator(np.random.PCG64(split_seed)).permutation(len(known))
    cut = len(known) - round(VALIDATION_SHARE * len(known))
    if not 0 < cut < len(known):
        raise DataError(f"{len(known)} training questions are too few to set {VALIDATION_SHARE:.0%} aside.")
    longest = max(map(len, sentences))
    table = np.array([[words[w] for w in s] + [NIL] * (longest - len(s)) for s in sentences])
    return Encoded(tuple(words), table, known[order[:cut]], known[order[cut:]], test)


def _lines(files: Iterable[list[Story]]) -> Iterable[Statement | Question]:
    return (line for stories in files for story in stories for line in story)


def _longest(stories: list[Story]) -> int:
    """The most statements before a question."""
    return max(sum(isinstance(x, Statement) for x in story[: _last_question(story)]) for story in stories)


def _last_question(story: Story) -> int:
    return max((i for i, line in enumerate(story) if isinstance(line, Question)), default=0)


def _questions(
    stories: list[Story], task: int, words: dict[str, int], sentences: dict[Words, int], slots: int
) -> Questions:
    rows: list[list[int]] = []
    for story in stories:
        told: list[int] = []
        for line in story:
            sentence = sentences.setdefault(line.words, len(sentences))
            if isinstance(line, Statement):
                told.append(sentence)
            else:
                kept = told[-slots:]
                rows.append([*kept, *[NIL] * (slots - len(kept)), len(kept), sentence, words[line.answer]])
    table = np.array(rows)
    n, question, answer = table[:, slots:].T
    return Questions(table[:, :slots], n, question, answer, np.full(len(table), task))


def _join(parts: Sequence[Questions]) -> Questions:
    fields = ("story", "n", "question", "answer", "task")
    return Questions(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))
