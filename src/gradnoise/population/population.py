"""A population: P independent training runs of one experiment, advanced together one update at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradnoise.errors import PopulationError
from gradnoise.population.build import agreed_training, build_modules, rule_of, start_course, trace_dropout
from gradnoise.population.compatibility import check_same
from gradnoise.population.configuration import agreed
from gradnoise.population.constants import RowConstants
from gradnoise.population.course import Batch
from gradnoise.population.cuda_graph import CudaGraphs
from gradnoise.population.evaluation import evaluate
from gradnoise.population.experiment import Experiment
from gradnoise.population.feed import Feed
from gradnoise.population.goals import judged, start_goal
from gradnoise.population.gradients import Gradients
from gradnoise.population.part import Part, Place, first_states, places
from gradnoise.population.randomness import EVALUATION_DRAWS, LOSS_DRAWS
from gradnoise.population.replica import Replica
from gradnoise.population.stacked import DRAWS
from gradnoise.population.strength import check_gate
from gradnoise.population.telemetry import Seen, means, noise_norm, reserved
from gradnoise.population.turns import Round
from gradnoise.population.update import SUMS, Live, column, update
from gradnoise.population.vmapping import check_interpreter


class Population:
    """P replicas trained as one program.

    One update of replica p, in this order (paper, section 3): gradient of its own minibatch loss; clip;
    g <- g + sigma_t z with z ~ N(0, 1) drawn for (seed, parameter name, t, element); optimizer.
    No step mixes rows, so that a replica's run does not depend on who trains beside it. Where the experiment names
    turns, an update is one of a single turn: gradient, clip, noise and optimizer are those of its parameters, and the t
    of noise, optimizer and learning rate counts its own updates.

    A replica whose loss or gradient stops being finite, `Experiment.patience` times in a row, ends there. Its row is
    removed at the next `evaluate`, `state_dict` or `settle`, together with its place in `alive`.

    Args:
        experiment: model, loss, minibatches, metrics.
        replicas: the runs; all tensor shapes must agree, and so must their optimizer and the scope of the clip.
        dtype: of parameters; float64 for checks.
        device: where to train.
        trace: record forward and backward pass once and replay them, see `traced`; False interprets every step.
        compile: also compile what was traced with torch.compile (slow to start, needs a C++ compiler on a CPU).

    Attributes:
        t: updates done.
        alive: indices into `replicas` of those that have a row, in the order of the rows.
        diverged: index -> update at which its loss or gradient stopped being finite.
        finished: index -> updates after which it had reached its goal, see `retire`.
        modules: the replicas' models, stacked.
        round: the turns in which parameters are updated.
    """

    def __init__(
        self,
        experiment: Experiment,
        replicas: Sequence[Replica],
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        trace: bool = True,
        compile: bool = False,
    ) -> None:
        check_interpreter()
        if not replicas:
            raise PopulationError("a population needs at least one replica")
        self.experiment, self.device, self.dtype = experiment, torch.device(device), dtype
        self.replicas = tuple(replicas)
        configs = [experiment.Config() if r.config is None else r.config for r in replicas]
        self.config = agreed(configs, experiment.replica_keys)
        self.round = Round.of(experiment.turns)
        self.t = 0
        self.alive = list(range(len(replicas)))
        self.diverged: dict[int, int] = {}
        self.finished: dict[int, int] = {}
        self._since = 0
        self.modules = build_modules(experiment, replicas, configs, self.round, dtype, self.device)
        self._feed = Feed(experiment, self.config, self.device, dtype)
        self._feed.select(replicas)
        course = start_course(experiment, configs, dtype, self.device)
        self._goal = start_goal(experiment, configs, self.device)
        self._masks = trace_dropout(
            experiment, self.config, self.modules, replicas, self.round, lambda: self._feed(0, course), course
        )
        self._live = Live(
            t=torch.zeros((), dtype=torch.int64, device=self.device),
            clock=torch.zeros(len(self.round.turns), dtype=torch.int64, device=self.device),
            theta=self.modules.theta,
            optimizer={},
            course=course,
            failures=torch.zeros(2, len(replicas), dtype=torch.int64, device=self.device),
            diverged_at=torch.full((len(replicas),), -1, dtype=torch.int64, device=self.device),
            sums=torch.zeros(len(SUMS) * len(self.round.turns), len(replicas), dtype=torch.float64, device=self.device),
        )
        self._parts = [self._made(place, trace, compile) for place in places(self.round, self.modules)]
        self._set_rows()

    def _made(self, place: Place, trace: bool, compile: bool) -> Part:
        """Make what updates the parameters of one turn, and its states before the first update."""
        experiment, turn = self.experiment, self.round.turns[place.number]
        replicas = [r.during(turn) for r in self.replicas]
        shared, gated = agreed_training(experiment, replicas), check_gate(experiment, replicas)
        bound = getattr(shared.optimizer, "bound", None)
        optimizer = shared.optimizer if bound is None else bound(place.names, place.offsets)
        asked = {"gated": gated, "watched": experiment.watch_updates, "patience": experiment.patience}
        states = first_states(place, optimizer, replicas, self._live.theta, **asked)
        for mine, own in zip((self._live.optimizer, self._live.noise, self._live.watched), states, strict=True):
            mine |= own
        gradients = Gradients(
            experiment, self.config, self.modules, turn, place.parameters, trace=trace, compile=compile
        )
        graphs = CudaGraphs(self.device, enabled=trace)
        rule = rule_of(experiment, self.config, self.modules, optimizer, shared.clip_per)
        return Part(place, rule, gated, gradients, graphs)

    def _set_rows(self) -> None:
        """Make what belongs to the rows: the feed's seeds, and what each turn keeps of them."""
        replicas = self._replicas_alive()
        self._feed.select(replicas)
        for part, turn in zip(self._parts, self.round.turns, strict=True):
            part.set_rows(self._live, [r.during(turn) for r in replicas])
        self._loss_keys, self._evaluation_keys = (
            torch.tensor([r.seed_for(purpose) for r in replicas], device=self.device)
            for purpose in (LOSS_DRAWS, EVALUATION_DRAWS)
        )

    def _replicas_alive(self) -> list[Replica]:
        return [self.replicas[i] for i in self.alive]

    # --- training -------------------------------------------------------------------------------------

    def step(self) -> None:
        """Do one update of every replica that is alive; when none is left it does nothing."""
        if not self.alive:
            return
        try:
            batch, shared = self._feed(self.t, self._live.course)
            k = self.round.at(self.t)
            part = self._parts[k]
            constants = part.tables.at(self.round.done(k, self.t))
            part.graphs(lambda *given: self._update(part, *given), (batch, shared), constants)
        except Exception:
            rows = len(self.alive)
            self.settle()
            if len(self.alive) == rows:
                raise
            self.step()  # a loss may refuse the nan of a row that has ended; the others go on without it
            return
        self.t += 1

    def skip(self, t: int) -> None:
        """Go to update t without those before it; for looks at what comes, never in a run."""
        self.t = self._since = t
        self._live.t.fill_(t)
        self._live.clock.copy_(torch.tensor(self._clocks(t)))

    def _clocks(self, t: int) -> list[int]:
        return [self.round.done(k, t) for k in range(len(self.round.turns))]

    def _update(self, part: Part, minibatch: tuple[Batch, bool], rows: RowConstants) -> None:
        """Do an update of every row; the host reads nothing that lies on the device."""
        buffers = self._buffers_kept()
        losses, observed = part.gradients.into(part.segments, *self._inputs(*minibatch), self._later)
        update(part.rule, part.live, part.g, part.segments, losses, observed, rows)
        for x, before in buffers:
            good = self._live.failures[0] == 0
            x.copy_(torch.where(column(good, x), x, before))

    def _buffers_kept(self) -> list[tuple[Tensor, Tensor]]:
        """Return buffers and copies of them, where an update may be skipped and must then leave no trace."""
        if self.experiment.patience == 1:
            return []
        return [(x, x.clone()) for x in self.modules.fixed.values()]

    def _inputs(self, batch: Batch, shared: bool) -> tuple[dict[str, Tensor], Batch, bool]:
        """Return buffers with the masks of this update, the loss's batch and t, and whether all replicas share it."""
        masks = self._masks.refill(self._live.t) if self._masks else {}
        masks[DRAWS] = torch.stack([self._loss_keys, self._live.t.expand_as(self._loss_keys)], 1)
        if self.experiment.course is not None:
            batch = (batch, self._live.course)
        return self.modules.fixed | masks, (batch, self._live.t), shared

    def _later(self) -> tuple[dict[str, Tensor], Batch, bool]:
        """Return what the loss may get in the next update, as far as that is known before this one is made."""
        return self._inputs(*self._feed(self.t + 1, self._live.course))

    def settle(self) -> None:
        """Remove the rows of replicas that have ended; this waits for the device."""
        ended = self._live.diverged_at.tolist()
        for row, t in enumerate(ended):
            if t >= 0:
                self.diverged[self.alive[row]] = t
        if any(t >= 0 for t in ended):
            self.select([row for row, t in enumerate(ended) if t < 0])

    def select(self, rows: Sequence[int]) -> None:
        """Keep only the given rows of those alive; what they hold stays bitwise as it was."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.device)
        live = self._live
        self.alive = [self.alive[row] for row in rows]
        self.modules.select(index)
        self._live = Live(
            t=live.t,
            clock=live.clock,
            theta=self.modules.theta,
            optimizer={name: x[index].contiguous() for name, x in live.optimizer.items()},
            course={name: x[index].contiguous() for name, x in live.course.items()},
            failures=live.failures[:, index],
            diverged_at=live.diverged_at[index],
            sums=live.sums[:, index],
            noise={name: x[index] for name, x in live.noise.items()},
            watched={name: x[index] for name, x in live.watched.items()},
        )
        self._goal = {name: x[index] for name, x in self._goal.items()}
        if self._masks:
            self._masks.select(index)
        self._set_rows()

    @property
    def recorded(self) -> bool:
        """Whether updates are replayed, so that no Python code of the loss runs in them."""
        return all(part.gradients.recorded for part in self._parts)

    def keeps(self) -> list[str]:
        """Return what the code of the loss changes while it runs, such as "Toy.calls (2, then 3)"."""
        inputs = self._inputs(*self._feed(self.t, self._live.course))
        return list(dict.fromkeys(kept for part in self._parts for kept in part.gradients.keeps(*inputs)))

    # --- reading --------------------------------------------------------------------------------------

    def evaluate(self) -> dict[str, Tensor]:
        """Return the experiment's metrics, [P] each for the replicas alive; those that have ended leave first."""
        finite = torch.isfinite(self.modules.theta).all(1)
        broken = ~finite & (self._live.diverged_at < 0)
        self._live.diverged_at.copy_(torch.where(broken, self._live.t, self._live.diverged_at))
        self.settle()
        if not self.alive:
            return {}
        self.modules.train(True)
        inputs = self._inputs(*self._feed(self.t, self._live.course))
        for part in self._parts:
            part.gradients.check(*inputs)
        draws = torch.stack([self._evaluation_keys, torch.zeros_like(self._evaluation_keys)], 1)  # always the same ones
        return evaluate(self.experiment, self.config, self.modules, self._feed.held_out(), draws, self._goal)

    def retire(self, metrics: Mapping[str, Tensor]) -> list[int]:
        """Let replicas go that have reached their goal by these metrics of `evaluate`; return the rows that stay.

        A goal that remembers evaluations takes this one in.
        """
        rows = list(range(len(self.alive)))
        if self.experiment.goal is None:
            return rows
        flags, self._goal = judged(self.experiment.goal, metrics, self._goal)
        reached = flags.tolist()
        done = [row for row in rows if reached[row] and self.replicas[self.alive[row]].training.early_stop]
        self.finished |= {self.alive[row]: self.t for row in done}
        stay = [row for row in rows if row not in set(done)]
        if done:
            self.select(stay)
        return stay

    def telemetry(self) -> dict[str, Tensor]:
        """Return what was seen since the last `reset_telemetry`, [P] each.

        Means of train_loss, gradient_norm (before the clip) and clipped, and of what `Experiment.watch_updates` asks
        for; noise_norm, the expected norm of the noise of the last update; where non-finite updates are skipped, how
        many were since the start; and what the course records. Where the experiment names turns, these are means over
        the updates of all of them, and beside them stand those of each, such as train_loss_d.
        """
        found = means([self._seen(k, part) for k, part in enumerate(self._parts)])
        if self.experiment.patience > 1:
            found["skipped"] = self._live.failures[1]
        course = self.experiment.course
        recorded = {} if course is None else course.recorded(self._live.course)
        if taken := sorted(recorded.keys() & reserved(self.round)):
            raise PopulationError(
                f"the course records {taken[0]!r}, which is recorded of every experiment; give it another name"
            )
        return found | recorded

    def _seen(self, k: int, part: Part) -> Seen:
        """Return what was seen of a turn since the last `reset_telemetry`."""
        live, done = part.live, self.round.done(k, self.t)
        sizes, gated = part.tables.noisy_sizes(), part.gated and done > 0
        noise = noise_norm(part.replicas, max(done - 1, 0), sizes, live.noise, gated=gated)
        return Seen(self.round.turns[k].name, done - self.round.done(k, self._since), live.sums, live.watched, noise)

    def reset_telemetry(self) -> None:
        """Start new means of what `telemetry` returns."""
        for x in (self._live.sums, *self._live.watched.values()):
            x.zero_()
        self._since = self.t

    # --- checkpoints ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next update depends on, as tensors (not copies of them) and plain values."""
        self.settle()
        named = zip(self.modules.names, self.modules.shapes, strict=True)
        seldom = {"noise": self._live.noise, "watched": self._live.watched, "goal": self._goal}
        return {
            "replicas": [r.identity for r in self.replicas],
            "parameters": [f"{n} {tuple(s)}" for n, s in named],
            "t": self.t,
            "alive": list(self.alive),
            "diverged": dict(self.diverged),
            "finished": dict(self.finished),
            "failures": self._live.failures,
            "course": self._live.course,
            "theta": self.modules.theta,
            "fixed": self.modules.fixed,
            "optimizer": self._live.optimizer,
            "sums": self._live.sums,
            "since": self._since,
        } | {name: x for name, x in seldom.items() if x}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict` of a population of the same replicas, bit for bit.

        Raises:
            PopulationError: the state is of other replicas, another model, optimizer or dtype; nothing is changed.
        """
        check_same(state, self.state_dict())
        self.select([self.alive.index(i) for i in state["alive"]])
        self.skip(state["t"])
        self._since = state["since"]
        self.diverged, self.finished = dict(state["diverged"]), dict(state["finished"])
        live = self._live
        pairs = [(live.failures, state["failures"]), (live.theta, state["theta"]), (live.sums, state["sums"])]
        for mine, saved in (
            (self.modules.fixed, state["fixed"]),
            (live.optimizer, state["optimizer"]),
            (live.course, state["course"]),
            (live.noise, state.get("noise", {})),
            (live.watched, state.get("watched", {})),
            (self._goal, state.get("goal", {})),
        ):
            pairs += [(x, saved[name]) for name, x in mine.items()]
        for x, saved in pairs:
            x.copy_(saved)
