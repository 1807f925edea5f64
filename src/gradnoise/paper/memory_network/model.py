"""The end-to-end memory network (Sukhbaatar et al. 2015, arXiv 1503.08895): K hops of attention over sentences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradnoise.paper.memory_network.encoding import dimension_weights
from gradnoise.paper.memory_network.memories import Batch

TYINGS = ("adjacent", "layer-wise")
INIT_SD = 0.1


class MemoryNetwork(nn.Module):
    """Batch -> logits over all words.

    With m_i and c_i the input and output memory of slot i, p = softmax(u . m) over all S slots and
    u <- u + sum_i p_i c_i, K times. Empty slots have zero memories: score 0, no output, but their share of p.

    Embedding tables have V' rows: V - 1 words and S times. Word 0, nil, has no row: its embedding stays zero
    whatever is learned or added as noise.

    Args:
        words: V', rows of a table.
        slots: S.
        dim: D.
        hops: K.
        tying: "adjacent": tables E_0..E_K, hop k reads by E_{k-1} and answers by E_k, questions use E_0 and logits
            E_K; "layer-wise": all hops share two tables, u <- H u + o, and questions and logits have their own.
        encoding: form of the position encoding, see `encoding`.

    Attributes:
        linear: bool [], whether attention leaves out the softmax (the first stage of a linear start);
            set by every minibatch, so that an evaluation sees the stage of the update before it.
    """

    linear: Tensor
    g: Tensor

    def __init__(
        self,
        words: int,
        slots: int,
        dim: int = 20,
        hops: int = 3,
        tying: str = "adjacent",
        encoding: str = "code",
    ) -> None:
        super().__init__()
        for name, value in (("words", words), ("slots", slots), ("dim", dim), ("hops", hops)):
            if value < 1:
                raise ValueError(f"{name} = {value}: a memory network needs at least 1")
        if tying not in TYINGS:
            raise ValueError(f"tying = {tying!r}: allowed are {', '.join(map(repr, TYINGS))}")
        self.slots, self.hops = slots, hops
        tables = hops + 1 if tying == "adjacent" else 4
        self.tables = nn.ParameterList([INIT_SD * torch.randn(words, dim) for _ in range(tables)])
        self.H = None if tying == "adjacent" else nn.Parameter(INIT_SD * torch.randn(dim, dim))
        self.register_buffer("g", dimension_weights(encoding, dim).float())
        self.register_buffer("linear", torch.tensor(False))

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, V]; that of nil is 0."""
        u, _ = self.read(batch)
        return self.answer(u)

    def answer(self, u: Tensor) -> Tensor:
        """Logits [B, V] from the state u [B, D]."""
        return nn.functional.pad(u @ self.tables[-1].T, (1, 0))

    def read(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The state u [B, D] after the last hop, and the attention p [B, S] of each hop."""
        u = self._embed(batch.question, self.tables[0] if self.H is None else self.tables[2])
        attention = []
        for k in range(self.hops):
            source, target = (self.tables[k], self.tables[k + 1]) if self.H is None else self.tables[:2]
            p = self._attend(u, source, batch)
            u = (u if self.H is None else u @ self.H.T) + self._respond(p, target, batch)
            attention.append(p)
        return u, attention

    def _embed(self, weights: Tensor, table: Tensor) -> Tensor:
        """Sentences [B, D] from alpha- and h-weighted word counts [2, B, V']."""
        plain, by_position = (weights.flatten(0, 1) @ table).unflatten(0, (2, -1))
        return plain + self.g * by_position

    def _attend(self, u: Tensor, table: Tensor, batch: Batch) -> Tensor:
        """p [B, S]: the score of a slot is the sum of u . (l_j * E[x_j]) over its words."""
        scores = (torch.cat([u, self.g * u]) @ table.T).view(2, -1)  # of every word for every question
        scores = (scores.gather(1, batch.word.expand(2, -1)) * batch.weight).sum(0)
        empty = scores.new_zeros(len(u) * self.slots)
        s = empty.scatter_add(0, batch.slot, scores).view(-1, self.slots)
        return torch.where(self.linear, s, s.softmax(1))

    def _respond(self, p: Tensor, table: Tensor, batch: Batch) -> Tensor:
        """o [B, D] = sum_i p_i c_i, from how much each word is attended to."""
        attended = batch.weight * p.flatten().gather(0, batch.slot)
        counts = attended.new_zeros(2, len(p) * len(table)).scatter_add(1, batch.word.expand(2, -1), attended)
        return self._embed(counts.view(2, len(p), -1), table)
