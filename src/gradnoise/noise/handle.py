"""The handle of noise on an optimizer: what `attach` returns."""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from gradnoise.noise import gaussian
from gradnoise.noise.anticorrelated import Added
from gradnoise.noise.diagnostics import GroupDiagnostics, diagnose
from gradnoise.noise.dosing import Dose, Group, add_doses_, ask_for_ends, doses
from gradnoise.noise.doubts.lookout import DOUBTFUL, Lookout
from gradnoise.noise.doubts.other_noise import Origin
from gradnoise.noise.doubts.ranks import Ranks
from gradnoise.noise.gradients import Rows, refuse_shared
from gradnoise.noise.guarded import Pause, ReadOnly
from gradnoise.noise.options import Options
from gradnoise.noise.places import Place, weights_of
from gradnoise.noise.replaying import Replay
from gradnoise.noise.schedule import Relative, Schedule, check_at, shown, until_share
from gradnoise.noise.steps.before_update import BeforeUpdate
from gradnoise.noise.streams import Streams
from gradnoise.noise.until import Endings

_attached: weakref.WeakKeyDictionary[Optimizer, weakref.ref[Noise]] = weakref.WeakKeyDictionary()


def attached(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer has noise."""
    return optimizer in _attached


def handles() -> list[Noise]:
    """Return the handles of all optimizers that have noise, in the order in which it was attached."""
    return [noise for ref in _attached.values() if (noise := ref()) is not None]


class Noise:
    """Handle of the noise on one optimizer, made by `attach`.

    Attributes:
        optimizer: the torch optimizer, without wrappers.
        schedule: as given to `attach`.
        seed: as given to `attach`.
    """

    # Without a dictionary a misspelt or invented attribute cannot be set.
    __slots__ = (
        "__weakref__", "_added", "_done", "_done_at", "_endings", "_last", "_looked", "_lookout", "_on", "_optimizer",
        "_options", "_origin", "_paused", "_ranks", "_replay", "_rows", "_schedule", "_seed", "_steps", "_streams",
        "_updated", "_versions",
    )  # fmt: skip
    optimizer = ReadOnly[Optimizer]()
    schedule = ReadOnly[Schedule]()
    seed = ReadOnly[int]()

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        seed: int,
        names: dict[Tensor, str] | None,
        where: Callable[[str], bool] | None,
        rows: Rows,
        warn: bool,
        anti_pgd: bool,
        on: Place,
    ) -> None:
        self.optimizer, self.schedule, self.seed = optimizer, schedule, seed
        self._rows: Rows = rows
        self._on = on
        # Gradients that have the noise of `_done_at`, and the versions of the first and the last; only while a step
        # runs, or has raised.
        self._done: list[Tensor] = []
        self._versions = 0, 0
        self._looked = 0  # how often noise was added, which tells when gradients are looked at
        self._done_at = -1
        self._last: tuple[Tensor, Tensor | None] | None = None  # of noise relative to the gradient, and the loss scale
        self._paused = False
        self._updated: list[Group] = []  # what the update changes that is under way, for noise on weights
        self._options = Options(optimizer, schedule, warn)
        schedules = list(map(self._options.schedule, range(len(optimizer.param_groups))))
        for own in schedules:  # what is unusable is found here, not in the first step
            check_at(own, 0)
        key = seed if on == "gradients" else gaussian.stream_key(seed, on)  # not the numbers that gradients would get
        self._streams = Streams(optimizer, key, names, where)
        ending = [i for i, own in enumerate(schedules) if until_share(own) is not None]
        noise = f"{shown(schedule)}, seed {seed}"
        further = (", on weights" if on == "weights" else "") + (", anticorrelated" if anti_pgd else "")
        self._origin = Origin(optimizer, noise + further, bool(ending), warn)
        self._endings = Endings(optimizer, ending, noise, warn) if ending else None
        self._options.keep(self._endings)
        self._steps = BeforeUpdate(optimizer, self._add, self._made_update)
        self._added = Added(optimizer) if anti_pgd else None
        self._replay = Replay(self._streams, self._options, self._endings, self._added)
        self._lookout = self._look_out() if warn else None
        settings = {"anti_pgd": anti_pgd, "on": on, "rows": rows}
        self._ranks = Ranks(optimizer, self._streams, self._options.strength, settings, warn)
        _attached[optimizer] = weakref.ref(self)

    @property
    def step(self) -> int:
        """Return the next update's t: how many updates were made so far."""
        return self._steps.clock.t

    @property
    def keys(self) -> frozenset[int]:
        """Return the keys of the noise's streams, one for each parameter that gets noise."""
        return self._streams.keys

    def __reduce__(self) -> Any:
        """Refuse to be copied or pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "a handle of gradient noise cannot be copied or pickled, since it belongs to its optimizer's hooks; keep"
            " its state_dict() and attach to the copied optimizer again"
        )

    @property
    def sigma(self) -> float:
        """Return sigma of the next update's noise, in groups without options of their own; in the first where all have.

        Of noise that is relative to the gradient it is that of the last update, in the first group that had any; nan
        before the first one. It is 0 where noise has ended in all of these groups.
        """
        follows = isinstance(self.schedule, Relative) and self.schedule.to == "gradient"
        going = self._options.going(self.step - follows)
        if not going:
            return 0.0
        if not follows:
            return self._replay.sigma(going[0], self.step)
        if self._last is None:
            return math.nan
        deviation, scale = self._last
        return float(deviation) / (1.0 if scale is None else float(scale))

    def paused(self) -> Pause:
        """Leave updates in this context without noise. They count: the clock goes on, and with it the noise."""
        return Pause(self._pause)

    def _pause(self, paused: bool) -> bool:
        before, self._paused = self._paused, paused
        return before

    def detach(self) -> None:
        """Remove the noise from the optimizer. The clock stays there, so attaching again goes on counting."""
        if _attached.get(self.optimizer, lambda: None)() is self:
            self._steps.remove()
            self._options.remove()
            self._origin.remove()
            if self._lookout is not None:
                self._lookout.remove()
            if self._endings is not None:
                self._endings.remove()
            if self._added is not None:
                self._added.remove()
            _attached.pop(self.optimizer, None)

    def state_dict(self) -> dict[str, Any]:
        """Return clock and seed, for checkpoints that do not keep the optimizer's own state.

        Where noise ends at a share of the gradient, also the first update without noise of each group, -1 for none; of
        anticorrelated noise also what was added and not taken away yet.
        """
        state: dict[str, Any] = {"version": gaussian.VERSION, "seed": self.seed, "t": self.step}
        if self._endings is not None:
            self._endings.settle()
            groups = range(len(self.optimizer.param_groups))
            state["ended"] = [-1 if (t := self._endings.at(i)) is None else t for i in groups]
            state["ended_of"] = self._endings.noise
        if self._added is not None:
            state["added"] = self._added.state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the clock to that of a `state_dict`.

        Raises:
            ValueError: the state is of another seed, version of the noise or number of groups, or its t is no integer
                >= 0; nothing is changed.
        """
        mine = self.state_dict()
        if missing := sorted(mine.keys() - state.keys() - {"ended_of"}):
            raise ValueError(
                f"this is no state of gradient noise: it has no {', '.join(missing)}; pass what state_dict() of a"
                " handle returned"
            )
        for what in ("version", "seed"):
            if state[what] != mine[what]:
                raise ValueError(
                    f"the state is of noise with {what} {state[what]}, here it is {mine[what]}; its steps cannot be"
                    " continued" + (f": attach with seed={state[what]}" if what == "seed" else "")
                )
        if "added" in state and self._added is None:
            raise ValueError(
                "the state is of anticorrelated noise, of which the last would stay: attach with anti_pgd=True"
            )
        t = gaussian.check_step(state["t"])
        added = None if self._added is None else self._added.read(state["added"])
        if self._endings is not None:
            self._endings.load(state["ended"], state.get("ended_of", self._endings.noise))
        self._steps.clock.t = t
        if self._added is not None:
            self._added.load(added or [])

    def replay(self, name: str, t: int, *, sigma: float | None = None) -> Tensor:
        """Return the noise that update t adds to one parameter: sigma_t z, whether or not it was paused then.

        Of anticorrelated noise it is sigma_t z_t less what is taken away: known of the last update and of the coming
        one, and for others sigma_{t-1} z_{t-1}, as where update t - 1 added noise to the parameter.

        Args:
            name: the parameter's name, as given by `named_parameters`, or "group.index" without them.
            t: update, counted from 0.
            sigma: standard deviation, where it is not a function of t: `noise.sigma` or that of `diagnostics()`.
                Noise relative to the clip has one if all parameters of its group have gradients.

        Returns:
            Dense tensor of the (whole) parameter's shape on the CPU: float64 for a float64 parameter, complex64
            or complex128 for complex ones, float32 for all others.

        Raises:
            ValueError: no parameter has this name, t is no integer >= 0, or sigma is needed, or that of an earlier
                update is.
        """
        t = gaussian.check_step(t)
        return self._replay(name, t, self.step, sigma)

    def diagnostics(self) -> list[GroupDiagnostics]:
        """Compare the noise of the coming update with the gradients as they are now, per parameter group.

        With noise on weights their norm stands in the place of the gradient's. Call it right before `step`, when
        gradients have been clipped and, under a GradScaler, divided by the loss scale (`scaler.unscale_(optimizer)`); a
        warning tells where they were 2 times as large as in the update, or more. It draws the noise of the coming
        update once more, a parameter at a time, and copies numbers off the device: for every hundredth step, not for
        each. Under a process group every rank has to call it. While paused the noise is what would be added.
        """
        if self._endings is not None:
            self._endings.settle()
        groups, t = self._groups(), self.step
        if self._on == "weights":
            groups = list(map(weights_of, groups))
        for group in groups:  # one that raises does so before any drawing
            check_at(group.schedule, t)
        if self._lookout is not None and self._on == "gradients":
            self._lookout.diagnosed([stream for group in groups for stream in group.streams], t)
        left = None if self._added is None else self._added.left(t)
        return [diagnose(group, t, self._rows, self._endings, left) for group in groups]

    def _groups(self) -> list[Group]:
        """Return the parameters that get noise and have a gradient now."""
        groups = []
        for i, streams in enumerate(self._streams.by_group()):
            gradients = [s.parameter.grad for s in streams]
            if NoneType in set(map(type, gradients)):
                streams = [s for s in streams if s.parameter.grad is not None]
                gradients = [s.parameter.grad for s in streams]
            groups.append(Group(i, self._options.schedule(i), streams, gradients))
        return groups

    def _add(self, t: int, scale: Tensor | None) -> bool:
        """Add the noise of update t; return whether there was a gradient to add it to."""
        groups = self._groups()
        everywhere: list[Any] = list(itertools.chain.from_iterable(group.streams for group in groups))
        gradients: list[Any] = list(itertools.chain.from_iterable(group.gradients for group in groups))
        if self._endings is not None:
            self._endings.settle()
        if self._on == "weights" and everywhere:  # kept, since the step may clear gradients
            self._updated = groups
        if not everywhere or self._has_noise(gradients, t):
            return bool(everywhere)
        self._ranks.before_update(t, self._paused)
        if self._on == "weights" or self._paused:
            return True
        if self._looked < DOUBTFUL or not self._looked & self._looked - 1:
            refuse_shared(everywhere)
        self._looked += 1
        found = self._doses(groups, t, scale)
        if self._endings is not None:
            ask_for_ends(groups, t, self._rows, scale, self._endings)
        if self._lookout is not None:
            self._lookout.before_noise(found, everywhere, t, scale)
        if add_doses_(found, self._rows):
            gradients = [stream.parameter.grad for stream in everywhere]
        if self._lookout is not None:
            self._lookout.after_noise()
        self._last = next(
            ((dose.scale, scale) for dose in found if dose.relative and dose.scale is not None), self._last
        )
        self._done_at = t
        self._done, self._versions = gradients, (gradients[0]._version, gradients[-1]._version)
        return True

    def _doses(self, groups: list[Group], t: int, scale: Tensor | None) -> list[Dose]:
        """Return the noise of update t, and what it takes away."""
        found = doses(groups, t, self._rows, scale, self._endings)
        if self._added is None:
            return found
        if self._streams.gone:
            self._added.leave(frozenset(self._streams.gone))
            self._streams.gone.clear()
        return found + self._added.doses(groups, t, self._rows, scale, found)

    def _made_update(self, found: bool, t: int, overflow: Tensor | None) -> None:
        """Let the gradients of an update go; noise on weights is added now."""
        if self._lookout is not None:
            self._lookout.after_step()
        self._done = []
        if self._on == "weights" and found and not self._paused:
            scale = None if overflow is None else (overflow == 0).to(overflow)
            groups = list(map(weights_of, self._updated))
            add_doses_(self._doses(groups, t, scale), self._rows)
        self._updated = []
        if self._added is not None:
            if found and not self._paused:
                self._added.made(overflow)
            else:
                self._added.skipped()

    def _look_out(self) -> Lookout:
        """Return what warns of probable mistakes while training."""

        def others() -> list[Lookout]:
            found = [noise._lookout for noise in handles() if noise is not self]
            return [lookout for lookout in found if lookout is not None]

        parameters = [s.parameter for streams in self._streams.by_group() for s in streams]
        return Lookout(self.optimizer, parameters, lambda: self.keys, lambda: self._steps.running, others)

    def _has_noise(self, gradients: list[Tensor], t: int) -> bool:
        """Tell whether these very gradients got the noise of update t already, by a step that raised after that."""
        if t != self._done_at or len(self._done) != len(gradients):
            return False
        same = all(mine is g for mine, g in zip(self._done, gradients, strict=True))
        return same and self._versions == (gradients[0]._version, gradients[-1]._version)
