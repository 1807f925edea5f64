"""Whole runs of Neural GPUs as torch operators for a CPU: each replica on its own, for as many steps as it needs.

The replicas of a population have problems of different lengths n, and a run costs n^2. Here no replica is padded to the
length of another, and what it computes does not depend on its neighbours. Loss and gradient are made in one go, so that
only one replica's states are kept at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradnoise.noise.gaussian import bernoulli_rows_
from gradnoise.paper.neural_gpu import steps
from gradnoise.paper.neural_gpu.tasks import PAD
from gradnoise.population import vmap_rule

#: Masks of dropout at step t and position k come from step t * MOST_POSITIONS + k of the replica's stream.
MOST_POSITIONS = 1 << 16


class Setting(NamedTuple):
    """Sizes of a Neural GPU in plain integers, see `NeuralGPU`, and whether the output is read after dropout."""

    maps: int
    height: int
    layers: int
    sets: int
    kernel: int
    read_dropped: int = 0


def loss(
    weights: Tensor, tokens: Tensor, targets: Tensor, length: Tensor, key: Tensor, rate: Tensor, setting: Setting
) -> tuple[Tensor, Tensor]:
    """Return the cross entropy of one replica, the mean over B x n, and its share of wrong sequences; vmap adds [P].

    Args:
        weights: `NeuralGPU.flat` [N].
        tokens, targets: symbols, int64 [B, n or more].
        length: n, int64 scalar.
        key: of the dropout masks, int64 scalar.
        rate: of dropout in [0, 1), scalar.
        setting: sizes.
    """
    nats, wrong, _ = _loss(*(x[None] for x in (weights, tokens, targets, length, key, rate)), list(setting))
    return nats[0], wrong[0]


def logits(weights: Tensor, tokens: Tensor, setting: Setting) -> Tensor:
    """Return logits [B, n, symbols] of one replica without dropout and without gradient; vmap adds a leading [P]."""
    return _logits(weights[None], tokens[None], list(setting))[0]


def masks(key: Tensor, rate: Tensor, count: int, positions: int, size: int) -> Tensor:
    """Return the dropout masks of one replica, 0 or 1 / (1 - rate), [count, positions, size]; vmap adds a leading [P].

    The mask of a step and a position depends on neither how many there are.
    """
    return _masks(key[None], rate[None], count, positions, size)[0]


@torch.library.custom_op("gradnoise::neural_gpu_loss", mutates_args=())
def _loss(
    weights: Tensor,
    tokens: Tensor,
    targets: Tensor,
    lengths: Tensor,
    keys: Tensor,
    rates: Tensor,
    setting: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Run P replicas: losses [P], shares of wrong sequences [P], gradients of the weights [P, N]."""
    s, found = Setting(*setting), torch.zeros_like(weights)
    nats, wrong = weights.new_empty(len(weights)), weights.new_empty(len(weights))
    for p, n in enumerate(lengths.tolist()):
        network, gradient = (steps.Weights.of(x[p], s.maps, s.layers, s.sets, s.kernel) for x in (weights, found))
        seen, wanted = tokens[p, :, :n], targets[p, :, :n]
        dropped = None
        if rates[p] > 0:
            dropped = _filled(keys[p : p + 1], rates[p : p + 1], n + 1, n, seen.shape[0] * s.height * s.maps)[0]
            dropped = dropped.view(n + 1, n, seen.shape[0], s.height, s.maps).transpose(1, 2)
        out, tape = steps.forward(network, seen, s.height, n, dropped, bool(s.read_dropped), keep=True)
        log_p = torch.log_softmax(out, -1)
        nats[p] = -log_p.gather(-1, wanted[..., None]).mean()
        wrong[p] = ((out.argmax(-1) != wanted) & (wanted != PAD)).any(-1).to(nats.dtype).mean()
        by_logits = log_p.exp_()
        by_logits.scatter_add_(-1, wanted[..., None], torch.full_like(by_logits[..., :1], -1.0))
        steps.backward(network, gradient, seen, tape, by_logits / wanted.numel(), dropped, bool(s.read_dropped))
    return nats, wrong, found


@torch.library.custom_op("gradnoise::neural_gpu_logits", mutates_args=())
def _logits(weights: Tensor, tokens: Tensor, setting: Sequence[int]) -> Tensor:
    """Run P replicas without dropout: logits [P, B, n, symbols]."""
    s = Setting(*setting)
    found = []
    for w, seen in zip(weights, tokens, strict=True):
        network = steps.Weights.of(w, s.maps, s.layers, s.sets, s.kernel)
        found.append(steps.forward(network, seen, s.height, seen.shape[1], None, False, keep=False)[0])
    return torch.stack(found)


@torch.library.custom_op("gradnoise::neural_gpu_masks", mutates_args=())
def _masks(keys: Tensor, rates: Tensor, count: int, positions: int, size: int) -> Tensor:
    """Draw masks of P replicas [P, count, positions, size], in the precision of the rates."""
    return _filled(keys, rates, count, positions, size)


def _filled(keys: Tensor, rates: Tensor, count: int, positions: int, size: int) -> Tensor:
    out = torch.empty(len(keys), count, positions, size, dtype=rates.dtype, device=rates.device)
    each = count * positions
    step = torch.arange(count, device=out.device)[:, None] * MOST_POSITIONS
    t = (step + torch.arange(positions, device=out.device)).flatten().repeat(len(keys))
    rows = keys.repeat_interleave(each).view(torch.uint64)
    keep = (1 - rates.double()).repeat_interleave(each)
    bernoulli_rows_(out.view(-1, size), keys=rows, t=t, keep=keep)
    return out


# --- autograd and vmap --------------------------------------------------------------------------------


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(output[2])
    ctx.mark_non_differentiable(output[1], output[2])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    (found,) = ctx.saved_tensors
    by_weights = None if grads[0] is None else found * grads[0][:, None]
    return (by_weights, *(None,) * 6)


_loss.register_autograd(_gradient, setup_context=_setup)
_loss.register_vmap(vmap_rule(_loss, 6))
_logits.register_vmap(vmap_rule(_logits, 2))
_masks.register_vmap(vmap_rule(_masks, 2))
