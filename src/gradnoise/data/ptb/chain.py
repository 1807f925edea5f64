"""A Markov chain that writes sentences: a text whose entropy is known exactly, so that no model can beat it unseen.

Every sentence has a topic, its first word. The words after it follow a chain of that topic's own, up to the end of the
sentence. To predict well a model must keep the topic in mind. As the topic is written in the sentence itself, the words
so far determine the state of the chain, and its entropy rate is that of its transitions.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache

import numpy as np

TOPICS = ("rain", "fire", "stone")
CONSONANTS, SYLLABLES = "bdgklmnprs", ("alo", "eni", "ira", "ose", "utu", "ami")
WORDS = tuple(consonant + rest for consonant in CONSONANTS for rest in SYLLABLES)
#: Probability that a sentence ends after a word.
END = 0.1
#: Probabilities of a word's successors where the sentence goes on.
SUCCESSORS = (0.55, 0.25, 0.15, 0.05)


@dataclass(frozen=True, eq=False)
class Chain:
    """A chain over S states, each of which writes a word when it is entered.

    State 0 is the end of a sentence. The next ones are the topics, then each topic's own state for every word.

    Args:
        words: word of each state; None for the end of a sentence.
        transitions: float64 [S, S], row s is the distribution of the state after s.
    """

    words: tuple[str | None, ...]
    transitions: np.ndarray

    def stationary(self) -> np.ndarray:
        """Return the share of time in each state, float64 [S]: the solution of p T = p that sums to 1."""
        size = len(self.words)
        equations = np.vstack([self.transitions.T - np.eye(size), np.ones(size)])
        return np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0), rcond=None)[0]

    def entropy_rate(self) -> float:
        """Return the nats per word that nobody can predict: sum over s of p_s H(row s)."""
        logs = np.log(self.transitions, where=self.transitions > 0, out=np.zeros_like(self.transitions))
        return float(-(self.stationary() @ (self.transitions * logs).sum(1)))

    def write(self, tokens: int, seed: str) -> bytes:
        """Write whole sentences, one a line, until there are at least so many tokens; equal seeds give equal bytes."""
        rng = random.Random(seed)
        cumulative, lines, line, written, state = np.cumsum(self.transitions, axis=1), [], [], 0, 0
        while written < tokens or line:
            state = min(int(np.searchsorted(cumulative[state], rng.random(), side="right")), len(self.words) - 1)
            written += 1
            word = self.words[state]
            if word is not None:
                line.append(word)
                continue
            lines.append(f" {' '.join(line)} \n")
            line = []
        return "".join(lines).encode("ascii")

    def losses(self, words: list[str | None]) -> np.ndarray:
        """Return -log P(word | all words before it) of a text that begins with a sentence: float64 [n].

        Args:
            words: None for the end of a sentence.
        """
        follows = [{self.words[j]: j for j in np.flatnonzero(row)} for row in self.transitions]
        state, found = 0, []
        for word in words:
            after = follows[state].get(word)
            found.append(math.inf if after is None else -math.log(self.transitions[state, after]))
            state = state if after is None else after
        return np.array(found)


@cache
def topics_chain(seed: int = 0) -> Chain:
    """Return the chain of the generated corpus: 3 topics, 60 words, sentences of 11 words on average."""
    rng = random.Random(f"sentences/{seed}")
    topics, size = len(TOPICS), len(WORDS)
    table = np.zeros((1 + topics + topics * size,) * 2)
    table[0, 1 : 1 + topics] = 1 / topics
    for topic in range(topics):
        first = 1 + topics + topic * size
        for state in (1 + topic, *range(first, first + size)):
            table[state, 0] = END if state >= first else 0.0
            for place, share in zip(rng.sample(range(size), len(SUCCESSORS)), SUCCESSORS, strict=True):
                table[state, first + place] = share * (1 - table[state, 0])
    return Chain((None, *TOPICS, *WORDS * topics), table)
