"""The steps of one Neural GPU and the gradient of its weights, written out: convolutions and a few passes between them.

States are [B, n, w, m]: with the maps innermost in memory torch's convolutions are fastest on a CPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradnoise.paper.neural_gpu import passes
from gradnoise.paper.neural_gpu.convolutions import Filters, add_gradients, convolved
from gradnoise.paper.neural_gpu.tasks import PAD, SYMBOLS


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


class Moment(NamedTuple):
    """What the way back needs of one layer at one step: the state before, both gates, and half, see `passes.mix`.

    `at` is the layer and the set whose weights were used.
    """

    at: tuple[int, int]
    filters: Filters
    state: Tensor
    gates: Tensor
    half: Tensor


class Tape(NamedTuple):
    """What the way back needs: tanh of the embedded input [B, n, m], all moments, what was read [B, n, m]."""

    embedded: Tensor
    moments: list[Moment]
    read: Tensor


def forward(
    w: Weights, tokens: Tensor, height: int, steps: int, masks: Tensor | None, read_dropped: bool, *, keep: bool
) -> tuple[Tensor, Tape]:
    """Run a network: logits [B, n, symbols], and the tape, which has no moments unless `keep`.

    Args:
        w: weights.
        tokens: symbols, int64 [B, n].
        height: w, rows of the state.
        steps: how many.
        masks: of dropout [steps + 1, B, n, w, m]; None for none.
        read_dropped: whether the output is read after the last dropout.
        keep: whether to keep what the way back needs.
    """
    table = torch.cat([torch.zeros_like(w.embedding[:1]), w.embedding]).tanh_()
    embedded = table[tokens]
    filters = Filters.of(w.gates, w.gate_bias, w.candidate, w.candidate_bias)
    s = embedded.new_zeros(*tokens.shape, height, embedded.shape[-1])
    s[:, :, 0] = torch.addmm(w.input_bias, embedded.flatten(0, 1), w.input.mT).view(embedded.shape)
    layers, sets = w.gates.shape[:2]
    kept, moments = torch.empty_like(s), []
    for t in range(steps):
        if masks is not None:
            s = s * masks[t]
        for layer in range(layers):
            at = layer, t % sets
            before, (s, gates, half) = s, _unit(filters[at], s, kept)
            if keep:
                moments.append(Moment(at, filters[at], before, gates, half))
    if masks is not None and read_dropped:
        s = s * masks[steps]
    read = s[:, :, 0]
    return torch.matmul(read, w.output.mT) + w.output_bias, Tape(embedded, moments, read)


def _unit(f: Filters, s: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the next state, the gates, and half of the candidate; what the reset gates keep is written to `kept`."""
    gates = convolved(s, f.gates, f.gate_bias).sigmoid_()
    passes.open_gates(*_cells(gates, s, kept))
    half = convolved(kept, f.candidate, f.candidate_bias).sigmoid_()
    after = torch.empty_like(s)
    passes.mix(*_cells(gates, half, s, after))
    return after, gates, half


def _cells(*states: Tensor) -> list[Any]:
    return [x.view(-1, x.shape[-1]).numpy() for x in states]


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
    layers = w.gates.shape[0]
    steps = len(tape.moments) // layers
    g, work = torch.zeros_like(tape.moments[-1].state), Work.of(tape.moments[-1])
    g[:, :, 0] = by_logits @ w.output
    for t in reversed(range(steps)):
        if masks is not None and (read_dropped or t < steps - 1):
            g *= masks[t + 1]
        for _ in range(layers):
            _unit_backward(found, tape.moments.pop(), g, work)
    if masks is not None:
        g *= masks[0]
    _input_backward(w, found, tokens, tape.embedded, g[:, :, 0])


class Work(NamedTuple):
    """Memory for one layer's way back: gradients by gates and candidate, and what the reset gates keep."""

    by_gates: Tensor
    by_candidate: Tensor
    kept: Tensor

    @classmethod
    def of(cls, moment: Moment) -> Work:
        """Allocate for a moment."""
        s = moment.state
        return cls(s.new_empty(*s.shape[:-1], 2 * s.shape[-1]), torch.empty_like(s), torch.empty_like(s))


def _unit_backward(found: Weights, moment: Moment, g: Tensor, work: Work) -> None:
    """Turn the gradient g by the state after a layer into that by the state before it."""
    at, f, s, gates, half = moment
    by_gates, by_candidate, kept = work
    passes.mix_backward(*_cells(g, gates, half, s, by_gates, by_candidate, kept))
    add_gradients(found.candidate[at], found.candidate_bias[at], by_candidate, kept)
    passes.gates_backward(*_cells(g, convolved(by_candidate, f.candidate_back), gates, s, by_gates))
    add_gradients(found.gates[at], found.gate_bias[at], by_gates, s)
    passes.add(*_cells(g, convolved(by_gates, f.gates_back)))


def _input_backward(w: Weights, found: Weights, tokens: Tensor, embedded: Tensor, g: Tensor) -> None:
    """Add the gradients of embedding and input map, given that by what was written into the state [B, n, m]."""
    rows, given = g.flatten(0, 1), embedded.flatten(0, 1)
    found.input.add_(rows.mT @ given)
    found.input_bias.add_(rows.sum(0))
    by_embedding = (rows @ w.input).mul_(1 - given * given)
    symbols = tokens.flatten()
    table = by_embedding.new_zeros(SYMBOLS, by_embedding.shape[1]).index_add_(0, symbols, by_embedding)
    found.embedding.add_(table[PAD + 1 :])
