"""What a machine does on one problem, step by step: which sources its modules take, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnoise.paper.nram.machine.checks import check_distributions, check_integers
from gradnoise.paper.nram.machine.circuit import circuit_and_sources
from gradnoise.paper.nram.machine.hard import execute, run_hard
from gradnoise.paper.nram.machine.model import NRAM, Run
from gradnoise.paper.nram.machine.wiring import ARITY, Wiring
from gradnoise.paper.nram.problems.exam import start
from gradnoise.paper.nram.watch.oracles import Program, choices

Values = Sequence[tuple[int, float]]
"""The most likely integers and their probabilities."""


@dataclass(frozen=True)
class Step:
    """One time step of a soft or hard machine.

    Args:
        choices: the source with the largest weight for each choice, in the order of `Wiring.sizes`, and its weight.
        sources: the registers before the step, then the outputs of the modules.
        registers, memory: afterwards.
        stop: f_t; 1 or 0 for a hard machine.
    """

    choices: Values
    sources: Values
    registers: Values
    memory: Values
    stop: float


@dataclass(frozen=True)
class Trace:
    """A run on one problem.

    Args:
        wiring: of the machine.
        names: of its registers.
        before: memory at the start.
        steps: time steps; a hard run ends where it stops.
        answer: memory at the end; a soft machine's is the average over the time of stop.
    """

    wiring: Wiring
    names: Sequence[str]
    before: Sequence[int]
    steps: Sequence[Step]
    answer: Values


@torch.no_grad()
def trace_soft(machine: NRAM, memory: Tensor, steps: int, names: Sequence[str] = ()) -> Trace:
    """The machine as it was trained, for `steps` time steps.

    Args:
        machine: any.
        memory: integers [M], or distributions [M, M], one row per cell.
        steps: T.
        names: of the registers; r1, r2, ... where there are none.

    Raises:
        ValueError: the memory is no memory.
    """
    wiring, cells = machine.wiring, memory.shape[-1]
    if memory.dim() == 1:
        check_integers(memory, cells)
        memory = start(memory, cells, machine.stop.weight.dtype)
    check_distributions(memory)
    now, registers = memory[None], start(torch.zeros(1, wiring.registers, dtype=torch.int64), cells, memory.dtype)
    moments, shown = [], []
    for moment in machine.moments(now, steps):
        *_, sources = circuit_and_sources(
            wiring, moment.logits, registers, now, registers.new_tensor(torch.inf), machine.renormalise
        )
        weights = [x.softmax(-1)[0] for x in moment.logits.split(wiring.sizes, -1)]
        shown.append(
            Step(
                [_top(w) for w in weights],
                _tops(sources[0]),
                _tops(moment.registers[0]),
                _tops(moment.memory[0]),
                moment.stop.item(),
            )
        )
        now, registers = moment.memory, moment.registers
        moments.append(moment)
    run = Run(*(torch.stack([getattr(m, x) for m in moments], 1) for x in ("stop", "memory", "entropy")))
    return Trace(wiring, _named(wiring, names), memory.argmax(-1).tolist(), shown, _tops(run.answer[0]))


@torch.no_grad()
def trace_hard(machine: NRAM, memory: Tensor, steps: int, names: Sequence[str] = ()) -> Trace:
    """The machine whose choices are all the most likely ones, on integers [M], until it stops; see `trace_soft`."""
    check_integers(memory, memory.shape[-1])
    shown, registers = [], torch.zeros(1, machine.wiring.registers, dtype=torch.int64)
    for m in run_hard(machine, memory[None], steps):
        shown.append(_integers(m.choices, registers, m.outputs, m.registers, m.memory, bool(m.stops)))
        registers = m.registers
        if m.stops:
            break
    return Trace(machine.wiring, _named(machine.wiring, names), memory.tolist(), shown, shown[-1].memory)


def trace_program(program: Program, names: Sequence[str], memory: Tensor, n: int) -> Trace:
    """A program written by hand, on a problem of size n, integers [M]."""
    check_integers(memory, memory.shape[-1])
    wiring, shown, stops = Wiring(len(names)), [], False
    registers, now = torch.zeros(1, len(names), dtype=torch.int64), memory[None]
    while not stops:
        instruction = program(len(shown), n)
        chosen, stops = torch.tensor([choices(wiring, names, instruction)]), instruction.stop
        before = registers
        registers, now, outputs = execute(wiring, chosen, before, now)
        shown.append(_integers(chosen, before, outputs, registers, now, stops))
    return Trace(wiring, names, memory.tolist(), shown, shown[-1].memory)


def taken(trace: Trace, step: Step, place: int) -> Values:
    """Sources and weights of what a module takes, by its place; by place Q, of what the new registers are."""
    wiring = trace.wiring
    first = sum(ARITY[name] for name in wiring.sequence[:place])
    count = ARITY[wiring.sequence[place]] if place < len(wiring.sequence) else wiring.registers
    return step.choices[first : first + count]


def live(trace: Trace, step: Step) -> list[int]:
    """Places of the modules whose output reaches a register or the memory, by the choices of most weight."""
    wiring = trace.wiring
    writes = [i for i, name in enumerate(wiring.sequence) if name == "write"]
    waiting = writes + [s - wiring.registers for s, _ in taken(trace, step, len(wiring.sequence))]
    used = set()
    while waiting:
        place = waiting.pop()
        if place >= 0 and place not in used:
            used.add(place)
            waiting += [s - wiring.registers for s, _ in taken(trace, step, place)]
    return sorted(used)


def source_names(trace: Trace) -> list[str]:
    """Registers, then modules; those of a second pass have a number."""
    size = len(trace.wiring.modules)
    modules = [name if i < size else f"{name}{i // size + 1}" for i, name in enumerate(trace.wiring.sequence)]
    return [*trace.names, *modules]


def _named(wiring: Wiring, names: Sequence[str]) -> Sequence[str]:
    return names or [f"r{i + 1}" for i in range(wiring.registers)]


def _integers(choices: Tensor, before: Tensor, outputs: Tensor, registers: Tensor, memory: Tensor, stops: bool) -> Step:
    sources = torch.cat([before, outputs], -1)
    certain = ([(v, 1.0) for v in x[0].tolist()] for x in (choices, sources, registers, memory))
    return Step(*certain, stop=float(stops))


def _tops(x: Tensor) -> Values:
    return [_top(row) for row in x]


def _top(x: Tensor) -> tuple[int, float]:
    value = int(x.argmax())
    return value, float(x[value])
