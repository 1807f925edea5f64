"""A population: P independent training runs of one experiment, advanced together one update at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradnoise.errors import PopulationError
from gradnoise.noise.gaussian import add_rows_, stream_key
from gradnoise.noise.schedule import Schedule, sigma
from gradnoise.population.clipping import clip_, clip_each_, norms
from gradnoise.population.compatibility import check_same
from gradnoise.population.draws import Draws
from gradnoise.population.dropout import DropoutMasks, MaskedDropout, replace_dropout
from gradnoise.population.experiment import Batch, Experiment, Metrics, Model
from gradnoise.population.optimizers import SGD, Optimizer
from gradnoise.population.randomness import BATCHES, DROPOUT, INIT, NOISE, WEIGHT_NOISE, seeded
from gradnoise.population.replica import Replica
from gradnoise.population.stacked import Replicas
from gradnoise.population.traced import Traced, losses_and_gradients


class Population:
    """P replicas trained as one program.

    One update of replica p, in this order (paper, section 3): gradient of its own minibatch loss; clip;
    g <- g + sigma_t z with z ~ N(0, 1) drawn for (seed, parameter name, t, element); optimizer.
    No step mixes rows, so that a replica's run does not depend on who trains beside it.

    Args:
        experiment: model, loss, minibatches, metrics.
        replicas: the runs; all tensor shapes must agree.
        optimizer: update rule, shared by all.
        clip_per: "replica" clips the global norm, "tensor" each parameter by its own norm.
        dtype: of parameters; float64 for checks.
        device: where to train.
        trace: record forward and backward pass once and replay them, see `program`; False interprets every step.
        compile: also compile what was traced with torch.compile (slow to start, needs a C++ compiler on a CPU).

    Attributes:
        t: updates done.
        alive: indices into `replicas` of those still training; the rows of `theta` in order.
        diverged: index -> update at which its loss or gradient stopped being finite.
        finished: index -> updates after which the experiment called it finished, see `retire`.
        own: what the experiment keeps per replica, see `Experiment.state`; [P, ...] each.
    """

    def __init__(
        self,
        experiment: Experiment,
        replicas: Sequence[Replica],
        *,
        optimizer: Optimizer | None = None,
        clip_per: str = "replica",
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        trace: bool = True,
        compile: bool = False,
    ) -> None:
        if not replicas:
            raise PopulationError("a population needs at least one replica")
        if clip_per not in ("replica", "tensor"):
            raise PopulationError(f"clip_per = {clip_per!r}: allowed are 'replica' and 'tensor'")
        self.experiment, self.replicas = experiment, tuple(replicas)
        self.optimizer: Optimizer = optimizer or SGD()
        self.clip_per = clip_per
        self.device = torch.device(device)
        self.dtype = dtype
        self.t = 0
        self.alive = list(range(len(replicas)))
        self.diverged: dict[int, int] = {}
        self.finished: dict[int, int] = {}
        self.rows = Replicas([self._build(r) for r in replicas], dtype=dtype, device=self.device)
        states = [experiment.state(r.config) for r in replicas]
        self.own = self._cast({n: torch.stack([s[n] for s in states]).to(self.device) for n in states[0]})
        self._generates = type(experiment).generate is not Experiment.generate
        self.failures = torch.zeros(2, len(replicas), dtype=torch.int64, device=self.device)  # in a row, in all
        self.masks = self._trace_dropout()
        self.state = self.optimizer.init(self.rows.theta)
        self._trace = trace or compile
        self._checked = False
        self._program = Traced(self._losses, compile=compile)
        self._set_rows()

    def _build(self, replica: Replica) -> torch.nn.Module:
        with seeded(replica.seed_for(INIT)):
            model = self.experiment.model(replica.config)
        if not isinstance(model, torch.nn.Module):
            raise PopulationError(f"{self.experiment.name}.model returned {type(model).__name__}, not an nn.Module")
        return replace_dropout(model)

    def _trace_dropout(self) -> DropoutMasks | None:
        """Pass one batch through the first replica to learn the shapes of its dropout masks."""
        layers = {n: m for n, m in self.rows.module.named_modules() if isinstance(m, MaskedDropout)}
        self.rows.fixed = {n: x for n, x in self.rows.fixed.items() if n.removesuffix(".mask") not in layers}
        if not layers:
            if any(r.dropout for r in self.replicas):
                raise PopulationError(
                    f"a replica asks for dropout, but {self.experiment.name}.model has no nn.Dropout layer"
                )
            return None
        with torch.no_grad(), seeded(0):
            self.experiment.loss(self.rows.module.train(), self._first_minibatch())
        seeds = [r.seed_for(DROPOUT) for r in self.replicas]
        return DropoutMasks.trace(layers, seeds, [r.dropout for r in self.replicas], self.rows.theta)

    def _set_rows(self) -> None:
        """Per-row constants and buffers for the replicas that are alive."""
        alive = [self.replicas[i] for i in self.alive]
        theta = self.rows.theta
        self.g = torch.empty_like(theta)
        self.g_views = self.rows.views(self.g)
        self._scheduled = any(callable(r.lr) for r in alive)
        self._set_rates()
        limits = [math.inf if r.clip is None else r.clip for r in alive]
        self.limit = torch.tensor(limits, dtype=theta.dtype, device=self.device)
        self._early = [r.noise_first for r in alive]
        self.noise_keys = self._keys(NOISE)
        self.weight_keys = self._keys(WEIGHT_NOISE) if any(r.weight_noise is not None for r in alive) else None
        self.offsets = torch.tensor(self.rows.offsets, dtype=torch.int64)
        self.forget()

    def _keys(self, purpose: str) -> Tensor:
        seeds = [self.replicas[i].seed_for(purpose) for i in self.alive]
        keys = [[stream_key(seed, name) for name in self.rows.names] for seed in seeds]
        return torch.tensor(keys, dtype=torch.uint64, device=self.device)

    def _set_rates(self) -> None:
        rates = [[self.replicas[i].rate(self.t)] for i in self.alive]
        self.lr = torch.tensor(rates, dtype=self.dtype, device=self.device)

    def forget(self) -> None:
        """Start new means of what `telemetry` reports."""
        self._sums = torch.zeros(3, len(self.alive), dtype=torch.float64, device=self.device)
        self._since = self.t

    # --- one update -------------------------------------------------------------------------------

    def step(self) -> None:
        """One update of every replica that is alive; when none is left it does nothing.

        A replica whose loss or gradient is not finite keeps everything as it was; after
        `Experiment.patience` such updates in a row it leaves.
        """
        if not self.alive:
            return
        losses, norm, report = self._gradients()
        bad = ~(torch.isfinite(losses) & torch.isfinite(norm))
        self.failures = torch.stack([torch.where(bad, self.failures[0] + 1, 0), self.failures[1] + bad])
        kept = None
        if bad.any():
            gone = self.failures[0] >= self.experiment.patience
            if gone.any():
                self._expel(gone)
                if not self.alive:
                    return
                losses, norm, bad = losses[~gone], norm[~gone], bad[~gone]
                report = {name: x[~gone] for name, x in report.items()}
            kept = self._keep(bad)
            losses, norm = losses.masked_fill(bad, 0), norm.masked_fill(bad, 0)
        clipped = self._clip_and_add_noise(norm)
        self._sums += torch.stack([losses, norm, clipped.to(norm.dtype)])
        if self._scheduled:
            self._set_rates()
        with torch.no_grad():
            t = torch.tensor(self.t, device=self.device)
            self.optimizer.update(self.rows.theta, self.g, self.state, self.lr, t)
            self.own = self.experiment.updated(self.own, report, self.t)
        if self.weight_keys is not None:
            self._add_noise(self.rows.theta, self._sigmas([r.weight_noise for r in self.replicas]), self.weight_keys)
        if kept:
            self._restore(*kept)
        self.t += 1

    def _keep(self, bad: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Rows that this update must not change, and copies of them; their gradients become 0."""
        rows = bad.nonzero().flatten()
        self.g[rows] = 0
        return rows, [x[rows] for x in self._mutable()]

    def _restore(self, rows: Tensor, copies: list[Tensor]) -> None:
        for x, copy in zip(self._mutable(), copies, strict=True):
            x[rows] = copy

    def _mutable(self) -> list[Tensor]:
        """Everything that an update changes, [P, ...] each."""
        return [self.rows.theta, *self.state.values(), *self.own.values()]

    def _gradients(self) -> tuple[Tensor, Tensor, Metrics]:
        """Losses [P], gradient norms [P] and the loss's metrics [P]; the gradients are left in self.g."""
        self.rows.train(True)
        arguments = self._arguments()
        if not self._checked:
            self._check_first(*arguments)
        run = self._program if self._trace else self._interpret
        losses, report, grads = run(*arguments)
        for view, grad in zip(self.g_views, grads, strict=True):
            if grad is None:  # used in a branch that no replica took, see `_check_first`
                view.zero_()
            else:
                view.copy_(grad)
        return losses, norms(self.g), report

    def _arguments(self) -> tuple[list[Tensor], dict[str, Tensor], Batch, bool]:
        """Parameters, buffers and minibatch of this update, and whether all replicas share the minibatch."""
        masks = self.masks.refill(self.t) if self.masks else {}
        return self.rows.views(self.rows.theta), self.rows.fixed | masks, *self._minibatches()

    def _losses(
        self, leaves: Sequence[Tensor], buffers: dict[str, Tensor], batch: Batch, shared: bool
    ) -> tuple[Tensor, Metrics]:
        output = self.rows.call(self.experiment.loss, batch, shared=shared, leaves=leaves, buffers=buffers)
        return output if isinstance(output, tuple) else (output, {})

    def _interpret(
        self, leaves: list[Tensor], buffers: dict[str, Tensor], batch: Batch, shared: bool
    ) -> tuple[Tensor, Metrics, list[Tensor | None]]:
        return losses_and_gradients(self._losses, leaves, buffers, batch, shared)

    def _check_first(self, leaves: list[Tensor], buffers: dict[str, Tensor], batch: Batch, shared: bool) -> None:
        """Find out whether the loss is one, whether vmap can run it, and whether every parameter has a gradient."""
        copies = {name: x.clone() for name, x in buffers.items()}  # a BatchNorm must not count this pass
        losses, _, grads = self._interpret(leaves, copies, batch, shared)
        if losses.shape != (len(self.alive),):
            shape = tuple(losses.shape[1:])
            raise PopulationError(f"{self.experiment.name}.loss returned shape {shape}; a loss is a scalar, shape ()")
        for name, grad in zip(self.rows.names, grads, strict=True):
            if grad is None and self.rows.loop_reason is None:  # a loop may take another branch next time
                raise PopulationError(
                    f"parameter {name!r} has no part in the loss; freeze it with requires_grad_(False)"
                )
        self._trace = self._trace and self.rows.loop_reason is None
        self._checked = True

    def _clip_and_add_noise(self, norm: Tensor) -> Tensor:
        """Clip gradients of these norms [P] and add the noise, see `Replica.noise_first`; which were clipped, [P]."""
        late = self.sigma()
        if any(self._early):
            early = [s if first else 0.0 for s, first in zip(late, self._early, strict=True)]
            late = [0.0 if first else s for s, first in zip(late, self._early, strict=True)]
            self._add_noise(self.g, early, self.noise_keys)
            norm = norms(self.g)
        clipped = (
            clip_(self.g, norm, self.limit) if self.clip_per == "replica" else clip_each_(self.g_views, self.limit)
        )
        self._add_noise(self.g, late, self.noise_keys)
        return clipped

    def _add_noise(self, x: Tensor, sigmas: Sequence[float], keys: Tensor) -> None:
        """x [P, N] <- x + sigma_p z, in place, with the random numbers of this update."""
        if any(sigmas):
            t = torch.full((len(self.alive),), self.t)
            scale = torch.tensor(sigmas, dtype=torch.float64)
            add_rows_(x, offsets=self.offsets, keys=keys, t=t, sigma=scale)

    def sigma(self) -> list[float]:
        """Standard deviation of the noise at update `t`, per alive replica."""
        return self._sigmas([r.noise for r in self.replicas])

    def _sigmas(self, schedules: Sequence[Schedule | None]) -> list[float]:
        """Standard deviations at update `t`, given the schedules of all replicas."""
        alive = [schedules[i] for i in self.alive]
        return [0.0 if s is None else sigma(s, self.t) for s in alive]

    # --- data -------------------------------------------------------------------------------------

    def _place(self) -> None:
        """Tell the experiment where batches are wanted; another population may share it."""
        self.experiment.device, self.experiment.dtype = self.device, self.dtype

    def _minibatch(self, replica: Replica) -> Batch:
        self._place()
        return self.experiment.batch(replica.seed_for(BATCHES), self.t, replica.config)

    def _first_minibatch(self) -> Batch:
        """The minibatch of the first replica, without replica axis."""
        batch, shared = self._minibatches()
        return batch if shared else pytree.tree_map(lambda x: x[0], batch)

    def _minibatches(self) -> tuple[Batch, bool]:
        """The batch of this update and whether all replicas share it (one seed: trials of the same pair)."""
        alive = [self.replicas[i] for i in self.alive]
        seeds = [r.seed_for(BATCHES) for r in alive]
        if self._generates:
            self._place()
            return self._cast(self._generated(seeds, alive[0].config)), False
        distinct: dict[int, Batch] = {}
        for seed, replica in zip(seeds, alive, strict=True):
            if seed not in distinct:
                distinct[seed] = self._minibatch(replica)
        if len(distinct) == 1:
            return self._cast(distinct[seeds[0]]), True
        order = list(distinct)
        rows = torch.tensor([order.index(s) for s in seeds], device=self.device)
        stacked = self._cast(self.experiment.stack(list(distinct.values())))
        return pytree.tree_map(lambda x: x[rows], stacked), False

    def _generated(self, seeds: Sequence[int], config: Mapping[str, Any]) -> Batch:
        agreed = {name: x for name, x in config.items() if name not in self.experiment.replica_keys}
        return self.experiment.generate(Draws(seeds, self.t, self.device), self.own, agreed)

    def _cast(self, batch: Batch) -> Batch:
        return pytree.tree_map(lambda x: x.to(self.dtype) if x.is_floating_point() else x, batch)

    # --- leaving ----------------------------------------------------------------------------------

    def _expel(self, bad: Tensor) -> None:
        """Freeze replicas: note their step and drop their rows; the others' rows stay bitwise as they were."""
        for row in bad.nonzero().flatten().tolist():
            self.diverged[self.alive[row]] = self.t
        self.select((~bad).nonzero().flatten())

    def select(self, rows: Tensor) -> None:
        """Keep only the given rows of those alive."""
        g, sums, since = self.g[rows], self._sums[:, rows], self._since
        self.alive = [self.alive[row] for row in rows.tolist()]
        self.rows.select(rows)
        self.state = {name: x[rows].contiguous() for name, x in self.state.items()}
        self.own = {name: x[rows].contiguous() for name, x in self.own.items()}
        self.failures = self.failures[:, rows]
        if self.masks:
            self.masks.select(rows)
        self._set_rows()
        self.g.copy_(g)
        self._sums, self._since = sums, since

    # --- reading ----------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self) -> dict[str, Tensor]:
        """The experiment's metrics, each [P] for the replicas alive; those with non-finite weights leave first."""
        bad = ~torch.isfinite(self.rows.theta).all(1)
        if bad.any():
            self._expel(bad)
        if not self.alive:
            return {}
        self._place()
        if self._trace and self._checked:
            self.rows.train(True)
            self._program.check(*self._arguments())
        self.rows.train(False)
        metrics = self.rows.call(self._evaluate)
        done = self.experiment.finished(metrics)
        if done is not None and done.any():
            self._confirm(metrics, done.nonzero().flatten())
        return metrics

    def _confirm(self, metrics: Metrics, rows: Tensor) -> None:
        """Replace the metrics of rows that look finished by those of `Experiment.confirm`."""
        leaves = [x[rows] for x in self.rows.views(self.rows.theta)]
        buffers = {name: x[rows] for name, x in self.rows.fixed.items()}
        confirmed = self.rows.call(self._confirmed, leaves=leaves, buffers=buffers)
        for name, values in confirmed.items():
            known = metrics.get(name, torch.full((len(self.alive),), math.nan, dtype=values.dtype, device=self.device))
            metrics[name] = known.index_put((rows,), values)

    def _confirmed(self, model: Model, _: Batch) -> Metrics:
        return self.experiment.confirm(model)

    def retire(self, metrics: Metrics) -> Tensor:
        """Let replicas go that are finished by these metrics of `evaluate`; returns the rows that stay."""
        done = self.experiment.finished(metrics)
        if done is None:
            return torch.arange(len(self.alive), device=self.device)
        done = done & torch.tensor([self.replicas[i].early_stop for i in self.alive], device=done.device)
        stay = (~done).nonzero().flatten()
        if done.any():
            self.finished |= {self.alive[row]: self.t for row in done.nonzero().flatten().tolist()}
            self.select(stay)
        return stay

    def _evaluate(self, model: Model, _: Batch) -> dict[str, Tensor]:
        metrics = self.experiment.evaluate(model)
        if not isinstance(metrics, dict) or not metrics:
            found = "an empty dict" if isinstance(metrics, dict) else f"a {type(metrics).__name__}"
            raise PopulationError(f"{self.experiment.name}.evaluate returned {found}; return a dict of scalar tensors")
        for name, value in metrics.items():
            if not isinstance(value, Tensor) or value.shape:
                found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
                raise PopulationError(
                    f"{self.experiment.name}.evaluate: metric {name!r} has {found}; metrics are tensors of shape ()"
                )
        return metrics

    def telemetry(self) -> dict[str, Tensor]:
        """Means since the last `forget`, each [P]: train_loss, gradient_norm (before the clip), clipped.

        And noise_norm, which is sigma_t * sqrt(N), the expected norm of the noise of the last update; and where
        non-finite gradients are skipped, how many were since the start; and `Experiment.watched`.
        """
        means = self._sums / max(self.t - self._since, 1)
        names = ("train_loss", "gradient_norm", "clipped")
        last = max(self.t - 1, 0)
        schedules = [self.replicas[i].noise for i in self.alive]
        noise = [0.0 if s is None else sigma(s, last) * self.rows.theta.shape[1] ** 0.5 for s in schedules]
        found = dict(zip(names, means, strict=True)) | {"noise_norm": torch.tensor(noise, dtype=torch.float64)}
        if self.experiment.patience > 1:
            found["skipped"] = self.failures[1]
        return found | {name: self.own[name] for name in self.experiment.watched}

    # --- checkpoints ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, as tensors (not copies of them) and plain values."""
        return {
            "replicas": [r.identity for r in self.replicas],
            "parameters": [f"{n} {tuple(s)}" for n, s in zip(self.rows.names, self.rows.shapes, strict=True)],
            "t": self.t,
            "alive": list(self.alive),
            "diverged": dict(self.diverged),
            "finished": dict(self.finished),
            "failures": self.failures,
            "own": self.own,
            "theta": self.rows.theta,
            "fixed": self.rows.fixed,
            "optimizer": self.state,
            "sums": self._sums,
            "since": self._since,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict` of a population of the same replicas, bit for bit.

        Raises:
            PopulationError: the state is of other replicas, another model, optimizer or dtype; nothing is changed.
        """
        check_same(state, self.state_dict())
        self.select(torch.tensor([self.alive.index(i) for i in state["alive"]], dtype=torch.int64))
        self.t = state["t"]
        self.diverged, self.finished = dict(state["diverged"]), dict(state["finished"])
        self.failures = state["failures"].to(self.device)
        self.rows.theta.copy_(state["theta"])
        for mine, saved in (
            (self.rows.fixed, state["fixed"]),
            (self.state, state["optimizer"]),
            (self.own, state["own"]),
        ):
            for name, x in mine.items():
                x.copy_(saved[name])
        self._sums = state["sums"].to(self.device)
        self._since = state["since"]
