"""A Neural GPU's convolutions of P replicas, each with weights of its own, in several layouts: which is fastest?

x is [P, B, m, n, w] in every layout's own order of axes, weights are [P, o, m, 3, 3]; the results have o maps for m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

#: Layers and sets of a network: so many different weights an update has, and each is used 2 n / 12 times.
LAYERS, SETS, MAPS, HEIGHT = 2, 6, 24, 4


class Layout(NamedTuple):
    """One way to convolve.

    Args:
        axes: in which x and the result are laid, of "p b m n w".
        built: makes of weights [P, o, m, 3, 3] what is multiplied with, once an update.
        convolved: (x, what was built) -> the result.
    """

    axes: str
    built: Callable[[Tensor], Tensor]
    convolved: Callable[[Tensor, Tensor], Tensor]


def grouped(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve [B, P, m, n, w] by one conv2d with a group for each replica."""
    b, p, _, n, w = x.shape
    return conv2d(x.flatten(1, 2), weight.flatten(0, 1), padding=1, groups=p).view(b, p, -1, n, w)


def unfolded(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve [P, B, n, w, m] by one product with all nine neighbours side by side."""
    p, b, n, w, _ = x.shape
    around = pad(x, (0, 0, 1, 1, 1, 1))
    taps = torch.cat([around[:, :, i : i + n, j : j + w] for i in range(3) for j in range(3)], -1)
    return torch.bmm(taps.flatten(1, 3), weight).view(p, b, n, w, -1)


def rows_of_taps(weight: Tensor) -> Tensor:
    """Return [P, 9 m, o]."""
    return weight.permute(0, 3, 4, 2, 1).flatten(1, 3)


def bands(weight: Tensor) -> Tensor:
    """Return [P, 3, w m, w o]: for each neighbour along the length a matrix over all cells of a column.

    A cell sees the cells above and below itself, so that 10 of 16 blocks are not zero.
    """
    by_tap = weight.permute(0, 3, 4, 2, 1)  # [P, 3, 3, m, o]
    zero = torch.zeros_like(by_tap[:, :, 0])
    blocks = [
        torch.stack([by_tap[:, :, i - j + 1] if abs(i - j) < 2 else zero for j in range(HEIGHT)], 3)
        for i in range(HEIGHT)
    ]
    return torch.stack(blocks, 2).flatten(4, 5).flatten(2, 3)


def folded(x: Tensor, band: Tensor) -> Tensor:
    """Convolve [P, B, n, w, m] along the length alone, by one product with three columns side by side."""
    p, b, n, w, _ = x.shape
    around = pad(x.flatten(3), (0, 0, 1, 1))
    taps = torch.cat([around[:, :, i : i + n] for i in range(3)], -1)
    return torch.bmm(taps.flatten(1, 2), band.flatten(1, 2)).view(p, b, n, w, -1)


def shifted(x: Tensor, band: Tensor) -> Tensor:
    """Convolve [P, n, B, w, m] by three products, added with a shift, so that no neighbours are copied."""
    p, n, b, w, m = x.shape
    rows = x.view(p, n * b, w * m)
    y = torch.bmm(rows, band[:, 1])
    before, after = torch.bmm(rows[:, :-b], band[:, 0]), torch.bmm(rows[:, b:], band[:, 2])
    return (y + pad(before, (0, 0, b, 0)) + pad(after, (0, 0, 0, b))).view(p, n, b, w, -1)


LAYOUTS = {
    "grouped conv2d": Layout("bpmnw", lambda weight: weight, grouped),
    "unfolded, bmm": Layout("pbnwm", rows_of_taps, unfolded),
    "folded, bmm": Layout("pbnwm", bands, folded),
    "shifted bmm": Layout("pnbwm", bands, shifted),
}


def check(layout: Layout) -> None:
    """Compare a layout with conv2d replica by replica: one that computes something else is fast for nothing."""
    x, weight = (torch.randn(2, 3, MAPS, 5, HEIGHT).double(), torch.randn(2, MAPS, MAPS, 3, 3).double())
    given = x.permute(["pbmnw".index(axis) for axis in layout.axes]).contiguous()
    found = layout.convolved(given, layout.built(weight)).permute([layout.axes.index(axis) for axis in "pbmnw"])
    torch.testing.assert_close(found, torch.stack([conv2d(*each, padding=1) for each in zip(x, weight, strict=True)]))


@contextmanager
def tensor_cores() -> Iterator[None]:
    """Let products round their factors to TF32, as cuDNN's convolutions do by default."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def convolutions(layout: Layout, size: int, n: int, batch: int, device: str) -> Callable[[], None]:
    """Return what does the convolutions of an update of P replicas: forward, and to the inputs and the weights.

    Args:
        layout: one of `LAYOUTS`.
        size: P.
        n: positions, and steps.
        batch: B.
        device: where.
    """
    check(layout)
    sizes = {"p": size, "b": batch, "m": MAPS, "n": n, "w": HEIGHT}
    x = torch.randn(*(sizes[axis] for axis in layout.axes), device=device, requires_grad=True)
    weights = [torch.randn(size, o, MAPS, 3, 3, device=device, requires_grad=True) for o in (2 * MAPS, MAPS)]

    def step() -> None:
        for weight in weights:
            for i in range(LAYERS * SETS):
                built = layout.built(weight)
                used, found = built.detach().requires_grad_(), torch.zeros_like(built)
                for _ in range(i, LAYERS * n, LAYERS * SETS):
                    y = layout.convolved(x, used)
                    found += torch.autograd.grad(y, (x, used), y.detach())[1]
                if built is not weight:
                    torch.autograd.grad(built, weight, found)

    def quickly() -> None:
        with tensor_cores():
            step()

    return quickly


def useful_operations(n: int, batch: int) -> float:
    """Return the floating-point operations of `convolutions` for one replica, without those with zeros of a band."""
    return 3 * LAYERS * n * batch * n * HEIGHT * 2 * 9 * MAPS * 3 * MAPS
