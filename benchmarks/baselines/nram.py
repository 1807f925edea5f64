"""Baseline: one NRAM in the loop that one would write in torch: eager modules, clip, noise, Adam."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn

from gradnoise.paper.nram import Lesson, NRAMExperiment
from gradnoise.population import Draws

from .deep_mlp import synchronise

LR, CLIP, ETA, GAMMA = 1e-2, 10.0, 1.0, 0.55

#: ListK at sizes M and L: cells M, largest list, time steps T, registers R, units H.
SHAPES = {"M=16, T=10, R=6, H=48": (16, 6, 10, 6, 48), "M=24, T=14, R=6, H=64": (24, 10, 14, 6, 64)}


def setting(shape: str) -> tuple[NRAMExperiment, Any]:
    """Return experiment and configuration of one size; minibatches of 50."""
    cells, most, steps, registers, units = SHAPES[shape]
    lesson = Lesson.of("listk", cells, most, steps, evaluated=1, confirmed=1)
    experiment = NRAMExperiment(lesson)
    return experiment, experiment.Config(registers, units, gain=3.0, value_clip=10.0, entropy=1e-5)


@contextmanager
def without_kernel() -> Iterator[None]:
    """Run time steps by their definition in plain torch, whatever there is."""
    with mock.patch("gradnoise.paper.nram.kernel.operator.available", lambda memory: False):
        yield


def steps_per_second(shape: str, steps: int, device: str = "cpu") -> float:
    """Return updates per second of one replica; P one after another make as many replica-steps per second."""
    experiment, config = setting(shape)
    model, course = experiment.model(config).to(device), experiment.course
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    state = {name: x[None].to(device) for name, x in course.start(config).items()}
    start = 0.0
    with without_kernel():
        for t in range(steps + 1):
            if t == 1:  # the first one warms up
                synchronise(device)
                start = time.perf_counter()
            made = {name: x[0] for name, x in course.batch(Draws([0], t, device), state, config).items()}
            optimizer.zero_grad()
            loss, observed = experiment.loss(model, (made, {name: x[0] for name, x in state.items()}), config)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            sigma = (ETA / (1 + t) ** GAMMA) ** 0.5
            for p in model.parameters():
                p.grad.add_(torch.randn_like(p.grad), alpha=sigma)
            optimizer.step()
            state = course.after(state, {"error": observed["error"][None]}, torch.tensor(t), config)
    synchronise(device)
    return steps / (time.perf_counter() - start)
