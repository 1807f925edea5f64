"""The hard machine: every choice is the most likely one, so that all values are integers (NRAM paper, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnoise.paper.nram.machine.model import NRAM
from gradnoise.paper.nram.machine.wiring import Wiring

#: What each module makes of integers, by its name in the table; the results are taken mod M.
INTEGERS: dict[str, Callable[..., Tensor]] = {
    "inc": lambda a: a + 1,
    "dec": lambda a: a - 1,
    "add": torch.add,
    "sub": torch.sub,
    "less-than": lambda a, b: (a < b).long(),
    "less-or-equal": lambda a, b: (a <= b).long(),
    "equality-test": lambda a, b: (a == b).long(),
    "min": torch.minimum,
    "max": torch.maximum,
}


@dataclass(frozen=True)
class HardMoment:
    """The hard machine after one time step.

    Args:
        stops: whether it stops here, f_t >= 0.5, bool [B].
        memory: int64 [B, M].
        registers: int64 [B, R].
        choices: the source taken for each choice, in the order of `Wiring.sizes`, int64 [B, choices].
        outputs: of the modules, int64 [B, Q].
    """

    stops: Tensor
    memory: Tensor
    registers: Tensor
    choices: Tensor
    outputs: Tensor


def execute(wiring: Wiring, choices: Tensor, registers: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Run one time step on integers.

    Args:
        wiring: modules and their sources.
        choices: the source of each choice, int64 [B, choices].
        registers: int64 [B, R].
        memory: int64 [B, M].

    Returns:
        New registers, new memory, and what each module put out [B, Q].
    """
    m = memory.shape[-1]
    sources, turn = registers, 0
    cells = torch.arange(m, device=memory.device)
    for module in wiring.sequence:
        arguments = [sources.gather(-1, choices[..., turn + i, None]) for i in range(module.arity)]
        turn += len(arguments)
        if module.constant is not None:
            output = torch.full_like(sources[..., :1], module.constant)
        elif module.name == "read":
            output = memory.gather(-1, arguments[0])
        elif module.name == "write":
            pointer, output = arguments
            memory = torch.where(cells == pointer, output, memory)
        else:
            output = INTEGERS[module.name](*arguments) % m
        sources = torch.cat([sources, output], -1)
    new = sources.gather(-1, choices[..., turn:])
    return new, memory, sources[..., wiring.registers :]


def run_hard(model: NRAM, memory: Tensor, steps: int) -> Iterator[HardMoment]:
    """Run the hard machine on integers memory [B, M]; ties go to the source that comes first."""
    wiring = model.wiring
    registers = torch.zeros_like(memory[..., :1]).expand(*memory.shape[:-1], wiring.registers)
    dtype = model.stop.weight.dtype
    state = model.controller.start((registers == 0).to(dtype))
    for _ in range(steps):
        h, state = model.controller((registers == 0).to(dtype), state)
        logits = model.choices(h).split(wiring.sizes, -1)
        choices = torch.stack([x.argmax(-1) for x in logits], -1)
        registers, memory, outputs = execute(wiring, choices, registers, memory)
        yield HardMoment(model.stop(h)[..., 0] >= 0, memory, registers, choices, outputs)
