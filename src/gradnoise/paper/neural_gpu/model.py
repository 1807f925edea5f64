"""The Neural GPU: a convolutional gated recurrent network that computes on a state of the size of its input.

Source: Kaiser & Sutskever 2016, "Neural GPUs Learn Algorithms" (arXiv 1511.08228), and the authors' program.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from gradnoise.paper.neural_gpu import operator
from gradnoise.paper.neural_gpu.tasks import SYMBOLS
from gradnoise.population import PopulationError

#: Initial bias of the gates: mostly they keep the state.
KEEP = 1.0


def cutoff(x: Tensor) -> Tensor:
    """Return the gate min(1, max(0, 1.2 sigmoid(x) - 0.1)), which is exactly 0 or 1 for |x| > 2.4."""
    return (1.2 * x.sigmoid() - 0.1).clamp(0, 1)


class NeuralGPU(nn.Module):
    """A state of N x w cells with m maps, changed by the same l layers at every step (a CGRN).

    A layer is a convolutional gated recurrent unit, with * for convolution over length and height:
    r = cutoff(U_r * s + B_r), u = cutoff(U_u * s + B_u), s <- u s + (1 - u) tanh(U_c * (r s) + B_c).
    Step t uses set t mod `sets` of the layers' weights. The input is written into the first row of the state before the
    first step, and the output read from it after the last one.

    Args:
        maps: m.
        height: w.
        layers: l.
        sets: copies of the layers' weights that take turns; training pulls them together.
        kernel: size of the convolutions, odd.
        init: scale of the initial weights.

    Raises:
        PopulationError: an argument is out of range.
    """

    def __init__(
        self, maps: int = 24, height: int = 4, layers: int = 2, sets: int = 6, kernel: int = 3, init: float = 1.0
    ) -> None:
        super().__init__()
        if min(maps, height, layers, sets, kernel) < 1 or kernel % 2 == 0:
            raise PopulationError(
                f"maps {maps}, height {height}, layers {layers}, sets {sets}, kernel {kernel}: each is at least 1, and"
                " the kernel odd"
            )
        self.maps, self.height, self.layers, self.sets, self.kernel = maps, height, layers, sets, kernel
        shape = (layers, sets)
        self.embedding = nn.Parameter(torch.empty(SYMBOLS - 1, maps))  # that of PAD is zero
        self.input = nn.Linear(maps, maps)
        self.gates = nn.Parameter(torch.empty(*shape, 2 * maps, maps, kernel, kernel))
        self.gate_bias = nn.Parameter(torch.empty(*shape, 2 * maps))
        self.candidate = nn.Parameter(torch.empty(*shape, maps, maps, kernel, kernel))
        self.candidate_bias = nn.Parameter(torch.empty(*shape, maps))
        self.output = nn.Linear(maps, SYMBOLS)
        self._initialise(init)

    @torch.no_grad()
    def _initialise(self, init: float) -> None:
        """Draw weights uniformly with sd 1.8 init / sqrt(fan_in), the embedding within +-1.7."""
        self.embedding.uniform_(-1.7, 1.7)
        for weight in (self.input.weight, self.gates, self.candidate, self.output.weight):
            fan_in = self.maps * (self.kernel**2 if weight.dim() > 2 else 1)
            bound = 1.8 * init * math.sqrt(3 / fan_in)
            weight.uniform_(-bound, bound)
        self.gate_bias.fill_(KEEP)
        for bias in (self.input.bias, self.candidate_bias, self.output.bias):
            bias.zero_()

    @property
    def setting(self) -> operator.Setting:
        """The sizes, as the operator takes them."""
        return operator.Setting(self.maps, self.height, self.layers, self.sets, self.kernel)

    def relaxed(self) -> list[Tensor]:
        """Return the weights of which there are several sets, each [l, sets, ...]."""
        return [self.gates, self.gate_bias, self.candidate, self.candidate_bias]

    def spread(self) -> Tensor:
        """Return the sum of (weight - its mean over the sets)^2 over all weights of all sets, a scalar."""
        return torch.stack([(x - x.mean(1, keepdim=True)).square().sum() for x in self.relaxed()]).sum()

    def flat(self) -> Tensor:
        """Return all weights in the order in which the operator takes them, [N]."""
        return torch.cat([x.flatten() for x in self.parameters()])

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [B, n, symbols] after as many steps as there are positions, without dropout.

        Args:
            tokens: symbols, int64 [B, n].
        """
        if tokens.device.type == "cpu" and not torch.is_grad_enabled():
            return operator.logits(self.flat(), tokens, self.setting)
        *_, last = self.states(tokens, tokens.shape[-1])
        return self.read(last)

    def read(self, state: Tensor) -> Tensor:
        """Return logits [B, N, symbols] of a state [B, m, N, w]."""
        return self.output(state[..., 0].movedim(-2, -1))

    def start(self, tokens: Tensor) -> Tensor:
        """Return the state [B, m, N, w] into which the input was written."""
        table = torch.cat([torch.zeros_like(self.embedding[:1]), self.embedding])
        rows = self.input(table.tanh())[tokens]
        return pad(rows.movedim(-1, -2)[..., None], (0, self.height - 1))

    def states(
        self, tokens: Tensor, steps: int, length: Tensor | None = None, masks: Sequence[Tensor] | Tensor | None = None
    ) -> Iterator[Tensor]:
        """Run in plain torch, the definition, and yield the state [B, m, N, w] at the start and after each step.

        The state is the one before dropout; the next step sees it after dropout.

        Args:
            tokens: symbols, int64 [B, N].
            steps: how many.
            length: n <= N, a 0-dim tensor: from there on positions are zero, and after n steps nothing changes. None
                for N.
            masks: of dropout, [steps + 1, N, B, w, m], see `operator.masks`; None for no dropout.
        """
        inside = None
        if length is not None:
            inside = (torch.arange(tokens.shape[-1], device=tokens.device) < length)[:, None]
        state = self._inside(self.start(tokens), inside)
        yield state
        for t in range(steps):
            s = state if masks is None else state * masks[t].permute(1, 3, 0, 2)
            for layer in range(self.layers):
                s = self._inside(self._unit(s, layer, t % self.sets), inside)
            state = s if length is None else torch.where(length > t, s, state)
            yield state

    @staticmethod
    def _inside(state: Tensor, inside: Tensor | None) -> Tensor:
        return state if inside is None else torch.where(inside, state, 0)

    def _unit(self, s: Tensor, layer: int, k: int) -> Tensor:
        """Return the state after one layer with its weights of set k."""
        around = self.kernel // 2
        gates = cutoff(conv2d(s, self.gates[layer, k], self.gate_bias[layer, k], padding=around))
        r, u = gates.chunk(2, -3)
        c = conv2d(r * s, self.candidate[layer, k], self.candidate_bias[layer, k], padding=around).tanh()
        return u * s + (1 - u) * c
