"""How strong the noise of an update is: the same number everywhere, or in proportion to each group's gradient."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from gradnoise.noise.gaussian import check_step
from gradnoise.noise.gradients import Rows, Stream, add_noise_, check_rows, refuse_shared
from gradnoise.noise.naming import names_of
from gradnoise.noise.norms import count, norm
from gradnoise.noise.schedule import Relative, Schedule, check_schedule, sigma, until_share
from gradnoise.noise.until import Endings

by_hand: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Gradients that got noise by `add_gradient_noise_`: a set, as its keys; torch has no weak set of tensors."""


class Group(NamedTuple):
    """A parameter group: its place in the optimizer, its schedule, and streams of the parameters that get noise.

    `streams` are those of parameters that have a gradient, `gradients` these.
    """

    place: int
    schedule: Schedule
    streams: list[Stream]
    gradients: list[Any]


class Dose(NamedTuple):
    """Streams that get the numbers of update t with the standard deviation sigma, times `scale` where that is given.

    `gradients` are those of the streams' parameters. `scale` is 0-dim, on any device: the loss scale, or all of sigma
    where that is `relative` to the gradient.
    """

    streams: list[Stream]
    gradients: list[Any]
    t: int
    sigma: float
    scale: Tensor | None
    relative: bool = False


def doses(
    groups: Sequence[Group],
    t: int,
    rows: Rows,
    scale: Tensor | None = None,
    endings: Endings | None = None,
) -> list[Dose]:
    """Return the noise of update t on gradients as they are now.

    Args:
        groups: where noise goes; streams without a gradient are not among them.
        t: update.
        rows: of sparse gradients.
        scale: loss scale that the gradients carry, a 0-dim tensor.
        endings: what knows which groups' noise has ended; None where no schedule asks for it.

    Returns:
        One dose for all streams of the same standard deviation, and one for each group relative to its gradient.
    """
    alike: dict[float, tuple[list[Stream], list[Any]]] = {}
    own: list[Dose] = []
    for place, schedule, streams, gradients in groups:
        over = not streams or (endings is not None and endings.over(place, t))
        if isinstance(schedule, Relative) and schedule.to == "gradient":
            ratio, elements = schedule.ratio(t), 0 if over else count(streams, rows)
            if ratio and elements:  # the norm carries the loss scale already
                # A gradient that has no norm gets no noise: one element would otherwise spoil all of them.
                size = norm(streams).nan_to_num(nan=0.0, posinf=0.0)
                own.append(Dose(streams, gradients, t, 1.0, size * (ratio / math.sqrt(elements)), relative=True))
            continue
        deviation = _deviation(schedule, streams, t, rows)  # an error also where there is no gradient now
        if not over:
            before, theirs = alike.get(deviation, ([], []))
            alike[deviation] = before + streams, theirs + gradients
    return [Dose(*parts, t, deviation, scale) for deviation, parts in alike.items()] + own


def _deviation(schedule: Schedule, streams: Sequence[Stream], t: int, rows: Rows) -> float:
    """Return sigma_t of noise that does not follow the gradient."""
    if isinstance(schedule, Relative):
        return schedule.sigma(t, 0.0, max(count(streams, rows), 1))
    return sigma(schedule, t)


def ask_for_ends(groups: Sequence[Group], t: int, rows: Rows, scale: Tensor | None, endings: Endings) -> None:
    """Have it found out which groups' noise, in update t, is under its share of the gradient; see `doses`."""
    for place, schedule, streams, _ in groups:
        share = until_share(schedule)
        if share is None or not streams or endings.over(place, t):
            continue
        if deviation := _deviation(schedule, streams, t, rows):
            noise = deviation * math.sqrt(count(streams, rows))
            endings.ask(place, t, _under(noise, share, norm(streams), scale))


def _under(noise: float, share: float, gradient: Tensor, scale: Tensor | None) -> Tensor:
    """Tell whether noise of this norm is under a share of the gradient, which may carry a loss scale: 0-dim bool."""
    if scale is not None:
        gradient = gradient / scale.to(gradient)
    return (gradient > noise / share) & torch.isfinite(gradient)


def add_doses_(doses: Sequence[Dose], rows: Rows) -> bool:
    """Add noise to gradients; return whether some of them were replaced by others."""
    return any([add_noise_(dose.streams, dose.gradients, dose.t, dose.sigma, rows, dose.scale) for dose in doses])


def add_gradient_noise_(
    named_parameters: Iterable[tuple[str, Tensor]],
    schedule: Schedule,
    *,
    t: int,
    seed: int,
    rows: Rows = "present",
) -> None:
    """Add the noise of one update to gradients in place: p.grad += sigma_t z(seed, name, t, index).

    This function has no state; `attach` calls it, in effect, at the right moment of every step with the right t.
    For your own loop call it after clipping and before `optimizer.step()`.

    Args:
        named_parameters: (name, parameter) pairs, as `model.named_parameters()` gives them. A parameter
            whose gradient is None is skipped, as are frozen ones; one that comes twice gets noise once, under its
            first name. A generator is read once: make it anew for every update.
        schedule: t -> sigma_t^2, a variance: `Annealed`, `Fixed`, or any callable; or `Relative`, here to the norm of
            all these gradients together.
        t: update, counted from 0.
        seed: any integer.
        rows: "present" adds noise to those rows that a sparse gradient has, "all" to every row.

    Raises:
        ValueError: an argument is unusable, there are no parameters, two share one gradient tensor, the schedule
            returns no variance, or it ends at a share of the gradient, which takes a memory that this function does
            not have.
        NotImplementedError: a gradient has a layout or placement that noise has no meaning for.

    Example:
        >>> loss.backward()
        >>> torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        >>> add_gradient_noise_(model.named_parameters(), Annealed(eta=0.01), t=t, seed=0)
        >>> optimizer.step()

    Source: Neelakantan et al. 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks", eq. 1.
    """
    check_schedule(schedule)
    check_rows(rows)
    t = check_step(t)
    if until_share(schedule) is not None:
        raise ValueError(f"{schedule!r} ends at a share of the gradient: use attach, which remembers when that was")
    every = [Stream.of(p, name, seed) for p, name in names_of(named_parameters).items()]
    if not every:
        raise ValueError(
            "named_parameters has no parameter; a generator such as model.named_parameters() can be read once, so call"
            " it for every update"
        )
    streams = [s for s in every if s.parameter.grad is not None and (s.parameter.requires_grad or not s.trained)]
    if not streams:
        warnings.warn(
            "no parameter has a gradient, so no noise was added; call this after backward() and before zero_grad()",
            stacklevel=2,
        )
    refuse_shared(streams)
    gradients = [stream.parameter.grad for stream in streams]
    add_doses_(doses([Group(0, schedule, streams, gradients)], t, rows), rows)
    for stream in streams:
        by_hand[cast(Tensor, stream.parameter.grad)] = None
