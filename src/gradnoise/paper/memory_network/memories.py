"""Questions and their memories as flat lists of words, which take no room for empty slots and short sentences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradnoise.data.babi import NIL, Encoded, Questions
from gradnoise.paper.memory_network.encoding import position_weights, time_weights

Ids = NDArray[np.int64]


class Batch(NamedTuple):
    """B questions. The words of all their memories are one list of W words, a time word behind each sentence.

    V' counts the words with an embedding: V - 1 words (nil has none: it stays zero) and S time words.

    Attributes:
        word: [W] word id - 1 plus V' times the question it belongs to.
        slot: [W] memory slot plus S times the question.
        weight: [2, W] alpha and h of the word's position, see `encoding`; 0 for padding behind the list.
        question: [2, B, V'] the words of the questions, weighted likewise.
        answer: [B] word id of the answer.
        linear: bool [], whether attention leaves out the softmax in this update.
    """

    word: Tensor
    slot: Tensor
    weight: Tensor
    question: Tensor
    answer: Tensor
    linear: Tensor


def padded_length(n: int) -> int:
    """The next of four lengths per octave: few enough that recorded programs are used again."""
    step = 1 << max((n - 1).bit_length() - 3, 6)
    return -(-n // step) * step


class Memories:
    """The questions of one part of a data set, with the words of their memories laid out for fast batches.

    Args:
        data: where they come from.
        questions: Q of them.
        encoding: form of the position encoding.
    """

    def __init__(self, data: Encoded, questions: Questions, encoding: str) -> None:
        self.slots = data.slots
        self.words = len(data.words) - 1 + self.slots
        self.questions = questions
        lengths = (data.sentences != NIL).sum(1)
        longest = data.sentences.shape[1]
        weights = position_weights(encoding, lengths, longest)
        self._first_time = len(data.words) - 1
        self._list_words(data.sentences, weights, time_weights(encoding, longest))
        self._count_questions(data.sentences, weights)

    def _list_words(self, sentences: Ids, weights: NDArray[np.float64], time: tuple[float, float]) -> None:
        """For each question the words of its sentences, oldest first, each with a time word, marked by -1."""
        words = np.concatenate([sentences - 1, np.full((len(sentences), 1), -1)], 1)
        ends = np.broadcast_to(np.array(time)[:, None, None], (2, len(sentences), 1))
        weights = np.concatenate([weights, ends], 2)
        present = np.concatenate([sentences != NIL, np.ones((len(sentences), 1), bool)], 1)
        lengths = present.sum(1)
        told = self.questions.story[self.questions.story != NIL]
        position = _ranges((np.cumsum(lengths) - lengths)[told], lengths[told])
        self._word, self._weight = words[present][position], weights[:, present][:, position].astype(np.float32)
        self._slot = np.repeat(_ranges(np.zeros_like(self.questions.n), self.questions.n), lengths[told])
        counts = np.concatenate([[0], np.cumsum(lengths[told])])
        self._start = counts[np.concatenate([[0], np.cumsum(self.questions.n)])]

    def _count_questions(self, sentences: Ids, weights: NDArray[np.float64]) -> None:
        """alpha- and h-weighted word counts of the distinct questions."""
        distinct, self._row = np.unique(self.questions.question, return_inverse=True)
        counts = np.zeros((2, len(distinct), self.words + 1), np.float32)
        at = np.arange(len(distinct))[:, None]
        for i in range(2):
            np.add.at(counts[i], (at, sentences[distinct]), weights[i, distinct])
        self._question = torch.from_numpy(counts[:, :, 1:].copy())  # without nil

    def batches(self, rows: Ids, size: int, times: Ids | None = None, *, pad: bool = True) -> list[Batch]:
        """Questions in batches of `size`, in the order of `rows`; the last one may be smaller.

        Args:
            rows: which questions.
            size: B.
            times: time of each filled slot of these questions, oldest first, in 1..S; None for n..1.
            pad: fill the lists of words up to `padded_length`.
        """
        lengths = self._start[rows + 1] - self._start[rows]
        ends = np.cumsum(lengths)
        position = _ranges(self._start[rows], lengths)
        within = np.repeat(np.arange(len(rows)) % size, lengths)
        word = self._word[position]
        word[word < 0] = self._first_time - 1 + (self.countdown(rows) if times is None else times)
        word += within * self.words
        slot = self._slot[position] + within * self.slots
        weight = self._weight[:, position]
        cuts = [0, *ends[size - 1 :: size].tolist(), int(ends[-1])]
        found = []
        for k, first in enumerate(range(0, len(rows), size)):
            a, b, some = cuts[k], cuts[k + 1], rows[first : first + size]
            long = padded_length(b - a) if pad else b - a
            found.append(
                Batch(
                    torch.from_numpy(_padded(word[a:b], long)),
                    torch.from_numpy(_padded(slot[a:b], long)),
                    torch.from_numpy(_padded(weight[:, a:b], long)),
                    self._question[:, self._row[some]],
                    torch.from_numpy(self.questions.answer[some]),
                    torch.tensor(False),
                )
            )
        return found

    def countdown(self, rows: Ids) -> Ids:
        """Times n, n - 1, ..., 1 of the statements before each question: 1 is the nearest."""
        n = self.questions.n[rows]
        return np.repeat(np.cumsum(n), n) - np.arange(n.sum())


def _ranges(start: Ids, length: Ids) -> Ids:
    """start[0], start[0] + 1, ..., start[0] + length[0] - 1, start[1], ..."""
    ends = np.cumsum(length)
    return np.arange(ends[-1]) + np.repeat(start - ends + length, length)


def _padded(x: NDArray, length: int) -> NDArray:
    out = np.zeros((*x.shape[:-1], length), x.dtype)
    out[..., : x.shape[-1]] = x
    return out


def noisy_times(rng: np.random.Generator, n: Ids, share: float, slots: int) -> Ids:
    """Times with random gaps, as if empty memories lay between the statements ("random noise", RN).

    For each question e is uniform in {0, ..., ceil(share n)}, and its n statements get a uniformly random subset
    of {1, ..., n + e} in descending order, no time above S (Sukhbaatar et al. 2015, section 4.1).

    Args:
        rng: where to draw from.
        n: [Q] statements of each question.
        share: largest share of empty memories, in [0, 1).
        slots: S.

    Returns:
        The times of all statements, question by question, oldest first.
    """
    most = np.ceil(share * n).astype(np.int64)
    e = np.minimum((rng.random(len(n)) * (most + 1)).astype(np.int64), most)
    width = int((n + most).max())
    keys = rng.random((len(n), width), dtype=np.float32)
    keys[np.arange(width) >= (n + e)[:, None]] = -1
    for k in range(int(e.max(initial=0))):
        rows = np.nonzero(e > k)[0]
        keys[rows, keys[rows].argmax(1)] = -1  # the e largest keys are left out
    return np.minimum(width - np.nonzero(keys[:, ::-1] >= 0)[1], slots)
