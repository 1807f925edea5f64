"""The Neural Random-Access Machine (Kurach et al. 2016): registers, memory, modules, a controller."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradnoise.errors import PopulationError, nearest
from gradnoise.paper.nram.kernel import operator
from gradnoise.paper.nram.machine.circuit import circuit
from gradnoise.paper.nram.machine.controller import CONTROLLERS, LSTMController
from gradnoise.paper.nram.machine.modules_table import MODULES
from gradnoise.paper.nram.machine.wiring import Wiring

ALL_CELLS = slice(None)


@dataclass(frozen=True)
class Moment:
    """The machine after one time step.

    Args:
        stop: f_t, the probability to stop now [B].
        memory: distributions [B, M, M].
        registers: distributions [B, R, M].
        entropy: of all choices of this step, in nats [B].
        logits: of all choices [B, L].
    """

    stop: Tensor
    memory: Tensor
    registers: Tensor
    entropy: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Run:
    """A run of T time steps.

    Args:
        stop: f_t, the probabilities to stop [B, T].
        answers: the output cells after each step, distributions [B, T, O, M].
        entropy: of all choices of each step, in nats [B, T].
    """

    stop: Tensor
    answers: Tensor
    entropy: Tensor

    @property
    def p(self) -> Tensor:
        """p_t, the probabilities that the machine ends at step t, [B, T]."""
        return stopping(self.stop)

    @property
    def answer(self) -> Tensor:
        """The output cells averaged over the time of stop, [B, O, M]; without gradient."""
        return (self.p[..., None, None] * self.answers).sum(-3).detach()


class NRAM(nn.Module):
    """A machine with R registers and M cells of memory over the integers 0..M-1, driven by a small network.

    The controller sees P(r_i = 0) of every register and nothing else, so that its weights fit any M.

    Args:
        registers: R.
        units: H, units of the controller's layers.
        controller: "lstm" or "mlp".
        passes: K, runs of the modules in a time step.
        modules: the modules of one pass, in order.
        gain: g, scale of the initial weights.
        stop_bias: b_f, initial bias of the decision to stop.
        renormalise: whether distributions are divided by their sums, see `circuit`.

    Raises:
        PopulationError: an argument is out of range.
    """

    def __init__(
        self,
        registers: int = 5,
        units: int = 32,
        controller: str = "lstm",
        passes: int = 1,
        modules: tuple[str, ...] = MODULES,
        gain: float = 1.0,
        stop_bias: float = 0.0,
        renormalise: bool = True,
    ) -> None:
        super().__init__()
        if controller not in CONTROLLERS:
            raise PopulationError(
                f"controller = {controller!r}: allowed are {', '.join(CONTROLLERS)}{nearest(controller, CONTROLLERS)}"
            )
        if units < 1:
            raise PopulationError(f"units H = {units}: a controller needs at least 1")
        self.wiring = Wiring(registers, passes, modules)
        self.renormalise = renormalise
        self.controller = CONTROLLERS[controller](registers, units)
        self.choices = nn.Linear(units, self.wiring.logits)
        self.stop = nn.Linear(units, 1)
        initialise_(self, gain, stop_bias)

    def forward(self, memory: Tensor, steps: int, outputs: slice = ALL_CELLS, limit: Tensor | None = None) -> Run:
        """Run for `steps` time steps, by the fastest way there is for these tensors; see `moments`.

        Args:
            memory: distributions [B, M, M], one row per cell; no gradient is taken with respect to it.
            steps: T >= 1.
            outputs: cells to return.
            limit: scalar bound on the gradients of intermediate values, see `circuit`; None for none.
        """
        limit = memory.new_tensor(torch.inf) if limit is None else limit
        if operator.available(memory):
            return self._compiled(memory, steps, outputs, limit)
        moments = list(self.moments(memory, steps, limit))
        return Run(
            torch.stack([m.stop for m in moments], -1),
            torch.stack([m.memory[..., outputs, :] for m in moments], -3),
            torch.stack([m.entropy for m in moments], -1),
        )

    def _compiled(self, memory: Tensor, steps: int, outputs: slice, limit: Tensor) -> Run:
        """Run as one operator; the arguments are those of `forward`."""
        layers = self.controller.layers()
        parameters = [x for layer in layers for x in (layer.weight, layer.bias)]
        parameters += [self.choices.weight, self.stop.weight, self.choices.bias, self.stop.bias]
        found = operator.run(
            torch.cat([x.flatten() for x in parameters]),
            memory,
            limit,
            kind=self.controller.kind,
            registers=self.wiring.registers,
            units=self.controller.units,
            codes=[module.code for module in self.wiring.sequence],
            renormalise=self.renormalise,
            steps=steps,
            outputs=outputs,
        )
        return Run(*found)

    def moments(self, memory: Tensor, steps: int, limit: Tensor | None = None) -> Iterator[Moment]:
        """Run for `steps` time steps, by the definition in plain torch; every register starts at 0.

        Yields:
            The machine after each step; the arguments are those of `forward`.
        """
        limit = memory.new_tensor(torch.inf) if limit is None else limit
        registers = memory.new_zeros(*memory.shape[:-2], self.wiring.registers, memory.shape[-1])
        registers[..., 0] = 1
        state = self.controller.start(registers[..., 0])
        for _ in range(steps):
            h, state = self.controller(registers[..., 0], state)
            logits, x = self.choices(h), self.stop(h)
            registers, memory, entropy = circuit(self.wiring, logits, registers, memory, limit, self.renormalise)
            yield Moment(x[..., 0].sigmoid(), memory, registers, entropy, logits)


def stopping(stops: Tensor) -> Tensor:
    """Return p_t, the probability to stop at step t, from f_t [..., T].

    p_t = f_t prod_{s<t} (1 - f_s); the last step has all that is left.
    """
    *early, last = stops.unbind(-1)
    probabilities, running = [], torch.ones_like(last)
    for f in early:
        probabilities.append(f * running)
        running = running * (1 - f)
    return torch.stack([*probabilities, running], -1)


@torch.no_grad()
def initialise_(machine: NRAM, gain: float, stop_bias: float) -> None:
    """Draw weights uniformly within +-gain sqrt(6 / (fan_in + fan_out)); the two output layers count as one.

    Biases are 0, but 1 for forgetting and `stop_bias`, b_f, for stopping.
    """
    outputs = machine.choices.out_features + 1
    for layer in machine.modules():
        if isinstance(layer, nn.Linear):
            fan_out = outputs if layer in (machine.choices, machine.stop) else layer.out_features
            bound = gain * math.sqrt(6 / (layer.in_features + fan_out))
            layer.weight.uniform_(-bound, bound)
            layer.bias.zero_()
    if isinstance(machine.controller, LSTMController):
        machine.controller.gates.bias.view(4, -1)[1] = 1.0
    machine.stop.bias.fill_(stop_bias)
