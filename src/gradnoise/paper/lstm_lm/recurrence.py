"""One LSTM layer over T time steps for P replicas at once, with its gradient written out.

The products with the inputs are not part of it: they need no time loop, and come in as z. What is left of a time step
is one product with the hidden state and a few element-wise operations. The gradient is written by hand so that the
gradient of the recurrent weights is one product over all time steps, and no time step makes a tensor of their size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gradnoise.paper.lstm_lm.replicated import alone
from gradnoise.population import CudaGraphs, vmap_rule

_graphs: CudaGraphs | None = None


@contextmanager
def recorded(device: torch.device) -> Iterator[None]:
    """Within this block the time steps of layers without gradient are recorded on a CUDA device, see `CudaGraphs`.

    A text that is read from its first to its last word is a hundred thousand time steps one after another.
    """
    global _graphs
    _graphs = CudaGraphs(device)
    try:
        yield
    finally:
        _graphs = None


def lstm(z: Tensor, w: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hidden states [T, B, H] and the last cell state [B, H] of one layer; vmap adds a leading [P].

    i, f, o = sigmoid and g = tanh of their quarters of z_t + h_{t-1} W^T; c_t = f c_{t-1} + i g; h_t = o tanh(c_t).

    Args:
        z: products of the inputs with their weights plus biases [T, B, 4H], quarters in the order i, f, g, o.
        w: recurrent weights W [4H, H].
        h, c: hidden and cell state before the first step [B, H].
    """
    hidden, last, *_ = alone(partial(_forward, keep=torch.is_grad_enabled()), z, w, h, c)
    return hidden, last


@torch.library.custom_op("gradnoise::lstm", mutates_args=())
def _forward(z: Tensor, w: Tensor, h: Tensor, c: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return hidden states [P, T, B, H], the last cell state [P, B, H]; gates, cell states and their tanh over time.

    The last three are for the way back, and empty unless `keep`.
    """
    if keep:
        return _kept(z, w, h, c)
    if _graphs is None:
        hidden, last = _passing(z, w, h, c)
    else:
        hidden, last = (x.clone() for x in _graphs(lambda inputs, _: _passing(*inputs), (z, w, h, c)))
    gates, cells, squashed = (z.new_empty(len(z), 0) for _ in range(3))
    return hidden, last, gates, cells, squashed


def _kept(z: Tensor, w: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    p, steps, b, four = z.shape
    size = four // 4
    gates = z.new_empty(p, steps, b, four)
    hidden, cells, squashed = (z.new_empty(p, steps, b, size) for _ in range(3))
    transposed = w.mT
    for t in range(steps):
        a, gate = torch.baddbmm(z[:, t], h, transposed), gates[:, t]
        torch.sigmoid(a[..., : 2 * size], out=gate[..., : 2 * size])
        torch.tanh(a[..., 2 * size : 3 * size], out=gate[..., 2 * size : 3 * size])
        torch.sigmoid(a[..., 3 * size :], out=gate[..., 3 * size :])
        i, f, g, o = gate.split(size, -1)
        c = torch.addcmul(f * c, i, g)
        cells[:, t].copy_(c)
        h = torch.tanh(c)
        squashed[:, t].copy_(h)
        h = o * h
        hidden[:, t].copy_(h)
    return hidden, c, gates, cells, squashed


def _passing(z: Tensor, w: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first two of `_forward` in half as many operations."""
    size, hidden, transposed = w.shape[-1], [], w.mT
    for at in z.unbind(1):
        a = torch.baddbmm(at, h, transposed)
        i, f, g, o = a.split(size, -1)
        g = torch.tanh(g)
        a.sigmoid_()
        c = torch.addcmul(f * c, i, g)
        h = o * torch.tanh(c)
        hidden.append(h)
    return torch.stack(hidden, 1), c


@torch.library.custom_op("gradnoise::lstm_backward", mutates_args=())
def _backward(
    d_hidden: Tensor,
    d_last: Tensor,
    w: Tensor,
    h: Tensor,
    c: Tensor,
    hidden: Tensor,
    gates: Tensor,
    cells: Tensor,
    squashed: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of z [P, T, B, 4H], w, h and c."""
    steps, size = hidden.shape[1], hidden.shape[3]
    i, f, g, o = gates.split(size, -1)
    before = torch.cat([c[:, None], cells[:, :-1]], 1)
    through = o * (1 - squashed * squashed)  # of h_t by c_t
    by_cell = torch.stack([g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)], -2)  # of c_t by z_t, [.., 3, H]
    by_hidden = squashed * o * (1 - o)  # of h_t by the output gate's part of z_t
    dz = torch.empty_like(gates)
    d_h, d_c = torch.zeros_like(c), d_last
    for t in reversed(range(steps)):
        d_h = d_h + d_hidden[:, t]
        d_c = torch.addcmul(d_c, d_h, through[:, t])
        torch.mul(d_c[..., None, :], by_cell[:, t], out=dz[:, t, :, : 3 * size].unflatten(-1, (3, size)))
        torch.mul(d_h, by_hidden[:, t], out=dz[:, t, :, 3 * size :])
        d_h = torch.bmm(dz[:, t], w)
        d_c = d_c * f[:, t]
    earlier = torch.cat([h[:, None], hidden[:, :-1]], 1)
    d_w = torch.bmm(dz.flatten(1, 2).mT, earlier.flatten(1, 2))
    return dz, d_w, d_h, d_c


# --- autograd, vmap, shapes ---------------------------------------------------------------------------


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, w, h, c, _ = inputs
    hidden, _, *inside = output
    ctx.mark_non_differentiable(*inside)
    ctx.save_for_backward(w, h, c, hidden, *inside)


def _gradient(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    return *_backward(grads[0], grads[1], *ctx.saved_tensors), None


_forward.register_autograd(_gradient, setup_context=_setup)
_forward.register_vmap(vmap_rule(_forward, 4))
_backward.register_vmap(vmap_rule(_backward, 9))


@_forward.register_fake
def _(z: Tensor, w: Tensor, h: Tensor, c: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    hidden = z.new_empty(*z.shape[:-1], w.shape[-1])
    inside = (z, hidden, hidden) if keep else [z.new_empty(len(z), 0)] * 3
    hidden, last, gates, cells, squashed = (x.new_empty(x.shape) for x in (hidden, c, *inside))
    return hidden, last, gates, cells, squashed


@_backward.register_fake
def _(
    d_hidden: Tensor, d_last: Tensor, w: Tensor, h: Tensor, c: Tensor, hidden: Tensor, gates: Tensor, *rest: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return gates.new_empty(gates.shape), w.new_empty(w.shape), h.new_empty(h.shape), c.new_empty(c.shape)
