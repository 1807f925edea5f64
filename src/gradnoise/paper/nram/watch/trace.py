"""What a machine does on one problem, step by step: which sources its modules take, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnoise.paper.nram.machine.checks import check_distributions, check_integers
from gradnoise.paper.nram.machine.circuit import circuit_and_sources
from gradnoise.paper.nram.machine.hard import HardMoment, run_hard
from gradnoise.paper.nram.machine.model import NRAM, Run
from gradnoise.paper.nram.machine.wiring import Wiring
from gradnoise.paper.nram.problems.exam import start
from gradnoise.paper.nram.watch.oracles import Program, run_program

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
    """Trace the machine as it was trained, for `steps` time steps.

    Args:
        machine: any.
        memory: integers [M], or distributions [M, M], one row per cell.
        steps: T.
        names: of the registers; r1, r2, ... where there are none.

    Raises:
        PopulationError: the memory is no memory.
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
    """Trace the machine whose choices are all the most likely ones, until it stops.

    Args:
        machine: any.
        memory: integers [M].
        steps: T, where it stops at the latest.
        names: of the registers; r1, r2, ... where there are none.
    """
    check_integers(memory, memory.shape[-1])
    return _hard_trace(machine.wiring, names, memory, run_hard(machine, memory[None], steps))


def trace_program(program: Program, names: Sequence[str], memory: Tensor, n: int) -> Trace:
    """Trace a program written by hand, on a problem of size n, integers [M]."""
    check_integers(memory, memory.shape[-1])
    return _hard_trace(Wiring(len(names)), names, memory, run_program(program, names, memory[None], n))


def _hard_trace(wiring: Wiring, names: Sequence[str], memory: Tensor, moments: Iterable[HardMoment]) -> Trace:
    """Trace moments [1, ...] on integers up to the first that stops."""
    shown, registers = [], torch.zeros(1, wiring.registers, dtype=torch.int64)
    for moment in moments:
        sources = torch.cat([registers, moment.outputs], -1)
        values = (moment.choices, sources, moment.registers, moment.memory)
        certain = ([(v, 1.0) for v in x[0].tolist()] for x in values)
        shown.append(Step(*certain, stop=float(moment.stops)))
        registers = moment.registers
        if moment.stops:
            break
    return Trace(wiring, _named(wiring, names), memory.tolist(), shown, shown[-1].memory)


def taken(trace: Trace, step: Step, place: int) -> Values:
    """Return sources and weights of what the module at `place` takes; at place Q, of what the new registers take."""
    wiring = trace.wiring
    first = sum(module.arity for module in wiring.sequence[:place])
    count = wiring.sequence[place].arity if place < len(wiring.sequence) else wiring.registers
    return step.choices[first : first + count]


def live(trace: Trace, step: Step) -> list[int]:
    """Return the places of the modules whose output reaches a register or the memory, by the choices of most weight."""
    wiring = trace.wiring
    writes = [i for i, module in enumerate(wiring.sequence) if module.name == "write"]
    waiting = writes + [s - wiring.registers for s, _ in taken(trace, step, len(wiring.sequence))]
    used = set()
    while waiting:
        place = waiting.pop()
        if place >= 0 and place not in used:
            used.add(place)
            waiting += [s - wiring.registers for s, _ in taken(trace, step, place)]
    return sorted(used)


def source_names(trace: Trace) -> list[str]:
    """Return the names of the registers, then of the modules; those of a second pass have a number."""
    passes = range(1, trace.wiring.passes + 1)
    modules = [name if k == 1 else f"{name}{k}" for k in passes for name in trace.wiring.modules]
    return [*trace.names, *modules]


def _named(wiring: Wiring, names: Sequence[str]) -> Sequence[str]:
    return names or [f"r{i + 1}" for i in range(wiring.registers)]


def _tops(x: Tensor) -> Values:
    return [_top(row) for row in x]


def _top(x: Tensor) -> tuple[int, float]:
    value = int(x.argmax())
    return value, float(x[value])
