"""Whole runs of diagonal Neural GPUs as torch operators for a CPU: loss and gradient in one go, all lengths at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradnoise.noise.gaussian import bernoulli_rows_
from gradnoise.paper.neural_gpu.diagonal import steps
from gradnoise.paper.neural_gpu.tasks import PAD
from gradnoise.population import vmap_rule

#: Masks of dropout at step t and position k of the strip come from step t * MOST_POSITIONS + k of the replica's stream.
MOST_POSITIONS = 1 << 16


def loss(
    weights: Tensor,
    tokens: Tensor,
    targets: Tensor,
    key: Tensor,
    rate: Tensor,
    weight: Tensor,
    lengths: Sequence[int],
    maps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return loss, cross entropy, saturation cost and share of wrong problems of one replica; vmap adds a leading [P].

    The loss is the mean over bins of the mean cross entropy over all positions, plus weight * saturation cost. That is
    the mean over bins of relu(|x| - 0.9), summed over all maps of what the input, the gates and the candidates are
    functions of, over n^2 B; the input counts n times.

    Args:
        weights: `DiagonalNeuralGPU.flat` [N].
        tokens: symbols of a strip, int64 [L, B].
        targets: answers, int64 [L, B], `PAD` where nothing counts.
        key: of the dropout masks, int64 scalar.
        rate: of dropout in [0, 1), scalar.
        weight: of the saturation cost, scalar.
        lengths: n of the bins.
        maps: m.
    """
    inputs = (x[None] for x in (weights, tokens, targets, key, rate, weight))
    total, nats, cost, wrong, _ = _loss(*inputs, list(lengths), maps)
    return total[0], nats[0], cost[0], wrong[0]


def logits(weights: Tensor, tokens: Tensor, maps: int) -> Tensor:
    """Return logits [B, n, 3] of one replica on symbols [B, n], without dropout and without gradient; vmap adds [P]."""
    return _logits(weights[None], tokens[None], maps)[0]


def masks(key: Tensor, rate: Tensor, counts: Sequence[int], size: int) -> Tensor:
    """Return dropout masks of one replica, 0 or 1 / (1 - rate), [sum of counts, size]; vmap adds a leading [P].

    Args:
        key: of the masks, int64 scalar.
        rate: of dropout, scalar.
        counts: positions of the strip at every step.
        size: elements at a position, B * m.
    """
    return _masks(key[None], rate[None], list(counts), size)[0]


@torch.library.custom_op("gradnoise::diagonal_neural_gpu_loss", mutates_args=())
def _loss(
    weights: Tensor,
    tokens: Tensor,
    targets: Tensor,
    keys: Tensor,
    rates: Tensor,
    costs: Tensor,
    lengths: Sequence[int],
    maps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run P replicas: losses, cross entropies, saturation costs, shares of wrong problems [P], gradients [P, N]."""
    strip, found = steps.Strip(lengths), torch.zeros_like(weights)
    out = weights.new_empty(4, len(weights))
    counts = [strip.size, *strip.widths]
    batch, b = len(strip.bins), tokens.shape[-1]
    mean = strip.shares([1 / (n * b * batch) for n in strip.lengths], weights)
    by_area = strip.shares([1 / (n * n * b * batch) for n in strip.lengths], weights)
    for p in range(len(weights)):
        own, own_found = weights[p].clone(), torch.zeros_like(weights[p])  # a row's bits hang on where it lies
        w, gradient = (steps.Weights.of(x, maps) for x in (own, own_found))
        filters, wanted = steps.Filters.of(w), targets[p]
        there = (wanted != PAD).to(weights.dtype)[..., None]
        dropped: list[Tensor] = []
        if rates[p] > 0:
            rows = _filled(keys[p : p + 1], rates[p : p + 1], counts, b * maps)[0]
            dropped = [x.view(-1, b, maps) for x in rows.split(counts)]
        tape = steps.forward(w, filters, tokens[p], strip, there, dropped, keep=True)
        log_p = torch.log_softmax(tape.last @ w.output.mT + w.output_bias, -1)
        nats = -(log_p.gather(-1, wanted[..., None])[..., 0] * mean).sum()
        share = there * by_area[..., None]
        saturation = steps.saturation(tape, strip, share)
        out[:, p] = torch.stack(
            [nats + costs[p] * saturation, nats, saturation, wrong(log_p.argmax(-1), wanted, strip).to(nats)]
        )
        by_logits = log_p.exp_()
        by_logits.scatter_add_(-1, wanted[..., None], torch.full_like(by_logits[..., :1], -1.0))
        by_logits.mul_(mean[..., None])
        cost = costs[p] * share if costs[p] > 0 else None
        steps.backward(w, filters, gradient, tokens[p], strip, tape, by_logits, cost, there, dropped)
        found[p] = own_found
    return out[0], out[1].clone(), out[2].clone(), out[3].clone(), found


def wrong(answers: Tensor, targets: Tensor, strip: steps.Strip) -> Tensor:
    """Return the share of problems with a wrong digit, the mean over bins, given symbols [L, B]."""
    bad = ((answers != targets) & (targets != PAD)).to(torch.float32)
    return torch.stack([bad[start : start + n].amax(0).mean() for start, n in strip.bins]).mean()


@torch.library.custom_op("gradnoise::diagonal_neural_gpu_logits", mutates_args=())
def _logits(weights: Tensor, tokens: Tensor, maps: int) -> Tensor:
    """Run P replicas without dropout: logits [P, B, n, 3]."""
    strip, found = steps.Strip([tokens.shape[-1]]), []
    there = strip.shares([1.0], weights)[..., None]
    for flat, seen in zip(weights, tokens, strict=True):
        w = steps.Weights.of(flat.clone(), maps)
        rows = torch.nn.functional.pad(seen.mT, (0, 0, 0, 1))
        last = steps.forward(w, steps.Filters.of(w), rows, strip, there, [], keep=False).last[:-1]
        found.append((last @ w.output.mT + w.output_bias).transpose(0, 1).contiguous())
    return torch.stack(found)


@torch.library.custom_op("gradnoise::diagonal_neural_gpu_masks", mutates_args=())
def _masks(keys: Tensor, rates: Tensor, counts: Sequence[int], size: int) -> Tensor:
    """Draw masks of P replicas [P, sum of counts, size], in the precision of the rates."""
    return _filled(keys, rates, counts, size)


def _filled(keys: Tensor, rates: Tensor, counts: Sequence[int], size: int) -> Tensor:
    device, each = rates.device, sum(counts)
    at = torch.cat([t * MOST_POSITIONS + torch.arange(count, device=device) for t, count in enumerate(counts)])
    out = torch.empty(len(keys), each, size, dtype=rates.dtype, device=device)
    rows = keys.repeat_interleave(each).view(torch.uint64)
    keep = (1 - rates.double()).repeat_interleave(each)
    bernoulli_rows_(out.view(-1, size), keys=rows, t=at.repeat(len(keys)), keep=keep)
    return out


# --- autograd and vmap --------------------------------------------------------------------------------


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(output[4])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    (found,) = ctx.saved_tensors
    by_weights = None if grads[0] is None else found * grads[0][:, None]
    return (by_weights, *(None,) * 7)


_loss.register_autograd(_gradient, setup_context=_setup)
_loss.register_vmap(vmap_rule(_loss, 6))
_logits.register_vmap(vmap_rule(_logits, 2))
_masks.register_vmap(vmap_rule(_masks, 2))
