"""The diagonal Neural GPU: one layer on a state without height, whose gates may let cells move along the length.

Source: Freivalds & Liepins 2017, "Improving the Neural GPU Architecture for Algorithm Learning" (arXiv 1702.08727), and
the authors' program.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad

from gradnoise.paper.neural_gpu.diagonal import operator
from gradnoise.paper.neural_gpu.diagonal.steps import ANSWERS, KERNEL, SATURATED, blocks
from gradnoise.paper.neural_gpu.tasks import PAD, SYMBOLS
from gradnoise.population import PopulationError

#: Initial biases of the reset and the update gate.
RESET, UPDATE = 0.5, 0.7


def hard_sigmoid(x: Tensor) -> Tensor:
    """Return min(1, max(0, x / 2 + 1 / 2))."""
    return (0.5 * x + 0.5).clamp(0, 1)


def shifted(s: Tensor) -> Tensor:
    """Shift the maps [..., m, n]: with k = m // 3 the last k take position i + 1, the k before them i - 1."""
    stay, left, right = s.split(blocks(s.shape[-2]), -2)
    return torch.cat([stay, pad(left, (1, 0))[..., :-1], pad(right, (0, 1))[..., 1:]], -2)


class DiagonalNeuralGPU(nn.Module):
    """A state of n cells with m maps that one layer changes at every step.

    With * for convolution along the length, of kernel 3:
    r = hs(U_r * s + B_r), u = hs(U_u * s + B_u), s <- u shift(s) + (1 - u) ht(U_c * (r s) + B_c),
    hs(x) = min(1, max(0, x / 2 + 1 / 2)), ht(x) = min(1, max(-1, x)), and `shifted` for shift.
    The input is written into the state before the first step, and the output read from it after the last one.

    Args:
        maps: m, 3 or more.
        init: factor of the initial weights, which are uniform within sqrt(6 / (fan_in + fan_out)).

    Raises:
        PopulationError: an argument is out of range.
    """

    #: Rows of the state, as a `NeuralGPU` has.
    height = 1

    def __init__(self, maps: int = 96, init: float = 1.0) -> None:
        super().__init__()
        if maps < KERNEL:
            raise PopulationError(f"maps {maps}: at least 3 are needed, of which one stays, and two move")
        self.maps = maps
        self.input = nn.Parameter(torch.empty(SYMBOLS, maps))
        self.input_bias = nn.Parameter(torch.zeros(maps))
        self.gates = nn.Parameter(torch.empty(2 * maps, maps, KERNEL))
        self.gate_bias = nn.Parameter(torch.tensor([RESET] * maps + [UPDATE] * maps))
        self.candidate = nn.Parameter(torch.empty(maps, maps, KERNEL))
        self.candidate_bias = nn.Parameter(torch.zeros(maps))
        self.output = nn.Parameter(torch.empty(ANSWERS, maps))
        self.output_bias = nn.Parameter(torch.zeros(ANSWERS))
        with torch.no_grad():
            convolved = KERNEL * 2 * maps  # the two gates are convolutions of their own
            for weight, fans in (
                (self.input, SYMBOLS + maps),
                (self.gates, convolved),
                (self.candidate, convolved),
                (self.output, ANSWERS + maps),
            ):
                bound = init * math.sqrt(6 / fans)
                weight.uniform_(-bound, bound)

    def flat(self) -> Tensor:
        """Return all weights in the order in which the operator takes them, [N]."""
        return torch.cat([x.flatten() for x in self.parameters()])

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [B, n, 3] after as many steps as there are positions, without dropout.

        Args:
            tokens: symbols, int64 [B, n].
        """
        if tokens.device.type == "cpu" and not torch.is_grad_enabled():
            return operator.logits(self.flat(), tokens, self.maps)
        *_, last = self.states(tokens, tokens.shape[-1])
        return self.read(last)

    def read(self, state: Tensor) -> Tensor:
        """Return logits [B, n, 3] of a state [B, m, n]: nothing, 0 or 1."""
        return state.mT @ self.output.mT + self.output_bias

    def states(
        self,
        tokens: Tensor,
        steps: int,
        inside: Tensor | None = None,
        masks: Tensor | None = None,
        saturation: list[Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """Run in plain torch, the definition, and yield the state [B, m, n] at the start and after each step.

        Args:
            tokens: symbols, int64 [B, n].
            steps: how many.
            inside: positions that count [B, n]; the state is zero elsewhere. None for all.
            masks: of dropout, [steps + 1, n, B, m]: of the written input, then of the candidate of every step.
            saturation: gets relu(|x| - 0.9) summed over the maps, [B, n], of the written input and of every step.
        """
        there = torch.ones_like(tokens) if inside is None else inside
        there = there.to(self.input.dtype)

        def dropped(x: Tensor, t: int) -> Tensor:
            return x if masks is None else x * masks[t].permute(1, 2, 0)

        def note(x: Tensor) -> Tensor:
            if saturation is not None:
                saturation.append((x.abs() - SATURATED).relu().sum(-2) * there)
            return x

        written = note((self.input + self.input_bias)[tokens].mT)
        s = dropped(written.clamp(-1, 1), 0) * there[:, None]
        yield s
        for t in range(steps):
            r, u = hard_sigmoid(note(conv1d(s, self.gates, self.gate_bias, padding=1))).chunk(2, 1)
            c = note(conv1d(r * s, self.candidate, self.candidate_bias, padding=1)).clamp(-1, 1)
            s = (u * shifted(s) + (1 - u) * dropped(c, t + 1)) * there[:, None]
            yield s


def inside(targets: Tensor) -> Tensor:
    """Return which positions count: those where something is to be answered."""
    return targets != PAD
