"""The circuit as one torch operator: a compiled kernel for float32 on a CPU, the definition everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradnoise.gaussian import backend
from gradnoise.paper.nram.circuit import circuit
from gradnoise.paper.nram.wiring import ARITY, MODULES, Wiring


def run_circuit(
    wiring: Wiring, logits: Tensor, registers: Tensor, memory: Tensor, limit: Tensor, renormalise: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """`circuit`, by the fastest way there is for these tensors."""
    if memory.dtype == torch.float32 and memory.device.type == "cpu" and backend() == "numba":
        limits = limit.expand(memory.shape[:-2])
        return _forward(logits, registers, memory, limits, wiring.codes, renormalise)
    return circuit(wiring, logits, registers, memory, limit, renormalise)


@torch.library.custom_op("gradnoise::nram_circuit", mutates_args=())
def _forward(
    logits: Tensor, registers: Tensor, memory: Tensor, limits: Tensor, codes: Sequence[int], renormalise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    from gradnoise.paper.nram import kernel

    new, after = torch.empty_like(registers), torch.empty_like(memory)
    entropy = logits.new_empty(logits.shape[0])
    r, m = registers.shape[1:]
    kernel.run(np.array(codes), r, m, logits.shape[1], renormalise, *map(_flat, (logits, registers, memory)),
               *map(_flat, (new, after, entropy)), *_scratch(codes, r, m, logits.shape[1]))  # fmt: skip
    return new, after, entropy


@torch.library.custom_op("gradnoise::nram_circuit_backward", mutates_args=())
def _backward(
    logits: Tensor,
    registers: Tensor,
    memory: Tensor,
    limits: Tensor,
    g_new: Tensor,
    g_after: Tensor,
    g_entropy: Tensor,
    codes: Sequence[int],
    renormalise: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    from gradnoise.paper.nram import kernel

    results = torch.empty_like(logits), torch.empty_like(registers), torch.empty_like(memory)
    r, m = registers.shape[1:]
    given = (logits, registers, memory, limits, g_new, g_after, g_entropy)
    offsets = _offsets(codes, r)
    kernel.run_backward(np.array(codes), offsets, r, m, logits.shape[1], renormalise,
                        *map(_flat, given), *map(_flat, results), *_scratch(codes, r, m, logits.shape[1]),
                        *_space(len(offsets) * m, m, r * m, m * m, 2))  # fmt: skip
    return results


def _offsets(codes: Sequence[int], r: int) -> np.ndarray:
    """Where the logits of each choice begin."""
    sources = [r + i for i, code in enumerate(codes) for _ in range(ARITY[MODULES[code]])]
    return np.cumsum([0, *sources, *[r + len(codes)] * (r - 1)])


def _flat(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().view(-1).numpy()


def _scratch(codes: Sequence[int], r: int, m: int, logits: int) -> list[np.ndarray]:
    """Logits, weights, sources, arguments, versions of the memory, new registers of a block of machines."""
    arguments = sum(ARITY[MODULES[code]] for code in codes)
    versions = 1 + sum(MODULES[code] == "write" for code in codes)
    return _space(logits, logits, (r + len(codes)) * m, arguments * m, versions * m * m, r * m)


def _space(*vectors: int) -> list[np.ndarray]:
    """Zeros for these numbers of vectors of 16, at the start of cache lines."""
    return [torch.zeros(16 * count).numpy() for count in vectors]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.codes, ctx.renormalise = inputs[4:]


def _gradient(ctx: Any, *g: Tensor | None) -> tuple[Tensor | None, ...]:
    grads = _backward(*ctx.saved_tensors, *g, ctx.codes, ctx.renormalise)
    return (*grads, None, None, None)


def _batched(operator: Any, tensors: int) -> Any:
    """vmap: machines of different replicas are machines side by side."""

    def rule(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> tuple[Any, Any]:
        size = info.batch_size
        xs = [
            x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(arguments[:tensors], in_dims, strict=False)
        ]
        outputs = operator(*[x.flatten(0, 1) for x in xs], *arguments[tensors:])
        return tuple(y.unflatten(0, (size, -1)) for y in outputs), (0,) * len(outputs)

    return rule


_forward.register_autograd(_gradient, setup_context=_setup)
_forward.register_vmap(_batched(_forward, 4))
_backward.register_vmap(_batched(_backward, 7))
