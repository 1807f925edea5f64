"""Baseline: one memory network in the training loop that one would write in torch, with clip and noise."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn

import gradnoise
from gradnoise.data.babi import Encoded

from .deep_mlp import synchronise

BATCH, DIM, HOPS, CLIP, LR, ETA, TIME_NOISE = 32, 20, 3, 40.0, 0.01, 0.01, 0.1


class PlainMemoryNetwork(nn.Module):
    """Adjacent tying: tables E_0..E_K over words (0 is nil), with a time word behind every sentence.

    Args:
        data: stories of one task.
    """

    weights: Tensor

    def __init__(self, data: Encoded) -> None:
        super().__init__()
        self.words, self.slots = len(data.words), data.slots
        rows = self.words + self.slots
        self.tables = nn.ParameterList([0.1 * torch.randn(rows, DIM) for _ in range(HOPS + 1)])
        for table in self.tables:
            table.data[0] = 0
        length = data.sentences.shape[1] + 1  # J
        j, k = torch.arange(1, length + 1.0)[:, None], torch.arange(1, DIM + 1.0)
        weights = 1 + 4 * (k - (DIM + 1) / 2) * (j - (length + 1) / 2) / (DIM * length)
        self.register_buffer("weights", weights)

    def forward(self, story: Tensor, question: Tensor) -> Tensor:
        """Return logits [B, V'] from word ids of memories [B, S, J] (0: nothing) and questions [B, J - 1]."""
        u = (self.tables[0][question] * self.weights[:-1]).sum(1)
        for source, target in zip(self.tables, list(self.tables)[1:], strict=False):
            m = (source[story] * self.weights).sum(2)
            c = (target[story] * self.weights).sum(2)
            p = (m @ u[:, :, None])[:, :, 0].softmax(1)
            u = u + (p[:, None] @ c)[:, 0]
        return u @ self.tables[-1].T


def minibatch(data: Encoded, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return word ids of memories with their time words, of questions, and the answers; times with random gaps."""
    part = data.train
    rows = rng.integers(len(part), size=BATCH)
    n, story = part.n[rows], part.story[rows]
    times = np.zeros_like(story)
    for b, count in enumerate(n):
        gaps = rng.integers(int(np.ceil(TIME_NOISE * count)) + 1)
        drawn = np.sort(rng.permutation(count + gaps)[:count])[::-1]
        times[b, :count] = len(data.words) + np.minimum(drawn, data.slots - 1)
    words = np.concatenate([data.sentences[story], times[:, :, None]], 2)
    question = data.sentences[part.question[rows]]
    return torch.from_numpy(words), torch.from_numpy(question), torch.from_numpy(part.answer[rows])


def steps_per_second(data: Encoded, *, steps: int = 60, warmup: int = 10, device: str = "cpu") -> float:
    """Return steps per second of one replica; P of them one after another make as many replica-steps per second.

    Args:
        data: stories of one task.
        steps: steps that are timed.
        warmup: steps before the clock starts.
        device: where to train.
    """
    model, rng = PlainMemoryNetwork(data).to(device), np.random.default_rng(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    gradnoise.attach(optimizer, gradnoise.Annealed(ETA), seed=0, named_parameters=model.named_parameters())
    start = 0.0
    for t in range(warmup + steps):
        if t == warmup:
            synchronise(device)
            start = time.perf_counter()
        story, question, answer = (x.to(device) for x in minibatch(data, rng))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(story, question), answer, reduction="sum").backward()
        for table in model.tables:
            nn.utils.clip_grad_norm_([table], CLIP)
        optimizer.step()
        with torch.no_grad():
            for table in model.tables:
                table[0] = 0
    synchronise(device)
    return steps / (time.perf_counter() - start)
