"""What goes wrong without a word once noise is attached: refused where it is certain, warned of where it is likely."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradnoise.noise.clock import CLOCK
from gradnoise.noise.dosing import Dose
from gradnoise.noise.gradients import Stream

#: Noise that is so many times the gradient is probably a mistake.
LOUD = 10.0
#: Options of optimizers that rescale gradients or updates within `step` by their norm, hence after the noise.
CLIPPING = ("max_grad_norm", "grad_clip", "clip_grad", "clip_grad_norm", "gradient_clip", "clip_threshold", "clipnorm")


def refuse_shared(streams: Sequence[Stream], gradients: Sequence[Tensor]) -> None:
    """Refuse gradients that are one tensor: it would get the noise of each of its parameters.

    Raises:
        ValueError: two parameters share one.
    """
    if len(set(map(id, gradients))) == len(streams):
        return
    seen: dict[int, str] = {}
    for stream in streams:
        other = seen.setdefault(id(stream.parameter.grad), stream.name)
        if other != stream.name:
            raise ValueError(
                f"parameters {other!r} and {stream.name!r} share one gradient tensor, which would get noise twice; give"
                " each a gradient of its own (p.grad = p.grad.clone()), or leave one out with `where`"
            )


def about_names(keys: frozenset[int], others: Iterable[frozenset[int]]) -> None:
    """Warn of another optimizer whose parameters get the same noise.

    Args:
        keys: of this optimizer's streams.
        others: of each optimizer that made an update between two updates of this one.
    """
    if any(keys & other for other in others):
        _warn(
            "another optimizer that is used in turn with this one has noise of the same seed on parameters of the same"
            " names, so that their noise is equal; pass named_parameters that differ, or another seed"
        )


def about_clipping(optimizer: Optimizer) -> None:
    """Warn of an optimizer that clips or rescales gradients within its step, after the noise."""
    for group in optimizer.param_groups:
        for option in CLIPPING:
            if group.get(option):
                _warn(
                    f"{type(optimizer).__name__} has {option}={group[option]}: it clips within its step, after the"
                    f" noise, which is scaled down with the gradient; set {option}=None (or 0) and clip before step()"
                )
                return


def about_saving(optimizer: Optimizer) -> None:
    """Warn of an optimizer whose state dict does not have the clock: its checkpoints would start the noise anew."""
    if type(optimizer).state_dict is Optimizer.state_dict:
        return
    try:
        state = optimizer.state_dict()
    except Exception:  # some have no state before the first update; then nothing can be told
        return
    if not _mentions(state):
        _warn(
            f"state_dict() of {type(optimizer).__name__} does not keep the clock of the noise, which would start anew"
            " when a checkpoint is loaded; save the state_dict() of the handle that attach returns, too"
        )


def _mentions(state: Any) -> bool:
    if isinstance(state, Mapping):
        return any(str(key).endswith(CLOCK) or _mentions(value) for key, value in state.items())
    return isinstance(state, (list, tuple)) and any(map(_mentions, state))


@torch.no_grad()
def about_dose(doses: Sequence[Dose], t: int, scale: Tensor | None) -> bool:
    """Warn where the noise of an update is more than `LOUD` times the gradient; return whether it is.

    Args:
        doses: the noise that is about to be added; of DTensors this rank's pieces count.
        t: update.
        scale: loss scale that the gradients carry.
    """
    noise, gradient, elements = 0.0, 0.0, 0
    for dose in doses:
        size = dose.sigma * (1.0 if dose.scale is None else float(dose.scale))
        for stream in dose.streams if size and dose.t == t else ():
            grad = stream.parameter.grad
            assert grad is not None
            local = grad._values() if grad.layout == torch.sparse_coo else getattr(grad, "to_local", lambda g=grad: g)()
            if local.layout != torch.strided:
                continue  # refused where noise is added
            elements += local.numel()
            noise += size**2 * local.numel()
            gradient += float(torch.linalg.vector_norm(local, dtype=_wide(local))) ** 2
    unit = 1.0 if scale is None else float(scale)
    noise, gradient = math.sqrt(noise) / unit, math.sqrt(gradient) / unit
    if not (math.isfinite(gradient) and noise > LOUD * gradient > 0):
        return False
    rho = noise / gradient
    _warn(
        f"the noise of update {t} has a norm of {noise:.3g}, the gradient one of {gradient:.3g}: {rho:.3g} times as"
        f" much (rho = {rho:.3g}), so that the update is nearly all noise. The norm of noise is sigma times the root of"
        f" the number of elements, here {elements:,}, and so the same eta is stronger on a larger network. Attach"
        f" Relative(0.1), noise of a tenth of the gradient on a network of any size, or an eta that is"
        f" {(10 * rho) ** 2:.2g} times smaller; gradnoise.find looks for the largest dose that does no harm."
        " attach(..., warn=False) silences this"
    )
    return True


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=3)
