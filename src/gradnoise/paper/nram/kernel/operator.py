"""Whole runs of machines as one torch operator: compiled code for float32 on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradnoise.noise.gaussian import backend
from gradnoise.paper.nram.machine.controller import CONTROLLERS
from gradnoise.paper.nram.machine.wiring import ARITY, MODULES

if TYPE_CHECKING:
    from gradnoise.paper.nram.machine.model import NRAM


class _Setting(NamedTuple):
    """What is not a tensor; plain integers, as an operator takes them."""

    kind: int
    registers: int
    units: int
    renormalise: int
    steps: int
    cell: int
    cells: int


def available(memory: Tensor) -> bool:
    """Whether there is compiled code for machines with such a memory."""
    return memory.dtype == torch.float32 and memory.device.type == "cpu" and backend() == "numba"


def run(machine: NRAM, memory: Tensor, steps: int, outputs: slice, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities to stop [B, T], output cells [B, T, O, M], entropies [B, T]; arguments as of `NRAM.forward`."""
    controller, wiring = machine.controller, machine.wiring
    parameters = [x for layer in controller.layers() for x in (layer.weight, layer.bias)]
    parameters += [machine.choices.weight, machine.stop.weight, machine.choices.bias, machine.stop.bias]
    weights = torch.cat([x.flatten() for x in parameters])
    cells = range(memory.shape[-1])[outputs]
    kind = list(CONTROLLERS.values()).index(type(controller))
    setting = _Setting(
        kind, wiring.registers, controller.units, int(machine.renormalise), steps, cells.start, len(cells)
    )
    keep = torch.is_grad_enabled()
    stop, answers, entropy, _ = _run(weights[None], memory[None], limit.reshape(1), wiring.codes, list(setting), keep)
    return stop[0], answers[0], entropy[0]


@torch.library.custom_op("gradnoise::nram", mutates_args=())
def _run(
    weights: Tensor, memory: Tensor, limits: Tensor, codes: Sequence[int], setting: Sequence[int], keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Runs of P replicas: probabilities to stop, answers, entropies, and where `keep` what the way back needs."""
    from gradnoise.paper.nram.kernel import machine

    s, (p, b, m, _) = _Setting(*setting), memory.shape
    logits = _logits(codes, s.registers)
    stop, entropy = weights.new_empty(p, b, s.steps), weights.new_empty(p, b, s.steps)
    answers = weights.new_empty(p, b, s.steps, s.cells, m)
    size = machine.state_size(s.kind, s.registers, m, s.units) if keep else 0
    saved = weights.new_empty(p, -(-b // machine.WIDTH), s.steps, size, machine.WIDTH)

    def part(*arrays: np.ndarray) -> None:
        replicas = len(arrays[0]) // weights.shape[1]
        machine.run(s.kind, np.array(codes), s.registers, m, s.units, logits, bool(s.renormalise), s.steps,
                    replicas, b, s.cell, s.cells, keep, *arrays, *_scratch(codes, s, m))  # fmt: skip

    _on_threads(part, weights, memory, stop, answers, entropy, saved)
    return stop, answers, entropy, saved


@torch.library.custom_op("gradnoise::nram_backward", mutates_args=())
def _backward(
    weights: Tensor,
    limits: Tensor,
    saved: Tensor,
    g_stop: Tensor,
    g_answers: Tensor,
    g_entropy: Tensor,
    codes: Sequence[int],
    setting: Sequence[int],
) -> Tensor:
    """Gradient of the weights [P, N]."""
    from gradnoise.paper.nram.kernel import machine

    s, b, m = _Setting(*setting), g_answers.shape[1], g_answers.shape[-1]
    r, n, logits, offsets = s.registers, s.units, _logits(codes, s.registers), _offsets(codes, s.registers)
    inputs, outputs = max(r, 2 * n), max(4 * n, logits + 1)
    space = (len(offsets) * m, m, r * m, m * m, _controller(s), outputs, inputs)
    found = torch.empty_like(weights)

    def part(*arrays: np.ndarray) -> None:
        replicas = len(arrays[0]) // weights.shape[1]
        machine.run_backward(s.kind, np.array(codes), offsets, r, m, n, logits, bool(s.renormalise), s.steps,
                             replicas, b, s.cell, s.cells, *arrays,
                             *_scratch(codes, s, m), *_space(*space))  # fmt: skip

    _on_threads(part, weights, saved, limits, g_stop, g_answers, g_entropy, found)
    return found


def _on_threads(work: Callable[..., None], *tensors: Tensor) -> None:
    """Call work on the replicas of tensors [P, ...], as flat arrays, in as many parts as torch has threads."""
    count = min(torch.get_num_threads(), len(tensors[0]))
    parts = zip(*(map(_flat, x.tensor_split(count)) for x in tensors), strict=True)
    if count == 1:
        work(*next(parts))
        return
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda part: work(*part), parts))


def _logits(codes: Sequence[int], r: int) -> int:
    return int(_offsets(codes, r)[-1]) + r + len(codes)


def _offsets(codes: Sequence[int], r: int) -> np.ndarray:
    """Where the logits of each choice begin."""
    sources = [r + i for i, code in enumerate(codes) for _ in range(ARITY[MODULES[code]])]
    return np.cumsum([0, *sources, *[r + len(codes)] * (r - 1)])


def _flat(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().view(-1).numpy()


def _scratch(codes: Sequence[int], s: _Setting, m: int) -> list[np.ndarray]:
    """Logits, weights, sources, arguments, versions of the memory, new registers, controller, entropy of a block."""
    logits = _logits(codes, s.registers)
    arguments = sum(ARITY[MODULES[code]] for code in codes)
    versions = 1 + sum(MODULES[code] == "write" for code in codes)
    sources = s.registers + len(codes)
    return _space(logits + 1, logits, sources * m, arguments * m, versions * m * m, s.registers * m, _controller(s), 1)


def _controller(s: _Setting) -> int:
    """Vectors that a controller works on."""
    from gradnoise.paper.nram.kernel import machine

    return s.registers + (10 if s.kind == machine.LSTM else 2) * s.units


def _space(*vectors: int) -> list[np.ndarray]:
    """Zeros for these numbers of vectors, and some more, as rows are written by eights; torch begins cache lines."""
    from gradnoise.paper.nram.kernel import machine

    return [torch.zeros(machine.WIDTH * (count + machine.SQUARE)).numpy() for count in vectors]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    weights, _, limits, ctx.codes, ctx.setting, _ = inputs
    ctx.save_for_backward(weights, limits, output[3], *output[:3])
    ctx.mark_non_differentiable(output[3])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    *given, stop, answers, entropy = ctx.saved_tensors
    outputs = (stop, answers, entropy)
    full = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, outputs, strict=False)]
    return _backward(*given, *full, ctx.codes, ctx.setting), None, None, None, None, None


def _batched(operator: Any, tensors: int) -> Any:
    """vmap: replicas are replicas side by side."""

    def rule(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> tuple[Any, Any]:
        size = info.batch_size
        xs = [
            x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(arguments[:tensors], in_dims, strict=False)
        ]
        outputs = operator(*[x.flatten(0, 1) for x in xs], *arguments[tensors:])
        if isinstance(outputs, Tensor):
            return outputs.unflatten(0, (size, -1)), 0
        return tuple(y.unflatten(0, (size, -1)) for y in outputs), (0,) * len(outputs)

    return rule


_run.register_autograd(_gradient, setup_context=_setup)
_run.register_vmap(_batched(_run, 3))
_backward.register_vmap(_batched(_backward, 6))
