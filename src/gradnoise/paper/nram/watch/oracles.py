"""Programs that solve the tasks exactly, written by hand: what a machine can learn at best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradnoise.paper.nram.machine.controller import MLPController
from gradnoise.paper.nram.machine.hard import HardMoment, execute
from gradnoise.paper.nram.machine.model import NRAM
from gradnoise.paper.nram.machine.wiring import Wiring


@dataclass(frozen=True)
class Instruction:
    """What a machine with K = 1 does in one time step; sources are names of registers or modules.

    Args:
        registers: the source of each register's new value.
        arguments: the sources of the arguments of the modules that matter; all others take the first register.
        stop: whether the machine stops after this step.
    """

    registers: Sequence[str]
    arguments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    stop: bool = False


def choices(wiring: Wiring, names: Sequence[str], instruction: Instruction) -> list[int]:
    """Return the source of each choice as an index, in the order of `Wiring.sizes`.

    Args:
        wiring: of a machine with K = 1.
        names: of its registers, R of them.
        instruction: what to do.
    """
    sources = [*names, *wiring.modules]
    found = []
    for module in wiring.sequence:
        given = instruction.arguments.get(module.name, [names[0]] * module.arity)
        found += [sources.index(s) for s in given]
    return found + [sources.index(s) for s in instruction.registers]


Program = Callable[[int, int], Instruction]
"""(time step from 0, n) -> instruction."""


def run_program(program: Program, names: Sequence[str], memory: Tensor, n: int) -> Iterator[HardMoment]:
    """Run a program on problems of size n, int64 [B, M], until it stops; `names` are those of its registers."""
    wiring = Wiring(len(names))
    registers = torch.zeros(len(memory), len(names), dtype=torch.int64)
    t, stop = 0, False
    while not stop:
        instruction = program(t, n)
        row = torch.tensor(choices(wiring, names, instruction)).expand(len(memory), -1)
        registers, memory, outputs = execute(wiring, row, registers, memory)
        t, stop = t + 1, instruction.stop
        yield HardMoment(torch.full((len(memory),), stop), memory, registers, row, outputs)


def access(t: int, n: int) -> Instruction:
    """Load the address; put what lies there into cell 0."""
    if t == 0:
        return Instruction(["read"], {"read": ["r"], "write": ["zero", "read"]})
    return Instruction(["r"], {"read": ["r"], "write": ["zero", "read"]}, stop=True)


def increment(t: int, n: int) -> Instruction:
    """Put INC(READ(i)) into cell i, for i = 0, 1, ..."""
    arguments = {"read": ["i"], "inc": ["read"], "add": ["i", "one"], "write": ["i", "inc"]}
    return Instruction(["add"], arguments, stop=t == n - 1)


def copy(t: int, n: int) -> Instruction:
    """Put READ(s) into cell d; d counts up from p, s from 1."""
    if t == 0:
        return Instruction(["read", "one"], {"read": ["s"], "write": ["zero", "read"]})
    arguments = {"read": ["s"], "inc": ["s"], "add": ["d", "one"], "write": ["d", "read"]}
    return Instruction(["add", "inc"], arguments, stop=t == n)


def reverse(t: int, n: int) -> Instruction:
    """Put READ(s) into cell d; d counts down from 2 p - 2, s up from 1."""
    if t == 0:
        arguments = {"read": ["s"], "add": ["read", "read"], "sub": ["add", "two"], "write": ["zero", "read"]}
        return Instruction(["sub", "one"], arguments)
    arguments = {"read": ["s"], "inc": ["s"], "dec": ["d"], "write": ["d", "read"]}
    return Instruction(["dec", "inc"], arguments, stop=t == n)


def swap(t: int, n: int) -> Instruction:
    """Load p, q and v = A[p]; put A[q] into cell p, then v into cell q."""
    if t == 0:
        return Instruction(["read", "one", "v"], {"read": ["q"], "write": ["zero", "read"]})
    if t == 1:
        return Instruction(["p", "read", "v"], {"read": ["q"], "write": ["one", "read"]})
    if t == 2:
        return Instruction(["p", "q", "read"], {"read": ["p"], "write": ["p", "read"]})
    if t == 3:
        return Instruction(["p", "q", "v"], {"read": ["q"], "write": ["p", "read"]})
    return Instruction(["p", "q", "v"], {"write": ["q", "v"]}, stop=True)


def permute(t: int, n: int) -> Instruction:
    """Load a; then for i = 1, 2, ...: d = a + READ(i) in one step, and READ(d) into cell i in the next."""
    if t == 0:
        return Instruction(["read", "one", "d"], {"read": ["d"], "write": ["zero", "read"]})
    if t % 2:
        return Instruction(["a", "i", "add"], {"read": ["i"], "add": ["a", "read"], "write": ["i", "read"]})
    return Instruction(["a", "inc", "d"], {"read": ["d"], "inc": ["i"], "write": ["i", "read"]}, stop=t == 2 * n)


#: Task -> names of the registers and the program.
PROGRAMS: Mapping[str, tuple[Sequence[str], Program]] = {
    "access": (["r"], access),
    "increment": (["i"], increment),
    "copy": (["d", "s"], copy),
    "reverse": (["d", "s"], reverse),
    "swap": (["p", "q", "v"], swap),
    "permutation": (["a", "i", "d"], permute),
}

LISTK_REGISTERS = ("p", "v", "k", "q")
#: ListK by the registers that are zero: pointer p, address of the value v, hops k, and q = 1 in the second step alone.
LISTK = {
    "A": Instruction(["read", "inc", "zero", "one"], {"read": ["p"]}),
    "B": Instruction(["p", "v", "read", "zero"], {"read": ["q"]}),
    "C": Instruction(["read", "inc", "dec", "q"], {"read": ["p"]}),
    "D": Instruction(["p", "v", "k", "q"], {"read": ["v"]}, stop=True),
}
ALWAYS = {"inc": ["read"], "dec": ["k"], "write": ["two", "read"]}


def listk_machine(sharpness: float = 20.0) -> NRAM:
    """Return a machine whose weights are the ListK program: an MLP tells the states A to D by the zero flags.

    Args:
        sharpness: logit of each wanted choice, L; the probability of all others is about e^-L.
    """
    machine = NRAM(registers=4, units=4, controller="mlp")
    rows = [
        choices(machine.wiring, LISTK_REGISTERS, Instruction(i.registers, {**ALWAYS, **i.arguments}, i.stop))
        for i in LISTK.values()
    ]
    first = torch.tensor([0, *machine.wiring.sizes[:-1]]).cumsum(0)
    assert isinstance(machine.controller, MLPController)
    flags, states = machine.controller.first, machine.controller.second
    with torch.no_grad():
        # columns: z_p, z_v, z_k, z_q, each 1 where the register is zero
        flags.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [-1, 0, 0, -1], [-1, 0, -1, 1], [-1, 0, 1, 1]]))
        flags.bias.copy_(torch.tensor([0.0, 1, 0, -1]))
        states.weight.copy_(torch.eye(4))
        states.bias.zero_()
        for parameter in (machine.choices.weight, machine.choices.bias, machine.stop.bias):
            parameter.zero_()
        for unit, row in enumerate(rows):
            machine.choices.weight[first + torch.tensor(row), unit] = sharpness
        machine.stop.weight.copy_(torch.tensor([[sharpness if i.stop else -sharpness for i in LISTK.values()]]))
    return machine
