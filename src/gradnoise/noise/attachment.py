"""Gaussian gradient noise on a torch optimizer: in place, after clipping, right before the update."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, overload

from torch import Tensor

from gradnoise.noise.arm import in_comparison, schedule_of_arm, seed_of_arm
from gradnoise.noise.doubts.checkpoints import about_saving
from gradnoise.noise.doubts.likely_mistakes import about_clipping, about_end
from gradnoise.noise.gradients import Rows, check_rows
from gradnoise.noise.handle import Noise, attached
from gradnoise.noise.naming import about_filter, about_prefix, names_of
from gradnoise.noise.options import schedule_of
from gradnoise.noise.places import Place, check_place
from gradnoise.noise.rollback import all_or_nothing
from gradnoise.noise.schedule import Schedule, check_schedule
from gradnoise.noise.steps.innermost import chain
from gradnoise.noise.steps.shared_groups import about_groups
from gradnoise.noise.warning import say


@overload
def attach(
    optimizer: Any,
    schedule: Schedule,
    *,
    seed: int,
    named_parameters: Iterable[tuple[str, Tensor]] | None = None,
    where: Callable[[str], bool] | None = None,
    rows: Rows = "present",
    anti_pgd: bool = False,
    on: Place = "gradients",
    warn: bool = True,
) -> Noise: ...


@overload
def attach(
    optimizer: Any,
    schedule: None = None,
    *,
    seed: int | None = None,
    named_parameters: Iterable[tuple[str, Tensor]] | None = None,
    where: Callable[[str], bool] | None = None,
    rows: Rows = "present",
    anti_pgd: bool = False,
    on: Place = "gradients",
    warn: bool = True,
) -> Noise | None: ...


def attach(
    optimizer: Any,
    schedule: Schedule | None = None,
    *,
    seed: int | None = None,
    named_parameters: Iterable[tuple[str, Tensor]] | None = None,
    where: Callable[[str], bool] | None = None,
    rows: Rows = "present",
    anti_pgd: bool = False,
    on: Place = "gradients",
    warn: bool = True,
) -> Noise | None:
    """Make every `optimizer.step()` add noise to the gradients first: g <- g + sigma_t z, once per update.

    z = z(seed, parameter's name, t, index) are standard normals, sigma_t^2 = schedule(t), and t counts the
    updates from 0. The noise is added to `p.grad` itself when `step` begins, hence after accumulation and
    clipping. Where `step` gets a closure it is added after each call of it, the same z within one step.

    The clock t is stored in `optimizer.param_groups`, so `optimizer.state_dict()` carries it, and attaching
    before or after `load_state_dict` resumes the same noise. Copying or pickling an optimizer drops its
    hooks: attach to the copy again.

    A parameter group may have noise of its own: its options `noise_eta` and `noise_gamma` replace those of an
    `Annealed` schedule, `noise_rho` and `noise_gamma` those of a `Relative` one, `noise_sigma` that of `Fixed`, as in
    `SGD([{"params": body}, {"params": head, "noise_eta": 0.0}], lr=0.1)`.

    Args:
        optimizer: a torch optimizer, or a wrapper that has one among its attributes (Accelerate, Opacus). Of an
            optimizer that drives another one for all its parameters (SAM, Lookahead) the inner one gets the noise.
        schedule: t -> sigma_t^2, a variance: `Annealed`, `Fixed`, or any callable; or `Relative`, noise in proportion
            to the gradient of each parameter group. Without one it is that of the arm which `gradnoise compare` gave
            this run; outside of a comparison, and in an arm without noise, nothing is done (a seed is then warned of).
        seed: any integer. The same seed gives the same noise on any device and any number of ranks. It may be left out
            where `schedule` is: then it is that of the run.
        named_parameters: (name, parameter) pairs, as `model.named_parameters()` gives them. A parameter's
            noise then depends on its name alone, not on its place in the optimizer. What DDP, torch.compile and
            activation checkpointing add to names is ignored. Without it parameters are named "group.index",
            such as "0.3": their places in `optimizer.param_groups`.
        where: given a parameter's name, tells whether it gets noise; None for all. It takes names: those of
            `named_parameters` or, without it, of an optimizer that was itself made with `model.named_parameters()`.
        rows: "present" adds noise to those rows that a sparse gradient has, "all" to every row.
        anti_pgd: anticorrelated noise (Orvieto et al. 2022): take away what the update before added,
            g <- g + sigma_t z_t - sigma_{t-1} z_{t-1}. With SGD the sum of the noise so far is sigma_t z_t. Where a
            parameter had no gradient or noise was paused, what its last update with noise added is taken away.
        on: "gradients", or "weights" for noise that is added to the parameters after every update and stays there, from
            streams of their own: an ablation. It has no gradient to be relative to, or to end by.
        warn: warn where something goes wrong without a word: noise is more than 10 times the gradient (looked at in
            the first updates and after every doubling of t), another optimizer's noise is the same, the optimizer
            clips or rescales after the noise, its state dict does not keep the clock, ranks of one model differ in
            their noise, groups hold options, ends or clocks of another run.

    Returns:
        A handle to read sigma, pause, replay, diagnose and detach the noise; None where nothing was done.

    Raises:
        ValueError: an argument is unusable, or noise is attached already.
        NotImplementedError: a parameter belongs to FSDP1.

    Example:
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> noise = attach(optimizer, Annealed(eta=0.01), seed=0, named_parameters=model.named_parameters())

    Source: Neelakantan et al. 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks", eq. 1.
    """
    if schedule is None:
        schedule = schedule_of_arm()
        if schedule is None:
            if seed is not None and not in_comparison():
                say(
                    "attach got a seed and no schedule, and adds no noise: outside of `gradnoise compare` give a"
                    " schedule such as Annealed(0.01), or leave the seed out as well"
                )
            return None
        seed = seed_of_arm(optimizer) if seed is None else seed
    if seed is None:
        raise ValueError("attach with a schedule needs a seed, any integer, such as seed=0")
    optimizers = chain(optimizer)
    inner = optimizers[-1]
    if attached(inner):
        raise ValueError("this optimizer has noise attached already; call detach() on its handle first")
    if not any(group["params"] for group in inner.param_groups):
        raise ValueError("this optimizer has no parameters to add noise to; give it some by add_param_group() first")
    check_schedule(schedule)
    if where is not None and not callable(where):
        raise ValueError(f"where must be a function of a parameter's name that returns True or False, got {where!r}")
    for name, value in (("anti_pgd", anti_pgd), ("warn", warn)):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")
    check_rows(rows)
    check_place(on, schedule)
    names = None if named_parameters is None else names_of(named_parameters)
    if warn:
        about_groups(inner, attached)
        about_prefix(names or {})
    with all_or_nothing(inner), contextlib.ExitStack() as undo:
        noise = Noise(inner, schedule, seed, names, where, rows, warn, anti_pgd, on)
        undo.callback(noise.detach)
        if warn:
            if where is not None:
                about_filter(inner, where, names, len(noise.keys))
            about_end(schedule_of(group, schedule) for group in inner.param_groups)
            about_clipping(optimizers)
            about_saving(optimizers)
        undo.pop_all()
    return noise
