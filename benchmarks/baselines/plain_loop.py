"""Baseline: one replica in the training loop that one would write in torch, with clip and noise."""

import time
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from .deep_mlp import CLIP, ETA, GAMMA, LR, SIZES, synchronise, synthetic_digits


def build() -> nn.Sequential:
    """Return the deep MLP at He's initialisation (every matrix, fan-in; biases 0)."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(SIZES):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, *, batch: int, noise: bool, t0: int, steps: int) -> None:
    """Do steps t0 .. t0 + steps - 1 of SGD on reshuffled minibatches, from torch's global generator.

    Args:
        model: The network, changed in place.
        x: Images [n, 784] uint8.
        y: Labels [n] int64.
        batch: B, at most n.
        noise: Add N(0, eta / (1 + t)^gamma) to the clipped gradient.
        t0: First step.
        steps: Number of steps.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    loss_fn = nn.CrossEntropyLoss()
    batches: list[torch.Tensor] = []
    for t in range(t0, t0 + steps):
        if not batches:
            batches = list(torch.randperm(len(x)).to(x.device).split(batch))
        rows = batches.pop()
        optimizer.zero_grad()
        loss_fn(model(x[rows].float() / 255), y[rows]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        if noise:
            sigma = (ETA / (1 + t) ** GAMMA) ** 0.5
            for p in model.parameters():
                p.grad.add_(torch.randn_like(p.grad), alpha=sigma)
        optimizer.step()


def steps_per_second(
    *,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    batch: int = 100,
    noise: bool = True,
    steps: int = 300,
    threads: int = 1,
    warmup: int = 30,
    device: str = "cpu",
) -> float:
    """Return steps per second of one replica, after warm-up.

    Args:
        images: [n, 784] uint8; synthetic ones where images and labels are left out.
        labels: [n] integers in 0..9.
        batch: B.
        noise: With or without gradient noise.
        steps: Steps that are timed.
        threads: Math threads of torch, set for the whole process.
        warmup: Steps before the clock starts.
        device: Where to train; the images lie there, too.

    Returns:
        Steps per second. P replicas one after another make as many replica-steps per second.
    """
    if images is None or labels is None:
        images, labels = synthetic_digits()
    torch.set_num_threads(threads)
    x, y = torch.as_tensor(images).to(device), torch.as_tensor(labels).long().to(device)
    model = build().to(device)
    train(model, x, y, batch=batch, noise=noise, t0=0, steps=warmup)
    synchronise(device)
    start = time.perf_counter()
    train(model, x, y, batch=batch, noise=noise, t0=warmup, steps=steps)
    synchronise(device)
    return steps / (time.perf_counter() - start)
