"""The convolutions of a Neural GPU on a CPU, and how their weights lie for them.

States are [B, n, w, m]: with the maps innermost in memory torch's convolutions are fastest.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad


class Filters(NamedTuple):
    """The convolutions of one layer and set as they are used: [out, in, k, k] forth, [in, out, k, k] and mirrored back.

    The candidate's are doubled on the way forth, as tanh x = 2 sigmoid 2x - 1, and torch's sigmoid takes a seventh of
    the time of its tanh.
    """

    gates: Tensor
    gate_bias: Tensor
    candidate: Tensor
    candidate_bias: Tensor
    gates_back: Tensor
    candidate_back: Tensor

    @classmethod
    def of(
        cls, gates: Tensor, gate_bias: Tensor, candidate: Tensor, candidate_bias: Tensor
    ) -> dict[tuple[int, int], Filters]:
        """Lay out weights [l, sets, out, in, k, k] and biases [l, sets, out]: (layer, set) -> filters."""
        forth = (gates, gate_bias, 2 * candidate, 2 * candidate_bias)
        back = (x.flip(4, 5).transpose(2, 3) for x in (gates, candidate))
        each = (_padded(x).flatten(0, 1).unbind() for x in (*forth, *back))
        places = ((layer, k) for layer in range(gates.shape[0]) for k in range(gates.shape[1]))
        return {at: cls(*x) for at, x in zip(places, zip(*each, strict=True), strict=True)}


@cache
def _lanes() -> int:
    """Of how many maps the results of a convolution are made: with 512 bits 24 of them take longer than 32."""
    return 16 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 1


def _padded(x: Tensor) -> Tensor:
    """Add results of 0, at which nobody looks, to biases or weights; the weights' inputs come innermost in memory."""
    more = -x.shape[2] % _lanes()
    if x.dim() == 3:
        return pad(x, (0, more))
    return pad(x.movedim(3, -1), (0,) * 7 + (more,)).contiguous().movedim(-1, 3)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve [B, n, w, in] to [B, n, w, out]."""
    out = conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[-1] // 2)
    return out.permute(0, 2, 3, 1).contiguous()


def add_gradients(weight: Tensor, bias: Tensor, g: Tensor, x: Tensor) -> None:
    """Add the gradients of a convolution's weight and bias to these, given that of its result g and its input x."""
    around = weight.shape[-1] // 2
    _, by_weight, by_bias = torch.ops.aten.convolution_backward(
        g.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2), weight.contiguous(memory_format=torch.channels_last), [len(bias)],
        [1, 1], [around, around], [1, 1], False, [0, 0], 1, [False, True, True],
    )  # fmt: skip
    weight.add_(by_weight)
    bias.add_(by_bias)
