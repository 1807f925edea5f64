"""One update of all replicas, as a function of tensors alone: clip, noise, optimizer, what becomes of bad rows.

Nothing here branches on a value that lies on the device, reads one on the host, or puts a result at a new address:
what an update changes is changed where it lies. So the same function runs on a CPU and replays as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradnoise.errors import PopulationError
from gradnoise.noise.gaussian import add_rows_
from gradnoise.population.clipping import clip_each_, clip_scale, norms
from gradnoise.population.constants import RowConstants
from gradnoise.population.course import Metrics, State
from gradnoise.population.noisy import Noisy
from gradnoise.population.optimizers import Optimizer, before_noise_of
from gradnoise.population.strength import Strength
from gradnoise.population.watching import Watch

#: What is summed for telemetry.
SUMS = ("train_loss", "gradient_norm", "clipped")


@dataclass
class Live:
    """Everything that an update changes, for P rows; of all parameters, or of those that are updated together.

    Args:
        t: updates done, 0-dim int64.
        clock: those of these parameters, 0-dim int64; of all parameters [K], one of each turn.
        theta: parameters [P, N].
        optimizer: state of the optimizer, [P, ...] each.
        course: what the replicas keep beside their weights, [P, ...] each.
        failures: int64 [2, P], updates with non-finite losses or gradients: the last ones in a row, and all.
        diverged_at: int64 [P], the update that ended a row; -1 for those that go on.
        sums: float64 [3, P], sums of loss, gradient norm and clipped updates, for telemetry; of all parameters
            [3 K, P].
        noise: where a row's noise hangs on its gradients or on the course, "norm", float64 [P]: the expected norm of
            the last update's noise, and "ended", int64 [P]: the first update without noise, -1 while it goes on; else
            empty. Where it is also taken away again, or updates may be skipped, "added", float64 [P], and "added at",
            int64 [P]: sigma and t of the last noise that stayed.
        watched: sums of what becomes of gradients, see `start_watching`; else empty.
    """

    t: Tensor
    clock: Tensor
    theta: Tensor
    optimizer: State
    course: State
    failures: Tensor
    diverged_at: Tensor
    sums: Tensor
    noise: State = field(default_factory=dict)
    watched: State = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """How rows are updated: what all of them share.

    Args:
        optimizer: update rule.
        clip_per: "replica" or "tensor".
        patience: this many bad updates in a row end a row.
        after: (state of the course, what the loss returned, t) -> the next state of the course.
        rate: state of the course -> factors of the learning rates [P], or None for 1.
        noise: state of the course -> factors of sigma_t of the gradient noise [P], or None for 1. Where it is not None
            `Live.noise` is not empty.
        weights: state of the course after an update -> (parameter [P, ...] where it lies, its new value) for those that
            the course changes.
    """

    optimizer: Optimizer
    clip_per: str
    patience: int
    after: Callable[[State, Metrics, Tensor], State]
    rate: Callable[[State], Tensor | None] = lambda _: None
    noise: Callable[[State], Tensor | None] = lambda _: None
    weights: Callable[[State], Sequence[tuple[Tensor, Tensor]]] = lambda _: ()


@torch.no_grad()
def update(
    rule: Rule, live: Live, g: Tensor, segments: Sequence[Tensor], losses: Tensor, observed: Metrics, rows: RowConstants
) -> None:
    """Do an update of every row, in place (paper, section 3): clip, g <- g + sigma_t z, optimizer.

    The t of noise, optimizer and learning rate is the clock of the parameters that are updated.

    A row whose loss or gradient is not finite is bad. Where a row may be bad more than once (patience > 1) it keeps
    everything as it was; otherwise it has ended, and nothing of it is read again but `diverged_at`.

    Args:
        rule: how.
        live: what is changed.
        g: gradients [P, N]; overwritten.
        segments: the same memory, one parameter at a time, [P, ...] each.
        losses: [P].
        observed: what the losses returned beside their values, [P, ...] each.
        rows: constants that cover this update.
    """
    norm = norms(g)
    bad = ~(torch.isfinite(losses) & torch.isfinite(norm))
    ok = ~bad & _counted(rule, live, bad)
    kept = _copies(live) if rule.patience > 1 else []
    watch = Watch(live.watched, live.theta, rule.optimizer) if live.watched else None
    clipped = _clip_and_add_noise(rule, live, g, segments, norm, ok, rows, watch)
    live.sums += torch.stack([torch.where(ok, x, 0) for x in (losses, norm, clipped.to(norm.dtype))])
    rule.optimizer.update(live.theta, g, live.optimizer, _rates(rule, live, rows)[:, None], live.clock)
    if watch is not None:
        watch.after_update(live.theta, ok)
    if rows.weights is not None and rows.weight_keys is not None:
        _add_noise(live.theta, rows.at(rows.weights, live.clock), rows.weight_keys, live.clock, rows)
    for x, before in kept:
        x.copy_(torch.where(column(ok, x), x, before))
    _advance_course(rule, live, observed, ok)
    for x, new in rule.weights(live.course):
        x.copy_(torch.where(column(ok, x), new, x))
    live.t += 1
    live.clock += 1


def _rates(rule: Rule, live: Live, rows: RowConstants) -> Tensor:
    """Return the learning rates [P] of this update."""
    rates, factor = rows.at(rows.lr, live.clock), rule.rate(live.course)
    return rates if factor is None else rates * factor


def _counted(rule: Rule, live: Live, bad: Tensor) -> Tensor:
    """Count bad updates, note which rows they end, and return which rows have not ended, bool [P]."""
    in_a_row, in_all = live.failures
    live.failures.copy_(torch.stack([torch.where(bad, in_a_row + 1, 0), in_all + bad]))
    ends = (live.failures[0] >= rule.patience) & (live.diverged_at < 0)
    live.diverged_at.copy_(torch.where(ends, live.t, live.diverged_at))
    return live.diverged_at < 0


def _copies(live: Live) -> list[tuple[Tensor, Tensor]]:
    return [(x, x.clone()) for x in (live.theta, *live.optimizer.values())]


def _clip_and_add_noise(
    rule: Rule,
    live: Live,
    g: Tensor,
    segments: Sequence[Tensor],
    norm: Tensor,
    ok: Tensor,
    rows: RowConstants,
    watch: Watch | None,
) -> Tensor:
    """Clip gradients of these norms [P] and add their noise; return which rows were clipped, bool [P]."""
    t = live.clock
    quiet = None if rows.nonzero_only is None else (g == 0) & rows.nonzero_only[:, None]
    strength = Strength(live.noise, t, rows, g, quiet, rule.noise(live.course))

    def add(table: Tensor | None, undone: Tensor | None, anti: Tensor | None, scale: Tensor | None = None) -> None:
        _add_noise(g, strength.at(table, norm, scale), rows.noise_keys, t, rows, scale, quiet, rows.noisy)
        if (gone := strength.undone(undone, anti)) is not None:  # the kernel adds: g - sigma z = -(-g + sigma z)
            _add_noise(g.neg_(), gone[0], rows.noise_keys, gone[1], rows, quiet=quiet, noisy=rows.noisy)
            g.neg_()

    if rows.before_clip is not None or rows.anti_before is not None:
        add(rows.before_clip, rows.undone_before, rows.anti_before)
        norm = norms(g)
    scale, clipped = None, torch.zeros_like(norm, dtype=torch.bool)
    if rows.limit is not None and rule.clip_per == "tensor":
        clipped = clip_each_(segments, rows.limit)
        norm = norms(g) if live.noise else norm
    elif rows.limit is not None:
        scale, clipped = clip_scale(norm, rows.limit)
        norm = torch.where(clipped, rows.limit, norm)
    if (own := before_noise_of(rule.optimizer)) is not None:
        if scale is not None:
            g.mul_(scale[:, None])
        own(g, live.optimizer, t)
        scale, norm = None, norms(g)
    if watch is not None:
        watch.before_noise(g, scale)
    if scale is not None or rows.after_clip is not None or rows.anti_after is not None:
        add(rows.after_clip, rows.undone_after, rows.anti_after, scale)
    if watch is not None:
        watch.after_noise(g)
    strength.note(ok)
    return clipped


def _add_noise(
    x: Tensor,
    sigma: Tensor | None,
    keys: Tensor,
    t: Tensor,
    rows: RowConstants,
    scale: Tensor | None = None,
    quiet: Tensor | None = None,
    noisy: Noisy | None = None,
) -> None:
    """x [P, N] <- scale x + sigma z_t, in place.

    Args:
        x: rows.
        sigma: standard deviation of each row's noise, [P]; None for no noise.
        keys: of the streams.
        t: update, 0-dim.
        rows: constants of the rows.
        scale: [P]; None for 1.
        quiet: bool [P, N], elements that are 0 and get no noise; None for none.
        noisy: which parameters of which rows get noise; None for all.
    """
    sigma = x.new_zeros(len(x), dtype=torch.float64) if sigma is None else sigma
    if noisy is None:
        add_rows_(x, offsets=rows.offsets, keys=keys, t=t.expand(len(x)), sigma=sigma, scale=scale)
    else:
        for run, here in zip(noisy.runs, noisy.rows, strict=True):
            part, offsets = x[:, run.start : run.stop], rows.offsets[run.first : run.end + 1] - run.start
            own = keys[:, run.first : run.end]
            add_rows_(part, offsets=offsets, keys=own, t=t.expand(len(x)), sigma=sigma * here, scale=scale)
    if quiet is not None:
        x.masked_fill_(quiet, 0)


def _advance_course(rule: Rule, live: Live, observed: Metrics, ok: Tensor) -> None:
    """Let the course see the update; rows that were bad keep their state."""
    after = rule.after(live.course, observed, live.t)
    if missing := sorted(live.course.keys() - after.keys()):
        raise PopulationError(f"the course's `after` left out {missing[0]!r}; return every entry that `start` returned")
    # all new values are made before the first is written: they may be views of one another
    new = {name: torch.where(column(ok, x), after[name], x) for name, x in live.course.items()}
    for name, x in live.course.items():
        x.copy_(new[name])


def column(rows: Tensor, x: Tensor) -> Tensor:
    """Shape a flag [P] so that it broadcasts with [P, ...]."""
    return rows.view(-1, *[1] * (x.dim() - 1))
