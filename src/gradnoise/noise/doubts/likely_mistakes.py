"""What goes wrong without a word once noise is attached, and shows in options, names or sizes: warned of."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from gradnoise.noise.dosing import Dose, by_hand
from gradnoise.noise.gradients import Stream
from gradnoise.noise.schedule import Relative, Schedule
from gradnoise.noise.until import share_of
from gradnoise.noise.warning import say

#: Noise that is so many times the gradient is probably a mistake.
LOUD = 10.0
#: Options of optimizers that rescale gradients or updates within `step`, hence after the noise: parts of their names.
CLIPPING = re.compile(r"clip|max_(grad_)?norm|max_grad|normalize_grad")
#: And of those that do something else: clip attention's weights, or the ratio of the norms of weights and update.
HARMLESS = re.compile(r"^(qk|trust)_")


def about_names(keys: frozenset[int], others: Iterable[frozenset[int]]) -> bool:
    """Warn of another optimizer whose parameters get the same noise; return whether there is one.

    Args:
        keys: of this optimizer's streams.
        others: of each optimizer that made an update between two updates of this one.
    """
    alike = any(keys & other for other in others)
    if alike:
        say(
            "another optimizer that is used in turn with this one has noise of the same seed on parameters of the same"
            " names, so that their noise is equal; pass named_parameters that differ, or another seed"
        )
    return alike


def about_hand(streams: Iterable[Stream]) -> bool:
    """Warn of gradients that `add_gradient_noise_` has given noise already; return whether there are some."""
    for stream in streams:
        if stream.parameter.grad in by_hand:
            say(
                f"the gradient of {stream.name!r} has got noise by add_gradient_noise_, and gets that of attach too;"
                " leave one of the two out"
            )
            return True
    return False


def about_end(schedules: Iterable[Schedule]) -> None:
    """Warn of noise that `until` ends as soon as it has begun."""
    for own in dict.fromkeys(schedules):
        share = share_of(own.until) if isinstance(own, Relative) and own.to == "gradient" else None
        if isinstance(own, Relative) and share is not None and 0 < own.rho < share:
            say(
                f"{own!r} is under its share of the gradient from the start, since rho is less than until: the first"
                " update gets noise, and no other; give an until that is less than rho"
            )


def about_clipping(optimizers: Iterable[Any]) -> None:
    """Warn of an optimizer that clips or rescales gradients within its step, after the noise.

    Args:
        optimizers: as they wrap each other, the one that makes the updates last.
    """
    *_, optimizer = optimizers
    own = {name: value for name, value in vars(optimizer).items() if not name.startswith("_")}
    for options in (*optimizer.param_groups, own):
        for option, value in options.items():
            if CLIPPING.search(str(option).lower()) and not HARMLESS.search(str(option).lower()) and _is_on(value):
                say(
                    f"{type(optimizer).__name__} has {option}={value}: it clips within its step, after the"
                    f" noise, which is scaled down with the gradient; set {option}=None (or 0) and clip before step()"
                )
                return


def _is_on(option: Any) -> bool:
    """Tell whether an option is a number that bounds something, or a switch that is on."""
    return isinstance(option, (bool, int, float, str)) and bool(option) and option != math.inf


@torch.no_grad()
def about_padding(doses: Sequence[Dose]) -> None:
    """Warn of one row of zeros without a gradient in a matrix of other rows, as an embedding's `padding_idx` has it.

    Args:
        doses: the noise that is about to be added to gradients for the first time.
    """
    for stream in (stream for dose in doses if dose.sigma for stream in dose.streams):
        p, grad = stream.parameter, stream.parameter.grad
        if type(p) not in (Tensor, torch.nn.Parameter) or type(grad) is not Tensor:
            continue
        if p.dim() == 2 and len(p) > 2 and grad.layout == torch.strided:
            rows = p.any(1).logical_not()
            if int(rows.sum()) == 1 and not grad[rows].any():
                say(
                    f"row {int(rows.nonzero())} of {stream.name!r} is all zeros and has no gradient, as the row of an"
                    " embedding's padding_idx; noise moves it. Leave this parameter out with `where`, or set the row to"
                    " zero again after each step()"
                )
                return


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
    say(
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
