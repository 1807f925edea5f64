"""Whole runs of machines as one torch operator: compiled code for float32 on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradnoise.noise import backend
from gradnoise.paper.nram.kernel.layout import KINDS, LSTM, Block, Gradients, Run, Shape, Wires
from gradnoise.paper.nram.machine.modules_table import BY_CODE
from gradnoise.population import vmap_rule


class Setting(NamedTuple):
    """What is not a tensor, in plain integers, as an operator takes them.

    Args:
        kind: of the controller, one of `KINDS`.
        registers, units: R, H.
        renormalise: 1 where distributions are divided by their sums, else 0.
        steps: T.
        output, outputs: the first cell that is returned, and how many are.
    """

    kind: int
    registers: int
    units: int
    renormalise: int
    steps: int
    output: int
    outputs: int


def available(memory: Tensor) -> bool:
    """Return whether there is compiled code for machines with such a memory."""
    return memory.dtype == torch.float32 and memory.device.type == "cpu" and backend() == "numba"


def run(
    weights: Tensor,
    memory: Tensor,
    limit: Tensor,
    *,
    kind: str,
    registers: int,
    units: int,
    codes: Sequence[int],
    renormalise: bool,
    steps: int,
    outputs: slice,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the machines of one replica.

    Args:
        weights: of its controller's two layers and of the output layer, flat: of each the matrix [out, in], then
            the bias. The output layer emits the logits of all choices, then that to stop.
        memory: distributions at the start [B, M, M].
        limit: scalar bound on the gradients of intermediate values, C1.
        kind: of the controller, a key of `KINDS`.
        registers, units: R, H.
        codes: of the modules of a step in order, see `modules_table`.
        renormalise: whether distributions are divided by their sums.
        steps: T.
        outputs: cells to return.

    Returns:
        Probabilities to stop [B, T], output cells after each step [B, T, O, M], entropies [B, T].
    """
    cells = range(memory.shape[-1])[outputs]
    setting = Setting(KINDS[kind], registers, units, int(renormalise), steps, cells.start, len(cells))
    keep = torch.is_grad_enabled()
    stop, answers, entropy, _ = _run(weights[None], memory[None], limit.reshape(1), codes, list(setting), keep)
    return stop[0], answers[0], entropy[0]


@torch.library.custom_op("gradnoise::nram", mutates_args=())
def _run(
    weights: Tensor, memory: Tensor, limits: Tensor, codes: Sequence[int], setting: Sequence[int], keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run P replicas: probabilities to stop, answers, entropies, and where `keep` what the way back needs."""
    from gradnoise.paper.nram.kernel import lanes, machine

    s, (p, b, m, _) = Setting(*setting), memory.shape
    wires, shape = _wires(tuple(codes), s.registers), _shape(codes, s, p, b, m)
    stop, entropy = weights.new_empty(p, b, s.steps), weights.new_empty(p, b, s.steps)
    answers = weights.new_empty(p, b, s.steps, s.outputs, m)
    size = machine.state_size(shape) if keep else 0
    saved = weights.new_empty(p, -(-b // lanes.WIDTH), s.steps, size, lanes.WIDTH)

    def part(replicas: int, w: np.ndarray, x: np.ndarray, *out: np.ndarray) -> None:
        machine.run(shape._replace(replicas=replicas), wires, keep, w, x, Run(*out[:3]), out[3], _block(shape, wires))

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
    """Return the gradient of the weights [P, N]."""
    from gradnoise.paper.nram.kernel import machine

    s, (p, b, *_, m) = Setting(*setting), g_answers.shape
    wires, shape = _wires(tuple(codes), s.registers), _shape(codes, s, p, b, m)
    found = torch.empty_like(weights)

    def part(replicas: int, w: np.ndarray, *rest: np.ndarray) -> None:
        kept, bounds, *given, out = rest
        machine.run_backward(shape._replace(replicas=replicas), wires, w, kept, bounds, Run(*given), out,
                             _block(shape, wires), _gradients(shape, wires))  # fmt: skip

    _on_threads(part, weights, saved, limits, g_stop, g_answers, g_entropy, found)
    return found


def _on_threads(work: Callable[..., None], *tensors: Tensor) -> None:
    """Call work(replicas, *arrays) on the replicas of tensors [P, ...], in as many parts as torch has threads."""
    count = min(torch.get_num_threads(), len(tensors[0]))
    parts = zip(*(x.tensor_split(count) for x in tensors), strict=True)
    calls = [(len(part[0]), *map(_flat, part)) for part in parts]
    if count == 1:
        work(*calls[0])
        return
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda call: work(*call), calls))


def _flat(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().view(-1).numpy()


# --- what the kernel is given -------------------------------------------------------------------------


def _shape(codes: Sequence[int], s: Setting, replicas: int, batch: int, cells: int) -> Shape:
    modules = [BY_CODE[code] for code in codes]
    sources = s.registers + len(codes)
    logits = sum((s.registers + i) * module.arity for i, module in enumerate(modules)) + s.registers * sources
    writes = sum(module.name == "write" for module in modules)
    return Shape(s.kind, s.registers, cells, s.units, logits, writes, bool(s.renormalise), s.steps, replicas, batch,
                 s.output, s.outputs)  # fmt: skip


@lru_cache(maxsize=64)
def _wires(codes: tuple[int, ...], registers: int) -> Wires:
    modules = [BY_CODE[code] for code in codes]
    sizes = [registers + i for i, module in enumerate(modules) for _ in range(module.arity)]
    sizes += [registers + len(codes)] * (registers - 1)
    return Wires(
        np.array(codes),
        np.array([module.arity for module in modules]),
        np.array([module.drifting for module in modules]),
        np.array([-1 if module.constant is None else module.constant for module in modules]),
        np.cumsum([0, *sizes]),
    )


def _block(shape: Shape, wires: Wires) -> Block:
    r, m = shape.registers, shape.cells
    sources, arguments = r + len(wires.codes), int(wires.arities.sum())
    return Block(*_space(shape.logits + 1, shape.logits, sources * m, arguments * m, (shape.writes + 1) * m * m, r * m,
                         _controller(shape), 1))  # fmt: skip


def _gradients(shape: Shape, wires: Wires) -> Gradients:
    r, m, n = shape.registers, shape.cells, shape.units
    inputs, outputs = max(r, 2 * n), max(4 * n, shape.logits + 1)
    return Gradients(*_space(len(wires.first) * m, m, r * m, m * m, _controller(shape), outputs, inputs))


def _controller(shape: Shape) -> int:
    """Return the number of vectors that a controller works on, see `controllers`."""
    return shape.registers + (10 if shape.kind == LSTM else 2) * shape.units


def _space(*vectors: int) -> list[np.ndarray]:
    """Return zeroed scratch arrays, one for each number of vectors.

    Each is SQUARE vectors longer than asked, because `rows_of` writes whole squares. Torch allocates them, as it
    aligns them to cache lines.
    """
    from gradnoise.paper.nram.kernel.lanes import SQUARE, WIDTH

    return [torch.zeros(WIDTH * (count + SQUARE)).numpy() for count in vectors]


# --- autograd and vmap --------------------------------------------------------------------------------


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


_run.register_autograd(_gradient, setup_context=_setup)
_run.register_vmap(vmap_rule(_run, 3))
_backward.register_vmap(vmap_rule(_backward, 6))
