"""The steps of one Neural GPU and the gradient of its weights, written out: convolutions and a few passes between them.

States are [B, m, n, w] with the maps innermost in memory, in which torch's convolutions are fastest on a CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from gradnoise.paper.neural_gpu.tasks import PAD, SYMBOLS

INNERMOST = torch.channels_last


class Weights(NamedTuple):
    """Weights of a network, or where their gradients go; see `NeuralGPU` for the shapes."""

    embedding: Tensor
    input: Tensor
    input_bias: Tensor
    gates: Tensor
    gate_bias: Tensor
    candidate: Tensor
    candidate_bias: Tensor
    output: Tensor
    output_bias: Tensor

    @classmethod
    def of(cls, flat: Tensor, maps: int, layers: int, sets: int, kernel: int) -> Weights:
        """Cut flat weights [N] into views, in the order of `NeuralGPU.parameters`."""
        pair, square = (layers, sets), (kernel, kernel)
        relaxed = [(2 * maps, maps, *square), (2 * maps,), (maps, maps, *square), (maps,)]
        shapes = [(SYMBOLS - 1, maps), *((*pair, *x) for x in relaxed)]
        shapes += [(maps, maps), (maps,), (SYMBOLS, maps), (SYMBOLS,)]
        sizes = [torch.Size(shape).numel() for shape in shapes]
        views = [x.view(shape) for x, shape in zip(flat.split(sizes), shapes, strict=True)]
        return cls(views[0], *views[5:7], *views[1:5], *views[7:])

    def convolution(self, name: str, layer: int, k: int) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the gates or the candidate in one layer and set."""
        weight, bias = getattr(self, name), getattr(self, f"{name}_bias" if name != "gates" else "gate_bias")
        return weight[layer, k].contiguous(memory_format=INNERMOST), bias[layer, k]


class Moment(NamedTuple):
    """What the way back needs of one layer at one step: the state before, both gates [B, 2m, n, w], the candidate."""

    state: Tensor
    gates: Tensor
    candidate: Tensor


class Tape(NamedTuple):
    """What the way back needs: tanh of the embedded input [B, n, m], all moments, what was read [B, n, m]."""

    embedded: Tensor
    moments: list[Moment]
    read: Tensor


def forward(
    w: Weights, tokens: Tensor, height: int, steps: int, masks: Tensor | None, read_dropped: bool, *, keep: bool
) -> tuple[Tensor, Tape]:
    """Run a network: logits [B, n, symbols], and the tape, which is empty unless `keep`.

    Args:
        w: weights.
        tokens: symbols, int64 [B, n].
        height: w, rows of the state.
        steps: how many.
        masks: of dropout [steps + 1, B, m, n, w]; None for none.
        read_dropped: whether the output is read after the last dropout.
        keep: whether to keep what the way back needs.
    """
    table = torch.cat([torch.zeros_like(w.embedding[:1]), w.embedding]).tanh_()
    embedded = table[tokens]
    cells = embedded.new_zeros(*tokens.shape, height, embedded.shape[-1])
    cells[:, :, 0] = torch.addmm(w.input_bias, embedded.flatten(0, 1), w.input.mT).view(embedded.shape)
    s, moments = cells.permute(0, 3, 1, 2), []
    for t in range(steps):
        if masks is not None:
            s = s * masks[t]
        for layer in range(w.gates.shape[0]):
            before, (s, gates, candidate) = s, _unit(w, s, layer, t % w.gates.shape[1])
            if keep:
                moments.append(Moment(before, gates, candidate))
    if masks is not None and read_dropped:
        s = s * masks[steps]
    read = s[..., 0].mT
    return torch.matmul(read, w.output.mT) + w.output_bias, Tape(embedded, moments, read)


def _unit(w: Weights, s: Tensor, layer: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the next state, the gates and the candidate."""
    around = w.gates.shape[-1] // 2
    weight, bias = w.convolution("gates", layer, k)
    gates = conv2d(s, weight, bias, padding=around).sigmoid_().mul_(1.2).sub_(0.1).clamp_(0, 1)
    r, u = gates.chunk(2, 1)
    weight, bias = w.convolution("candidate", layer, k)
    c = conv2d(r * s, weight, bias, padding=around).tanh_()
    return torch.lerp(c, s, u), gates, c


def backward(
    w: Weights,
    found: Weights,
    tokens: Tensor,
    tape: Tape,
    by_logits: Tensor,
    masks: Tensor | None,
    read_dropped: bool,
) -> None:
    """Add the gradients of the weights to `found`, given that of the logits [B, n, symbols].

    Args:
        w, tokens, masks, read_dropped: of the way forward.
        found: where gradients go.
        tape: what the way forward kept.
        by_logits: the gradient by the logits.
    """
    found.output.add_(by_logits.flatten(0, 1).mT @ tape.read.flatten(0, 1))
    found.output_bias.add_(by_logits.sum((0, 1)))
    last = tape.moments[-1].state
    g = torch.zeros_like(last, memory_format=INNERMOST)
    g[..., 0] = (by_logits @ w.output).mT
    layers, sets = w.gates.shape[:2]
    steps = len(tape.moments) // layers
    for t in reversed(range(steps)):
        if masks is not None and (read_dropped or t < steps - 1):
            g = g * masks[t + 1]
        for layer in reversed(range(layers)):
            g = _unit_backward(w, found, tape.moments.pop(), g, layer, t % sets)
    if masks is not None:
        g = g * masks[0]
    _input_backward(w, found, tokens, tape.embedded, g[..., 0].mT)


def _unit_backward(w: Weights, found: Weights, moment: Moment, g: Tensor, layer: int, k: int) -> Tensor:
    """Return the gradient by the state before a layer, given that by the state after it."""
    s, gates, c = moment
    r, u = gates.chunk(2, 1)
    maps = s.shape[1]
    by_gates = torch.empty_like(gates)
    torch.mul(g, s - c, out=by_gates[:, maps:])
    by_state = g * u
    by_candidate = (g - by_state).mul_(1 - c * c)
    by_reset = _convolution_backward(w, found, "candidate", by_candidate, r * s, layer, k)
    torch.mul(by_reset, s, out=by_gates[:, :maps])
    by_state.addcmul_(by_reset, r)
    # of the gate 1.2 sigmoid - 0.1 by its argument, and 0 where it is cut off
    sigmoid = (gates + 0.1).div_(1.2)
    slope = (sigmoid - sigmoid * sigmoid).mul_(1.2).masked_fill_((gates <= 0) | (gates >= 1), 0)
    by_state += _convolution_backward(w, found, "gates", by_gates.mul_(slope), s, layer, k)
    return by_state


def _convolution_backward(w: Weights, found: Weights, name: str, g: Tensor, x: Tensor, layer: int, k: int) -> Tensor:
    """Add the gradients of weight and bias, and return that by the input x."""
    weight, bias = w.convolution(name, layer, k)
    around = weight.shape[-1] // 2
    by_x, by_weight, by_bias = torch.ops.aten.convolution_backward(
        g, x, weight, [len(bias)], [1, 1], [around, around], [1, 1], False, [0, 0], 1, [True, True, True]
    )
    kept, kept_bias = (getattr(found, n)[layer, k] for n in (name, f"{name}_bias" if name != "gates" else "gate_bias"))
    kept.add_(by_weight)
    kept_bias.add_(by_bias)
    return by_x


def _input_backward(w: Weights, found: Weights, tokens: Tensor, embedded: Tensor, g: Tensor) -> None:
    """Add the gradients of embedding and input map, given that by what was written into the state [B, n, m]."""
    rows, given = g.flatten(0, 1), embedded.flatten(0, 1)
    found.input.add_(rows.mT @ given)
    found.input_bias.add_(rows.sum(0))
    by_embedding = (rows @ w.input).mul_(1 - given * given)
    symbols = tokens.flatten()
    table = by_embedding.new_zeros(SYMBOLS, by_embedding.shape[1]).index_add_(0, symbols, by_embedding)
    found.embedding.add_(table[PAD + 1 :])
