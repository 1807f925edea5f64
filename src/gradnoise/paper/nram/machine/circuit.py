"""One time step of the machine's circuit, in plain torch: the definition that the compiled kernel equals."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradnoise.paper.nram.machine import modules as m
from gradnoise.paper.nram.machine.wiring import Wiring


class ClippedGradient(torch.autograd.Function):
    """The identity, whose gradient is cut to [-limit, limit] coordinate by coordinate."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, limit: Tensor) -> Tensor:  # noqa: D102
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: D102
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: D102
        (limit,) = ctx.saved_tensors
        return torch.minimum(torch.maximum(grads[0], -limit), limit), None


def normalised(x: Tensor) -> Tensor:
    """Return a distribution [..., M] divided by its sum; the gradient passes unchanged, as in the paper."""
    return m.straight_through(x, x / x.sum(-1, keepdim=True).clamp(min=1e-12))


def circuit(
    wiring: Wiring, logits: Tensor, registers: Tensor, memory: Tensor, limit: Tensor, renormalise: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the modules once and overwrite the registers.

    Returns:
        New registers [B, R, M], new memory [B, M, M], and the summed entropy of all choices [B] in nats; the
        arguments are those of `circuit_and_sources`.
    """
    return circuit_and_sources(wiring, logits, registers, memory, limit, renormalise)[:3]


def circuit_and_sources(
    wiring: Wiring, logits: Tensor, registers: Tensor, memory: Tensor, limit: Tensor, renormalise: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run `circuit` and return also what its choices were made from.

    Args:
        wiring: modules and their sources.
        logits: of all choices, [B, wiring.logits].
        registers: distributions [B, R, M].
        memory: distributions [B, M, M], one row per cell.
        limit: scalar; the gradient of every argument, module output, new register and memory is cut to
            [-limit, limit] coordinate by coordinate, for each example alone; inf for no limit.
        renormalise: whether to keep sums at 1, see `normalised`.

    Returns:
        New registers [B, R, M], new memory [B, M, M], the summed entropy of all choices [B] in nats, and all
        sources [B, R + Q, M]: the old registers, then the outputs of the modules.
    """
    fix = normalised if renormalise else lambda x: x
    log_weights = [x.log_softmax(-1) for x in logits.split(wiring.sizes, -1)]
    weights = [x.exp() for x in log_weights]
    entropy = -torch.stack([(w * x).sum(-1) for w, x in zip(weights, log_weights, strict=True)]).sum(0)
    choices = iter(weights)
    sources = registers

    def chosen() -> Tensor:
        return (next(choices)[..., None, :] @ sources)[..., 0, :]

    for module in wiring.sequence:
        arguments = [ClippedGradient.apply(chosen(), limit) for _ in range(module.arity)]
        if module.constant is not None:
            output = m.constant(module.constant, registers[..., 0, :])
        elif module.name == "read":
            output = m.read(memory, *arguments)
        elif module.name == "write":
            memory = ClippedGradient.apply(m.write(memory, *arguments), limit)
            output = arguments[1]
        else:
            output = m.FUNCTIONS[module.name](*arguments)
        output = ClippedGradient.apply(fix(output) if module.drifting else output, limit)
        sources = torch.cat([sources, output[..., None, :]], -2)
    new = torch.stack([fix(chosen()) for _ in range(wiring.registers)], -2)
    return ClippedGradient.apply(new, limit), memory, entropy, sources
