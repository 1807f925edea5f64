"""The steps of one diagonal Neural GPU and the gradient of its weights, written out, for all lengths at once.

The bins lie behind one another in one strip [L, B, m], the longest first, each with an empty position behind it: so one
convolution serves all of them, zeros keep them apart, and a bin that has made its steps is left off the strip's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, hardshrink, softshrink

from gradnoise.paper.neural_gpu.tasks import SYMBOLS

KERNEL = 3
#: What a position may be answered with: nothing, 0 or 1, the first of the symbols.
ANSWERS = 3
#: Where saturation begins to cost.
SATURATED = 0.9


def blocks(maps: int) -> list[int]:
    """Return how many maps stay, come from the left, and come from the right."""
    k = maps // KERNEL
    return [maps - 2 * k, k, k]


class Strip:
    """Where the bins lie, in a strip of L positions.

    Args:
        lengths: n of the bins, in any order.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = sorted(lengths, reverse=True)
        ends = torch.tensor(self.lengths).add(1).cumsum(0).tolist()
        #: (first position, n) of every bin.
        self.bins = [(end - n - 1, n) for end, n in zip(ends, self.lengths, strict=True)]
        self.size = ends[-1]
        self.steps = self.lengths[0]
        #: Positions of the bins that make step t.
        self.widths = [max(end for end, n in zip(ends, self.lengths, strict=True) if n > t) for t in range(self.steps)]

    def shares(self, each: Sequence[float], like: Tensor) -> Tensor:
        """Return a number of each bin at all of its positions, 0 at the empty ones, [L, 1]."""
        out = like.new_zeros(self.size, 1)
        for (start, n), x in zip(self.bins, each, strict=True):
            out[start : start + n] = x
        return out


class Weights(NamedTuple):
    """Weights of a network, or where their gradients go; see `DiagonalNeuralGPU` for the shapes."""

    input: Tensor
    input_bias: Tensor
    gates: Tensor
    gate_bias: Tensor
    candidate: Tensor
    candidate_bias: Tensor
    output: Tensor
    output_bias: Tensor

    @classmethod
    def of(cls, flat: Tensor, maps: int) -> Weights:
        """Cut flat weights [N] into views, in the order of `DiagonalNeuralGPU.parameters`."""
        shapes = [(SYMBOLS, maps), (maps,), (2 * maps, maps, KERNEL), (2 * maps,)]
        shapes += [(maps, maps, KERNEL), (maps,), (ANSWERS, maps), (ANSWERS,)]
        sizes = [torch.Size(shape).numel() for shape in shapes]
        return cls(*(x.view(shape) for x, shape in zip(flat.split(sizes), shapes, strict=True)))


class Filters(NamedTuple):
    """The convolutions' weights as they are used: [out, in, 3, 1] forth, [in, out, 3, 1] and mirrored back."""

    gates: Tensor
    candidate: Tensor
    gates_back: Tensor
    candidate_back: Tensor

    @classmethod
    def of(cls, w: Weights) -> Filters:
        """Lay the weights out so that the maps are innermost."""
        forth = [w.gates, w.candidate]
        back = [x.flip(2).transpose(0, 1) for x in forth]
        return cls(*(x[..., None].contiguous(memory_format=torch.channels_last) for x in forth + back))


class Moment(NamedTuple):
    """What the way back needs of one step: the state before, the gates and the candidate after dropout.

    `by_gates` and `by_candidate` are what gates and candidate are functions of.
    """

    state: Tensor
    by_gates: Tensor
    gates: Tensor
    by_candidate: Tensor
    candidate: Tensor


class Tape(NamedTuple):
    """What the way back needs: the written input before its cut, all moments, the last states [L, B, m]."""

    written: Tensor
    moments: list[Moment]
    last: Tensor


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve along a strip, [L, B, in] -> [L, B, out]."""
    return conv2d(x.permute(2, 0, 1)[None], weight, bias, padding=(1, 0))[0].permute(1, 2, 0)


def shift(s: Tensor, out: Tensor) -> Tensor:
    """Shift the maps of a strip as `model.shifted` does, into `out`."""
    stay, left, _ = blocks(s.shape[-1])
    out[..., :stay] = s[..., :stay]
    out[1:, :, stay : stay + left] = s[:-1, :, stay : stay + left]
    out[0, :, stay : stay + left] = 0
    out[:-1, :, stay + left :] = s[1:, :, stay + left :]
    out[-1, :, stay + left :] = 0
    return out


def add_shifted_back(found: Tensor, g: Tensor) -> None:
    """Add to the gradient of a strip what reaches it through `shift`."""
    stay, left, _ = blocks(g.shape[-1])
    found[..., :stay] += g[..., :stay]
    found[:-1, :, stay : stay + left] += g[1:, :, stay : stay + left]
    found[1:, :, stay + left :] += g[:-1, :, stay + left :]


def forward(
    w: Weights, filters: Filters, tokens: Tensor, strip: Strip, there: Tensor, masks: list[Tensor], *, keep: bool
) -> Tape:
    """Run a network on a strip; moments are kept if `keep`.

    Args:
        w: weights.
        filters: made of them.
        tokens: symbols, int64 [L, B].
        strip: where the bins lie.
        there: 1 at positions that count, else 0, [L, B or 1, 1].
        masks: of dropout: of the written input, then of every step, [width, B, m] each; empty for none.
        keep: whether the way back will be gone.
    """
    written, half = (w.input + w.input_bias)[tokens], torch.full((), 0.5, dtype=w.input.dtype)
    s = written.clamp(-1, 1)
    s = s.mul_(masks[0] * there if masks else there)
    done, moments = [], []
    for t, width in enumerate(strip.widths):
        if width < len(s):
            done.append(s[width:])
            s = s[:width]
        by_gates = convolved(s, filters.gates, w.gate_bias)
        gates = torch.add(half, by_gates, alpha=0.5).clamp_(0, 1)
        r, u = gates.chunk(2, -1)
        by_candidate = convolved(r * s, filters.candidate, w.candidate_bias)
        c = by_candidate.clamp(-1, 1)
        if masks:
            c.mul_(masks[t + 1])
        if keep:
            moments.append(Moment(s, by_gates, gates, by_candidate, c))
        s = torch.lerp(c, shift(s, torch.empty_like(s)), u).mul_(there[:width])
    return Tape(written, moments, torch.cat([s, *reversed(done)]))


def saturated(x: Tensor) -> Tensor:
    """Return relu(|x| - 0.9) summed over the maps, [L, B]."""
    return softshrink(x, SATURATED).abs_().sum(-1)


def saturation(tape: Tape, strip: Strip, share: Tensor) -> Tensor:
    """Return the saturation cost, 0-dim.

    Args:
        tape: of the way forward.
        strip: where the bins lie.
        share: what the sum over the maps counts at every position, [L, B, 1]; the written input counts n times.
    """
    each = torch.zeros_like(share[..., 0])
    for width, moment in zip(strip.widths, tape.moments, strict=True):
        each[:width] += saturated(moment.by_gates) + saturated(moment.by_candidate)
    count = strip.shares([float(n) for n in strip.lengths], share)
    return ((each + saturated(tape.written) * count) * share[..., 0]).sum()


def backward(
    w: Weights,
    filters: Filters,
    found: Weights,
    tokens: Tensor,
    strip: Strip,
    tape: Tape,
    by_logits: Tensor,
    cost: Tensor | None,
    there: Tensor,
    masks: list[Tensor],
) -> None:
    """Add the gradients of the weights to `found`, given that of the logits [L, B, 3].

    Args:
        w, filters, tokens, strip, there, masks: of the way forward.
        found: where gradients go.
        tape: what the way forward kept.
        by_logits: the gradient by the logits.
        cost: the gradient by relu(|x| - 0.9) of what gates and candidates are functions of, [L, B, 1]; None for none.
    """
    flat = by_logits.flatten(0, 1)
    found.output.addmm_(flat.mT, tape.last.flatten(0, 1))
    found.output_bias.add_(flat.sum(0))
    ends = by_logits @ w.output
    g = ends[: strip.widths[-1]]
    for t in reversed(range(strip.steps)):
        width = strip.widths[t]
        if width > len(g):
            g = torch.cat([g, ends[len(g) : width]])
        g = g * there[:width]
        mask = masks[t + 1] if masks else None
        g = _step_backward(w, filters, found, tape.moments[t], g, None if cost is None else cost[:width], mask)
    g = _cut(g * (masks[0] * there if masks else there), tape.written)
    if cost is not None:
        count = strip.shares([float(n) for n in strip.lengths], cost)[..., None]
        _add_cost(g, tape.written, cost * count)
    rows, table = g.flatten(0, 1), torch.zeros_like(w.input)
    table.index_add_(0, tokens.flatten(), rows)
    found.input.add_(table)
    found.input_bias.add_(table.sum(0))


def _cut(g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient by x, given that by x cut to [-1, 1]."""
    return torch.ops.aten.hardtanh_backward(g, x, -1.0, 1.0)


def _add_cost(g: Tensor, x: Tensor, cost: Tensor) -> None:
    """Add the gradient of the saturation cost by x."""
    g.addcmul_(hardshrink(x, SATURATED).sign_(), cost)


def _step_backward(
    w: Weights, filters: Filters, found: Weights, moment: Moment, g: Tensor, cost: Tensor | None, mask: Tensor | None
) -> Tensor:
    """Return the gradient by the state before a step, given that by the state after it."""
    s, maps = moment.state, moment.state.shape[-1]
    r, u = moment.gates.chunk(2, -1)
    both = torch.empty_like(moment.gates)
    torch.mul(g, shift(s, torch.empty_like(s)).sub_(moment.candidate), out=both[..., maps:])
    by_shifted = g * u
    by_candidate = g - by_shifted
    if mask is not None:
        by_candidate.mul_(mask)
    by_candidate = _cut(by_candidate, moment.by_candidate)
    if cost is not None:
        _add_cost(by_candidate, moment.by_candidate, cost)
    _weights_backward(found.candidate, found.candidate_bias, r * s, by_candidate)
    by_reset = convolved(by_candidate, filters.candidate_back)
    torch.mul(by_reset, s, out=both[..., :maps])
    by_state = by_reset.mul_(r)
    add_shifted_back(by_state, by_shifted)
    by_gates = _cut(both, moment.by_gates).mul_(0.5)
    if cost is not None:
        _add_cost(by_gates, moment.by_gates, cost)
    _weights_backward(found.gates, found.gate_bias, s, by_gates)
    return by_state.add_(convolved(by_gates, filters.gates_back))


def _weights_backward(found: Tensor, found_bias: Tensor, x: Tensor, g: Tensor) -> None:
    """Add the gradients of a convolution's weights and bias, given its input [L, B, in] and that by its output.

    Neighbouring positions lie B rows apart, so that each of the three taps is one matrix product.
    """
    rows, beside, b = g.flatten(0, 1), x.flatten(0, 1), g.shape[1]
    for tap, (mine, other) in enumerate(((rows[b:], beside[:-b]), (rows, beside), (rows[:-b], beside[b:]))):
        found[:, :, tap].addmm_(mine.mT, other)
    found_bias.add_(rows.sum(0))
