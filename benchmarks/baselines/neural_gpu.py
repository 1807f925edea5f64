"""Baseline: one Neural GPU in the loop that one would write in torch: conv2d, autograd, Adam, clip and noise."""

import time

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, dropout

from gradnoise import Annealed
from gradnoise.paper.neural_gpu import MARCH, TASKS, Config, NeuralGPU, NeuralGPUExperiment
from gradnoise.paper.neural_gpu.course import Lengths
from gradnoise.population import Adam, Draws, Population, Replica, Training

from .contest import Contest, timed
from .deep_mlp import synchronise
from .layouts import LAYOUTS, useful_operations
from .layouts import convolutions as laid_out

BATCH, PULL, ETA, GAMMA = MARCH.batch_size, 5e-4, 1.0, 0.55
#: Variant -> n, positions and steps of every problem.
VARIANTS = {"n = 17": 17, "n = 41": 41}


class OneLength(Lengths):
    """Every problem has the same length, so that a time means something."""

    def drawn(self, draws: Draws, state: dict[str, Tensor], config: Config) -> Tensor:
        """Return the longest length for every replica."""
        return torch.full_like(state["limit"], config.longest, dtype=torch.int64)


class OneLengthExperiment(NeuralGPUExperiment):
    """Trains on problems of one length."""

    course = OneLength()


def steps_per_second(n: int, steps: int, warmup: int = 1, device: str = "cpu") -> float:
    """Return updates per second of one replica; P one after another make as many replica-steps per second."""
    model = NeuralGPU().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=MARCH.lr, eps=MARCH.eps)
    rate, start = MARCH.state_dropout * 8 / n, 0.0
    for t in range(warmup + steps):
        if t == warmup:
            synchronise(device)
            start = time.perf_counter()
        made = TASKS["bmul"].make(torch.tensor([n], device=device), torch.randint(2, (1, BATCH, n), device=device))
        optimizer.zero_grad()
        state = dropout(model.start(made.tokens[0]).contiguous(memory_format=torch.channels_last), rate)
        for step in range(n):
            for layer in range(model.layers):
                state = model._unit(state, layer, step % model.sets)
            state = dropout(state, rate) if step < n - 1 else state
        loss = cross_entropy(model.read(state).flatten(0, 1), made.targets[0].flatten()) + PULL * model.spread()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MARCH.clip)
        sigma = (ETA / (1 + t) ** GAMMA) ** 0.5
        for p in model.parameters():
            assert p.grad is not None
            p.grad.add_(torch.randn_like(p.grad), alpha=sigma)
        optimizer.step()
    synchronise(device)
    return steps / (time.perf_counter() - start)


def convolutions(n: int, device: str) -> None:
    """Do the convolutions of an update of one replica: forward, and to the inputs and the weights."""
    maps = 24
    x = torch.randn(BATCH, maps, n, 4, device=device).contiguous(memory_format=torch.channels_last)
    for outputs in (2 * maps, maps):
        weight = torch.randn(outputs, maps, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
        bias = torch.zeros(outputs, device=device)
        for _ in range(2 * n):
            y = conv2d(x, weight, bias, padding=1)
            torch.ops.aten.convolution_backward(
                y, x, weight, [outputs], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, True]
            )


def contest(variant: str, size: int, device: str, steps: int) -> Contest:
    """Return a population of distinct seeds, the plain loop, and the convolutions alone; on a GPU in all layouts."""
    n = VARIANTS[variant]
    experiment = OneLengthExperiment()
    config = Config(profile="march", begin=n, longest=n, tests=(n,), samples=1)
    training = Training(lr=MARCH.lr, clip=MARCH.clip, optimizer=Adam(eps=MARCH.eps), noise=Annealed(ETA, GAMMA))
    population = Population(experiment, [Replica(seed, training, config) for seed in range(size)], device=device)

    def alone() -> None:
        for _ in range(size):
            convolutions(n, device)

    parts = {"convolutions": timed(alone, size, steps, device)}
    if device != "cpu":  # there convolutions one by one are fastest
        for name, layout in LAYOUTS.items():
            parts[name] = timed(laid_out(layout, size, n, BATCH, device), size, steps, device)
    return Contest(
        {
            "population": timed(population.step, size, steps, device),
            "plain loop": lambda: 1 / steps_per_second(n, max(2, steps), device=device),
        },
        parts,
        useful_operations(n, BATCH),
    )
