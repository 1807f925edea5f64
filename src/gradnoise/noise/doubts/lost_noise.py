"""Notices noise that did not reach the update: gradients and weights after a step are compared with those before."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from gradnoise.noise.gradients import Stream
from gradnoise.noise.warning import say

#: How many parameters are looked at, how many of their elements, and how many they have to have.
FEW, SAMPLE, SOME = 8, 4096, 4
#: Of how many elements of a gradient its noise is told from chance.
SURE = 32
#: A gradient that a step leaves with less than this share of its size was clipped.
SHRUNK = 0.9
#: A gradient that is so many times smaller in the update than it was when it was diagnosed.
SMALLER = 2.0
#: Of what follows the gradient as it was before the noise, and the noise less than this share of that, noise is lost.
LOST = 0.05
#: Share of steps in which what has nothing to do with the gradient may be said to follow it.
CHANCE = 1e-6


class Seen(NamedTuple):
    """Some elements of a parameter and of its gradient, before and after noise was added to it; and the gradient."""

    stream: Stream
    weights: Tensor
    clean: Tensor
    noisy: Tensor
    rows: Tensor | None
    gradient: weakref.ref[Tensor]

    @property
    def now(self) -> Tensor | None:
        """Return the elements of the gradient as it is now, None where it is gone or another kind of tensor."""
        return _like(self.noisy, _sample(self.stream.parameter.grad))

    @property
    def moved(self) -> Tensor | None:
        """Return by how much the parameter has moved, None where it is another kind of tensor."""
        now = _like(self.weights, _sample(self.stream.parameter, self.rows))
        return None if now is None else _reals(now) - _reals(self.weights)


def before_noise(streams: Sequence[Stream]) -> list[Seen]:
    """Return copies of elements of a few parameters, of the first and the last among them, and of their gradients."""
    made = [s for s in streams if s.parameter.grad is not None]
    few = made if len(made) <= FEW else [made[i * (len(made) - 1) // (FEW - 1)] for i in range(FEW)]
    found = []
    for stream in few:
        whole = stream.parameter.grad
        assert whole is not None
        weights, gradient = _sample(stream.parameter, rows := _rows(whole)), _sample(whole)
        if weights is not None and gradient is not None and len(gradient) >= SOME:
            clean = gradient.clone()
            found.append(Seen(stream, weights.clone(), clean, clean, rows, weakref.ref(whole)))
    return found


def after_noise(before: Iterable[Seen]) -> list[Seen]:
    """Return the same with the gradients as they are with noise, where they got some."""
    found = [seen._replace(noisy=now.clone()) for seen in before if (now := seen.now) is not None]
    return [seen for seen in found if not torch.equal(seen.noisy, seen.clean)]


def about_update(optimizer: Optimizer, before: Sequence[Seen], scale: Tensor | None, *, fresh: bool) -> bool:
    """Warn of a step in which the noise was lost or clipped; return whether it was.

    Args:
        optimizer: whose step has ended.
        before: what stood there when the noise had been added.
        scale: loss scale that the gradients carried, which a fused optimizer takes away within its step.
        fresh: whether the optimizer began without a memory of gradients before, and noise was added once.
    """
    name = type(optimizer).__name__
    own = [] if scale is None else [1 / float(scale)]
    for seen in before:
        now = seen.now
        if now is not None and not torch.equal(now, seen.noisy):
            if is_lost(now, seen, _rounding(now)):
                say(
                    f"after {name}.step the gradient of {seen.stream.name!r} is as it was before the noise: something"
                    " fills it anew when the noise has been added, such as a hook that was registered after attach, or"
                    " a copy from a bucket; attach noise last, after all hooks are registered"
                )
                return True
            if _is_clipped(now, seen.noisy, (*own, *_factors(optimizer))):
                say(
                    f"{name} clipped gradients after the noise was added, and the noise with them; have"
                    " it clip before the step, in a subclass's `step` before super().step(), or not at all"
                )
                return True
        moved = seen.moved if fresh else None
        if moved is not None and is_lost(moved, seen, _rounding(seen.weights, moved)):
            say(
                f"{name}.step moved {seen.stream.name!r} by its gradient as it was before the noise: it has copies of"
                " the gradients that were made earlier, which get no noise; attach to an optimizer that reads p.grad"
                " in its step"
            )
            return True
    return False


def about_renewal(before: Sequence[Seen]) -> bool:
    """Warn of a gradient that still has the noise of the update before; return whether there is one.

    Args:
        before: what a step left as it was.
    """
    for seen in before:
        now = seen.now
        if now is not None and torch.equal(now, seen.noisy):
            say(
                f"the gradient of {seen.stream.name!r} was not made anew since the last update: it still has the noise"
                " of that, and the next noise is added to it; zero the gradients and run backward before each step"
            )
            return True
        if now is not None and seen.gradient() is seen.stream.parameter.grad and _holds_noise(now, seen):
            say(
                f"the gradient of {seen.stream.name!r} was added to that of the last update, and to its noise, which"
                " thus grows from step to step; zero the gradients before each backward pass that begins an update"
            )
            return True
    return False


@torch.no_grad()
def _holds_noise(now: Tensor, seen: Seen) -> bool:
    """Tell whether a gradient holds the noise of the last update, whole or scaled down by a clipping.

    What an update does to the next gradient may follow the noise as well, but by so much at most in a loss that curves
    downwards everywhere.
    """
    noise, now = _reals(seen.noisy) - _reals(seen.clean), _reals(now)
    nn, nx, xx = (float((x * y).sum()) for x, y in ((noise, noise), (noise, now), (now, now)))
    if not (0 < nn < math.inf and 0 < nx < math.inf and math.isfinite(xx)) or len(now) < SURE:
        return False
    b = nx / nn
    error = math.sqrt(max(xx - b * nx, 0.0) / (len(now) - 1) / nn)
    whole = abs(b - 1) < min(0.1, 4 * error + 1e-3)
    return b > _certainty(len(now) - 1) * error and b < 1.1 and (whole or b * nx > 0.5 * xx)


def about_diagnosis(before: Sequence[Seen], scale: Tensor | None) -> bool:
    """Warn of gradients that were scaled down after they were diagnosed; return whether they were.

    Args:
        before: what `diagnostics` saw for the update that is about to get noise.
        scale: loss scale that the gradients still carry.
    """
    for seen in before:
        now = seen.now
        if now is None:
            continue
        unit = 1.0 if scale is None else float(scale)
        factor = _factor(seen.clean, now) * unit
        if factor >= SMALLER:
            say(
                f"diagnostics() saw gradients {factor:.6g} times as large as those of the update, so that its ratio is"
                " as many times too small; call it after scaler.unscale_(optimizer) and after clipping, right before"
                " step()"
            )
            return True
    return False


def _factor(a: Tensor, b: Tensor) -> float:
    """Return how many times a is b, 0 where it is no multiple but for rounding."""
    rounding = max(1e-4, torch.finfo(a.dtype).eps)
    a, b = _reals(a), _reals(b)
    square = float((b * b).sum())
    factor = float((a * b).sum()) / square if 0 < square < math.inf else 0.0
    return factor if float((a - factor * b).square().sum()) <= rounding**2 * factor**2 * square else 0.0


@torch.no_grad()
def is_lost(now: Tensor, seen: Seen, rounding: float) -> bool:
    """Tell whether numbers follow the gradient as it was before the noise, and not the noise.

    They are fitted by a clean + b noise. Noise that was there when the numbers were made gives b = a, also where they
    were scaled, bent or added to; what has nothing to do with the gradient gives a = 0, and where the noise is too weak
    to be told the fit has a large error. A gradient of one absolute value everywhere is no evidence unless a = 1: the
    signs of gradients with and without noise may be the same.

    Args:
        now: the numbers.
        seen: gradient before and after the noise.
        rounding: error of each of the numbers at least; gradients below it, as of a bias that a batch normalization
            takes away again, say nothing.
    """
    clean, noise = _reals(seen.clean), _reals(seen.noisy) - _reals(seen.clean)
    now = _reals(now)
    # sums and not matrix products: those wake threads, which a process that forks afterwards would wait for
    cc, cn, nn, cx, nx = (float((x * y).sum()) for x, y in
                          ((clean, clean), (clean, noise), (noise, noise), (clean, now), (noise, now)))  # fmt: skip
    det = cc * nn - cn * cn
    if not 0 < det < math.inf or not math.isfinite(cx + nx):
        return False
    a, b = (nn * cx - cn * nx) / det, (cc * nx - cn * cx) / det
    variance = max(rounding * rounding, float((now - a * clean - b * noise).square().sum()) / (len(now) - 2))
    error_a, error_b = math.sqrt(variance * nn / det), math.sqrt(variance * cc / det)
    sizes = clean.abs()
    varied = float(sizes.std()) > 0.1 * float(sizes.mean())
    certain = abs(a) > _certainty(len(now) - 2) * error_a and (varied or abs(a - 1) < 0.1)
    return certain and abs(b) + 4 * error_b < LOST * abs(a)


def _certainty(freedom: int) -> float:
    """Return how many errors away from 0 a fit is that comes by `CHANCE`, 10 at least: no less than Student's t."""
    return max(10.0, math.sqrt(freedom * (CHANCE ** (-2 / freedom) - 1)))


@torch.no_grad()
def _rounding(x: Tensor, moved: Tensor | None = None) -> float:
    """Return how far numbers may be off by rounding; with `moved`, the differences by which x moved."""
    size = float(_reals(x).abs().max())
    return torch.finfo(x.dtype).eps * (size if moved is None else size + float(moved.abs().max()))


@torch.no_grad()
def _is_clipped(now: Tensor, before: Tensor, factors: Iterable[float]) -> bool:
    """Tell whether a gradient was scaled down, as by its norm, or cut at a value; others use it as a scratch pad.

    Args:
        now: the gradient.
        before: as it was.
        factors: by which it is scaled where nothing is clipped.
    """
    factor = _factor(now, before)
    now, before = _reals(now), _reals(before)
    if 0 < factor < SHRUNK and not any(math.isclose(factor, own, rel_tol=1e-3) for own in factors):
        return True
    bound, most = now.abs().max(), before.abs().max()
    signs = bound == 1 and len(now) < 32  # or few elements that all are cut at 1
    return bool(0 < bound < SHRUNK * most) and not signs and torch.equal(now, before.clamp(-bound, bound))


def _factors(optimizer: Optimizer) -> Iterator[float]:
    """Yield what a gradient is multiplied by where it becomes an update, or one of the first means of gradients."""
    for group in optimizer.param_groups:
        for name, option in group.items():
            if name != "params":
                for x in option if isinstance(option, (list, tuple)) else (option,):
                    if isinstance(x, (int, float)) or (isinstance(x, Tensor) and x.numel() == 1):
                        yield float(x)
                        if abs(x) <= 1:
                            yield from (1 - float(x) ** k for k in range(1, 7))


@torch.no_grad()
def _rows(gradient: Tensor | None) -> Tensor | None:
    """Return which rows a sparse gradient has, None for other kinds."""
    if type(gradient) is not Tensor or gradient.layout != torch.sparse_coo or gradient.sparse_dim() != 1:
        return None
    return gradient.detach().coalesce().indices()[0]


@torch.no_grad()
def _sample(x: Tensor | None, rows: Tensor | None = None) -> Tensor | None:
    """Return some elements of a tensor, None for kinds that are not looked at.

    Args:
        x: dense; or a DTensor, of which those of this rank count; or sparse in its rows, which count in their order.
        rows: of a dense tensor that count.
    """
    local: Any = getattr(x, "to_local", lambda: x)()
    if type(local).__name__ == "AsyncCollectiveTensor":
        local = local.wait()
    if _rows(local) is not None:
        local = local.detach().coalesce().values()
    if type(local) not in (Tensor, Parameter) or local.layout != torch.strided:
        return None
    return (local.detach() if rows is None else local.detach()[rows]).flatten()[:SAMPLE]


def _like(before: Tensor, now: Tensor | None) -> Tensor | None:
    alike = now is not None and (now.shape, now.dtype, now.device) == (before.shape, before.dtype, before.device)
    return now if alike else None


def _reals(x: Tensor) -> Tensor:
    """Return the numbers in float64 on the CPU, a complex one as two."""
    x = torch.view_as_real(x.resolve_conj()).flatten() if x.is_complex() else x
    return x.cpu().double()
