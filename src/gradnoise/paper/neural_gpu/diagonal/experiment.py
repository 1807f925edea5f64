"""Training diagonal Neural GPUs: the loss over all lengths, and errors as those of Neural GPUs are counted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradnoise.paper.neural_gpu.diagonal import operator
from gradnoise.paper.neural_gpu.diagonal.config import DiagonalConfig
from gradnoise.paper.neural_gpu.diagonal.course import AllLengths
from gradnoise.paper.neural_gpu.diagonal.model import DiagonalNeuralGPU, inside
from gradnoise.paper.neural_gpu.diagonal.steps import Strip
from gradnoise.paper.neural_gpu.experiment import NeuralGPUExperiment, State
from gradnoise.paper.neural_gpu.tasks import PAD, ZERO


class DiagonalExperiment(NeuralGPUExperiment):
    """Diagonal Neural GPUs learn a task on short problems of several lengths and are tested on longer ones.

    The loss is the mean cross entropy over all positions, where zeros stand behind an answer up to its problem's
    length, plus a weight times the saturation cost, see `operator.loss`. Metrics are those of `NeuralGPUExperiment`; a
    zero behind the answer counts as nothing.
    """

    name = "diagonal-neural-gpu"
    Config = DiagonalConfig
    replica_keys = frozenset({"init_weight", "keep", "lr"})
    course = AllLengths()

    def model(self, config: Any) -> nn.Module:
        """Return the network of a configuration."""
        return DiagonalNeuralGPU(config.maps, config.init_weight)

    def loss(self, model: nn.Module, batch: tuple[State, State], config: Any) -> tuple[Tensor, State]:
        """Return the loss of one replica's minibatch, and what its course looks at."""
        made, state = batch
        assert isinstance(model, DiagonalNeuralGPU)
        run = compiled if made["tokens"].device.type == "cpu" else defined
        total, nats, cost, wrong = run(model, made, state["weight"], config.lengths)
        return total, {"nats": nats, "cost": cost, "wrong": wrong}

    def compared(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Return answers as they are compared with targets."""
        return torch.where((targets == PAD) & (answers == ZERO), PAD, answers)


Found = tuple[Tensor, Tensor, Tensor, Tensor]


def compiled(network: DiagonalNeuralGPU, made: State, weight: Tensor, lengths: tuple[int, ...]) -> Found:
    """Return loss, cross entropy, saturation cost and share of wrong problems, by the operator for a CPU."""
    tokens, targets, key, rate = (made[name] for name in ("tokens", "targets", "key", "rate"))
    return operator.loss(network.flat(), tokens, targets, key, rate, weight, lengths, network.maps)


def defined(network: DiagonalNeuralGPU, made: State, weight: Tensor, lengths: tuple[int, ...]) -> Found:
    """Return the same in plain torch, bin by bin."""
    strip, b = Strip(lengths), made["tokens"].shape[-1]
    counts = [strip.size, *strip.widths]
    masks = operator.masks(made["key"], made["rate"], counts, b * network.maps).unflatten(-1, (b, network.maps))
    starts = [sum(counts[:t]) for t in range(len(counts))]
    found = []
    for start, n in strip.bins:
        tokens, targets = (made[name][start : start + n].mT for name in ("tokens", "targets"))
        own = torch.stack([masks[first + start : first + start + n] for first in starts[: n + 1]])
        saturation: list[Tensor] = []
        *_, last = network.states(tokens, n, inside(targets), own, saturation)
        logits = network.read(last)
        nats = cross_entropy(logits.flatten(0, 1), targets.flatten())
        first, *rest = saturation
        cost = (n * first + torch.stack(rest).sum(0)).sum() / (n * n * b)
        wrong = ((logits.argmax(-1) != targets) & inside(targets)).any(-1)
        found.append(torch.stack([nats, cost, wrong.to(nats.dtype).mean()]))
    nats, cost, wrong = torch.stack(found).mean(0).unbind()
    return nats + weight * cost, nats.detach(), cost.detach(), wrong.detach()
