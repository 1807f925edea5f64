"""Baseline: one LSTM language model with torch.nn.LSTM in the loop that one would write, with clip and noise."""

import time
from functools import lru_cache

import torch
from torch import Tensor, nn

from gradnoise.data.ptb import Corpus
from gradnoise.paper.lstm_lm import LanguageModelExperiment

from .deep_mlp import synchronise

UNITS, LAYERS, UNROLL, BATCH, WORDS, DROPOUT = 200, 2, 20, 20, 10_000, 0.25
LR, CLIP, ETA, GAMMA = 1.0, 5.0, 0.01, 0.55


@lru_cache(maxsize=1)
def experiment() -> LanguageModelExperiment:
    """Return the experiment of section 4.6 on random words, as many as the Penn Treebank has."""
    words = torch.randint(WORDS, (200_000,), generator=torch.Generator().manual_seed(0))
    names = tuple(map(str, range(WORDS)))
    return LanguageModelExperiment(Corpus("random", "random words", names, words, words[:999], words[:999], "random"))


class PlainLanguageModel(nn.Module):
    """Embedding, torch.nn.LSTM with its own dropout between the layers, softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, UNITS)
        self.drop = nn.Dropout(DROPOUT)
        self.lstm = nn.LSTM(UNITS, UNITS, LAYERS, dropout=DROPOUT)
        self.softmax = nn.Linear(UNITS, WORDS)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, tokens: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return logits [T, B, V] and the state after the window."""
        x, state = self.lstm(self.drop(self.embedding(tokens)), state)
        return self.softmax(self.drop(x)), state


def steps_per_second(steps: int, warmup: int = 3, device: str = "cpu") -> float:
    """Return updates per second of one replica; P one after another make as many replica-steps per second."""
    lm, model = experiment(), PlainLanguageModel().to(device)
    config = lm.Config(units=UNITS, unroll=UNROLL, batch_size=BATCH)
    zeros = torch.zeros(LAYERS, BATCH, UNITS, device=device)
    state, start = (zeros, zeros), 0.0
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for t in range(warmup + steps):
        if t == warmup:
            synchronise(device)
            start = time.perf_counter()
        tokens, targets = (x.to(device) for x in lm.batch(0, t, config))
        optimizer.zero_grad()
        logits, state = model(tokens, state)
        state = (state[0].detach(), state[1].detach())
        (UNROLL * nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        sigma = (ETA / (1 + t) ** GAMMA) ** 0.5
        for p in model.parameters():
            p.grad.add_(torch.randn_like(p.grad), alpha=sigma)
        optimizer.step()
    synchronise(device)
    return steps / (time.perf_counter() - start)


def products(size: int, device: str) -> list[tuple[Tensor, Tensor, int]]:
    """Return the factors of an update's matrix products for P replicas, and how often each product is made.

    Forward, to the inputs and to the weights: the softmax over all T * B positions, the input products of both layers
    likewise, and the recurrent ones a time step at a time (that to the weights over all steps at once).
    """

    def random(*shape: int) -> Tensor:
        return torch.randn(size, *shape, device=device)

    n, h = UNROLL * BATCH, UNITS
    hoisted = [(n, h, WORDS, 1), (n, h, 4 * h, LAYERS)]
    found = []
    for rows, inner, outer, times in hoisted:
        x, w, d = random(rows, inner), random(outer, inner), random(rows, outer)
        found += [(x, w.mT, times), (d, w, times), (d.mT, x, times)]
    w, x, d = random(4 * h, h), random(BATCH, h), random(BATCH, 4 * h)
    found += [(x, w.mT, UNROLL * LAYERS), (d, w, UNROLL * LAYERS), (random(n, 4 * h).mT, random(n, h), LAYERS)]
    return found
