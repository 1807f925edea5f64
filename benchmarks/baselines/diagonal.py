"""Baseline: one diagonal Neural GPU in the loop that one would write in torch, length by length, with autograd."""

import time

import torch
from torch.nn.functional import conv1d, conv2d, cross_entropy, dropout

from gradnoise import Relative
from gradnoise.paper.neural_gpu import TASKS, BoundedAdaMax, DiagonalConfig, DiagonalExperiment, DiagonalNeuralGPU
from gradnoise.paper.neural_gpu.diagonal.model import hard_sigmoid, shifted
from gradnoise.population import Population, Replica, Training

from .contest import Contest, timed
from .deep_mlp import synchronise

LENGTHS, MAPS, BATCH, RATE = (5, 7, 11, 13, 17), 48, 16, 0.1


def steps_per_second(steps: int, device: str, warmup: int = 1) -> float:
    """Return updates per second of one replica; P one after another make as many replica-steps per second."""
    model = DiagonalNeuralGPU(MAPS).to(device)
    count = sum(p.numel() for p in model.parameters())
    optimizer, start = torch.optim.Adamax(model.parameters(), lr=0.01), 0.0
    for t in range(warmup + steps):
        if t == warmup:
            synchronise(device)
            start = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.stack([_loss(model, n, device) for n in LENGTHS]).mean()
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        sigma = torch.stack([g.norm() for g in gradients]).norm() / count**0.5 * (1 + t) ** -0.275
        for g in gradients:
            g.add_(torch.randn_like(g) * sigma)
        optimizer.step()
    synchronise(device)
    return steps / (time.perf_counter() - start)


def _loss(model: DiagonalNeuralGPU, n: int, device: str) -> torch.Tensor:
    made = TASKS["bmul"].make(torch.tensor([n], device=device), torch.randint(2, (1, BATCH, n), device=device))
    written = (model.input + model.input_bias)[made.tokens[0]].mT
    state, cost = dropout(written.clamp(-1, 1), RATE), (written.abs() - 0.9).relu().sum() * n
    for _ in range(n):
        gates = conv1d(state, model.gates, model.gate_bias, padding=1)
        r, u = hard_sigmoid(gates).chunk(2, 1)
        candidate = conv1d(r * state, model.candidate, model.candidate_bias, padding=1)
        cost = cost + (gates.abs() - 0.9).relu().sum() + (candidate.abs() - 0.9).relu().sum()
        state = u * shifted(state) + (1 - u) * dropout(candidate.clamp(-1, 1), RATE)
    nats = cross_entropy(model.read(state).flatten(0, 1), made.targets[0].flatten())
    return nats + 1e-3 * cost / (n * n * BATCH)


def convolutions(device: str) -> None:
    """Do the convolutions of an update of one replica: forward, and to the inputs and the weights, length by length."""
    for n in LENGTHS:
        x = torch.randn(BATCH, MAPS, n, 1, device=device).contiguous(memory_format=torch.channels_last)
        for outputs in (2 * MAPS, MAPS):
            weight = torch.randn(outputs, MAPS, 3, 1, device=device).contiguous(memory_format=torch.channels_last)
            for _ in range(n):
                y = conv2d(x, weight, padding=(1, 0))
                torch.ops.aten.convolution_backward(
                    y, x, weight, [outputs], [1, 1], [1, 0], [1, 1], False, [0, 0], 1, [True, True, True]
                )


def contest(size: int, device: str, steps: int) -> Contest:
    """Return a population of distinct seeds with noise relative to the gradient, the plain loop, convolutions alone."""
    config = DiagonalConfig(lengths=LENGTHS, shorter=0.0, tests=(17,), samples=1, maps=MAPS, batch_size=BATCH, lr=0.01)
    training = Training(lr=0.01, optimizer=BoundedAdaMax(), noise=Relative(1.0))
    replicas = [Replica(seed, training, config) for seed in range(size)]
    population = Population(DiagonalExperiment(), replicas, device=device)

    def alone() -> None:
        for _ in range(size):
            convolutions(device)

    return Contest(
        {
            "population": timed(population.step, size, steps, device),
            "plain loop": lambda: 1 / steps_per_second(max(2, steps), device),
        },
        {"convolutions": timed(alone, size, steps, device)},
    )
