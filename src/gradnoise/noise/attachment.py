"""Gaussian gradient noise on a torch optimizer: in place, after clipping, right before the update."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

from gradnoise.noise import doubts, gaussian
from gradnoise.noise.diagnostics import GroupDiagnostics, diagnose
from gradnoise.noise.gradients import Rows, Stream, add_noise_, check_rows
from gradnoise.noise.inner import innermost
from gradnoise.noise.naming import names_of
from gradnoise.noise.schedule import Annealed, Schedule, sigma
from gradnoise.noise.stepping import BeforeUpdate

ETA, GAMMA = "noise_eta", "noise_gamma"
"""Options of a parameter group that replace eta and gamma of the schedule."""

DOUBTFUL = 4
"""Updates in which a handle looks out for what is probably a mistake."""

_turns = itertools.count()
_attached: weakref.WeakKeyDictionary[Optimizer, weakref.ref[Noise]] = weakref.WeakKeyDictionary()


def attach(
    optimizer: Optimizer,
    schedule: Schedule,
    *,
    seed: int,
    named_parameters: Iterable[tuple[str, Tensor]] | None = None,
    where: Callable[[str], bool] | None = None,
    rows: Rows = "present",
    warn: bool = True,
) -> Noise:
    """Make every `optimizer.step()` add noise to the gradients first: g <- g + sigma_t z, once per update.

    z = z(seed, parameter's name, t, index) are standard normals, sigma_t^2 = schedule(t), and t counts the
    updates from 0. The noise is added to `p.grad` itself when `step` begins, hence after accumulation and
    clipping. Where `step` gets a closure it is added after each call of it, the same z within one step.

    The clock t is stored in `optimizer.param_groups`, so `optimizer.state_dict()` carries it, and attaching
    before or after `load_state_dict` resumes the same noise. Copying or pickling an optimizer drops its
    hooks: attach to the copy again.

    A parameter group may have noise of its own: its options `noise_eta` and `noise_gamma` replace those of an
    `Annealed` schedule, as in `SGD([{"params": body}, {"params": head, "noise_eta": 0.0}], lr=0.1)`.

    Args:
        optimizer: a torch optimizer, or a wrapper that has one among its attributes (Accelerate, Opacus). Of an
            optimizer that drives another one for all its parameters (SAM, Lookahead) the inner one gets the noise.
        schedule: t -> sigma_t^2, a variance; `Annealed`, `Fixed`, or any callable.
        seed: any integer. The same seed gives the same noise on any device and any number of ranks.
        named_parameters: (name, parameter) pairs, as `model.named_parameters()` gives them. A parameter's
            noise then depends on its name alone, not on its place in the optimizer. What DDP, torch.compile and
            activation checkpointing add to names is ignored. Without it parameters are named "group.index",
            such as "0.3": their places in `optimizer.param_groups`.
        where: given a parameter's name, tells whether it gets noise; None for all.
        rows: "present" adds noise to those rows that a sparse gradient has, "all" to every row.
        warn: warn where something goes wrong without a word: the first noise is more than 10 times the gradient,
            another optimizer's noise is the same, the optimizer clips or rescales after the noise, its state dict
            does not keep the clock.

    Returns:
        A handle to read sigma, pause, replay, diagnose and detach the noise.

    Raises:
        ValueError: an argument is unusable, or noise is attached already.
        NotImplementedError: a parameter belongs to FSDP1.

    Example:
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> noise = attach(optimizer, Annealed(eta=0.01), seed=0, named_parameters=model.named_parameters())

    Source: Neelakantan et al. 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks", eq. 1.
    """
    inner = innermost(optimizer)
    if inner in _attached:
        raise ValueError("this optimizer has noise attached already; call detach() on its handle first")
    if not any(group["params"] for group in inner.param_groups):
        raise ValueError("this optimizer has no parameters to add noise to; give it some by add_param_group() first")
    if not callable(schedule):
        raise ValueError(f"schedule must be a callable t -> variance such as Annealed(eta=0.01), got {schedule!r}")
    if where is not None and not callable(where):
        raise ValueError(f"where must be a function of a parameter's name that returns True or False, got {where!r}")
    check_rows(rows)
    names = None if named_parameters is None else names_of(named_parameters)
    noise = Noise(inner, schedule, seed, names, where, rows, warn)
    if warn:
        doubts.about_clipping(inner)
        doubts.about_saving(inner)
    _attached[inner] = weakref.ref(noise)
    return noise


class Noise:
    """Handle of the noise on one optimizer, made by `attach`.

    Attributes:
        optimizer: the torch optimizer, without wrappers.
        schedule: as given to `attach`.
        seed: as given to `attach`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        seed: int,
        names: dict[Tensor, str] | None,
        where: Callable[[str], bool] | None,
        rows: Rows,
        warn: bool,
    ) -> None:
        self.optimizer, self.schedule, self.seed = optimizer, schedule, seed
        self._names = None if names is None else WeakTensorKeyDictionary(names)
        self._where, self._warn = where, warn
        self._made, self._turn = 0, -1  # updates made, and when the last one was among those of all handles
        self._rows: Rows = rows
        # Gradients that have the noise of `_done_at`, and their versions; only while a step runs, or has raised.
        self._done: list[tuple[Tensor, int]] = []
        self._done_at = -1
        self._streams: dict[Tensor, Stream | None] = {}  # None for parameters that get no noise
        self._paused = False
        for group in optimizer.param_groups:  # what is unusable is found here, not in the first step
            sigma(self._schedule_of(group), 0)
        self._name_all()
        if not any(self._streams.values()):
            raise ValueError("`where` selects no parameter of this optimizer; it is called with names such as"
                             f" {self._name(*self._places()[0])!r}")  # fmt: skip
        self._steps = BeforeUpdate(optimizer, self._add, self._done.clear)
        self._attached = True

    @property
    def step(self) -> int:
        """Return the next update's t: how many updates were made so far."""
        return self._steps.clock.t

    @property
    def keys(self) -> frozenset[int]:
        """Return the keys of the noise's streams, one for each parameter that gets noise."""
        return frozenset(stream.key for stream in self._streams.values() if stream)

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
        """Return sigma of the next update's noise, for groups without options of their own."""
        return sigma(self.schedule, self.step)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave updates in this context without noise. They count: the clock goes on, and with it the noise."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def detach(self) -> None:
        """Remove the noise from the optimizer. The clock stays there, so attaching again goes on counting."""
        if self._attached:
            self._steps.remove()
            _attached.pop(self.optimizer, None)
            self._attached = False

    def state_dict(self) -> dict[str, int]:
        """Return clock and seed, for checkpoints that do not keep the optimizer's own state."""
        return {"version": gaussian.VERSION, "seed": self.seed, "t": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the clock to that of a `state_dict`.

        Raises:
            ValueError: the state is of another seed or of another version of the noise; nothing is changed.
        """
        mine = self.state_dict()
        if missing := sorted(mine.keys() - state.keys()):
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
        self._steps.clock.t = int(state["t"])

    def replay(self, name: str, t: int) -> Tensor:
        """Return the noise that update t adds to one parameter: sigma_t z, whether or not it was paused then.

        Args:
            name: the parameter's name, as given by `named_parameters`, or "group.index" without them.
            t: update, counted from 0.

        Returns:
            Dense tensor of the (whole) parameter's shape on the CPU: float64 for a float64 parameter, complex64
            or complex128 for complex ones, float32 for all others.

        Raises:
            ValueError: no parameter has this name, or t is no integer >= 0.
        """
        t = gaussian.check_step(t)
        for group in self.optimizer.param_groups:
            for stream in self._of(group):
                if stream.name == name:
                    return self._draw(stream, t, sigma(self._schedule_of(group), t))
        known = [stream.name for stream in self._streams.values() if stream]
        near = difflib.get_close_matches(name, known, n=1) or known[:1]
        raise ValueError(f"no parameter with noise is named {name!r}; the nearest is {near[0]!r}")

    def diagnostics(self) -> list[GroupDiagnostics]:
        """Compare the noise of the coming update with the gradients as they are now, per parameter group.

        Call it between clipping and `step`. It draws the noise of the coming update once more, a parameter at
        a time, and copies numbers off the device: for every hundredth step, not for each. Under a process
        group every rank has to call it. While paused the noise is what would be added.
        """
        t = self.step
        groups = self.optimizer.param_groups
        sigmas = [sigma(self._schedule_of(group), t) for group in groups]  # one that raises does so before any drawing
        return [
            diagnose(i, self._of(group), t, sigma_t, self._rows)
            for i, (group, sigma_t) in enumerate(zip(groups, sigmas, strict=True))
        ]

    def _add(self, t: int, scale: Tensor | None) -> bool:
        """Add the noise of update t; return whether there was a gradient to add it to."""
        by_sigma: dict[float, list[Stream]] = {}
        for group in self.optimizer.param_groups:
            streams = [s for s in self._of(group) if s.parameter.grad is not None]
            by_sigma.setdefault(sigma(self._schedule_of(group), t), []).extend(streams)
        everywhere = [stream for streams in by_sigma.values() for stream in streams]
        if self._paused or not everywhere or self._has_noise(everywhere, t):
            return bool(everywhere)
        doubts.refuse_shared(everywhere)
        if self._warn and self._made < DOUBTFUL:
            self._doubt(by_sigma, scale)
        for sigma_t, streams in by_sigma.items():
            add_noise_(streams, t, sigma_t, self._rows, scale)
        self._done_at = t
        self._done[:] = [(g, g._version) for s in everywhere if (g := s.parameter.grad) is not None]
        return True

    def _doubt(self, by_sigma: Mapping[float, list[Stream]], scale: Tensor | None) -> None:
        """Warn in the first updates of what can be seen only then."""
        if self._made == 0:
            doubts.about_dose(by_sigma, scale)
        else:
            handles = [other for ref in _attached.values() if (other := ref()) is not None and other is not self]
            doubts.about_names(self.keys, [other.keys for other in handles if other._turn > self._turn])
        self._made, self._turn = self._made + 1, next(_turns)

    def _has_noise(self, streams: list[Stream], t: int) -> bool:
        """Tell whether these very gradients got the noise of update t already, by a step that raised after that."""
        if t != self._done_at or len(self._done) != len(streams):
            return False
        return all(s.parameter.grad is g and g._version == v for s, (g, v) in zip(streams, self._done, strict=True))

    def _schedule_of(self, group: Mapping[str, Any]) -> Schedule:
        if ETA not in group and GAMMA not in group:
            return self.schedule
        if not isinstance(self.schedule, Annealed):
            raise ValueError(
                f"a parameter group has the option {ETA if ETA in group else GAMMA!r}, which replaces a number of an"
                f" Annealed schedule, but the schedule is {self.schedule!r}; attach an Annealed one or remove the"
                " option"
            )
        return Annealed(group.get(ETA, self.schedule.eta), group.get(GAMMA, self.schedule.gamma))

    def _of(self, group: Mapping[str, Any]) -> list[Stream]:
        """Return the streams of a group's parameters, one for a parameter that is listed twice."""
        parameters = dict.fromkeys(group["params"])
        if not parameters.keys() <= self._streams.keys():
            self._name_all()  # a group was added, or parameters were replaced
        found = []
        for p in parameters:
            stream = self._streams[p]
            if stream is not None and p.requires_grad and not stream.trained:
                self._streams[p] = stream = stream._replace(trained=True)
            if stream is not None and (p.requires_grad or not stream.trained):
                found.append(stream)  # others were frozen meanwhile; what never required a gradient is a master copy
        return found

    def _places(self) -> list[tuple[str, Tensor]]:
        """Return each parameter with its place, "group.index", in the optimizer's order."""
        groups = enumerate(self.optimizer.param_groups)
        return [(f"{g}.{i}", p) for g, group in groups for i, p in enumerate(group["params"])]

    def _name_all(self) -> None:
        now = {p for _, p in self._places()}
        self._streams = {p: stream for p, stream in self._streams.items() if p in now}
        for place, p in self._places():
            if p not in self._streams:
                name = self._name(place, p)
                wanted = self._where is None or self._where(name)
                self._streams[p] = Stream.of(p, name, self.seed) if wanted else None

    def _name(self, place: str, p: Tensor) -> str:
        if self._names is None:
            return place
        if p not in self._names:
            raise ValueError(
                f"parameter {place} (group.index) of shape {list(p.shape)} is in the optimizer but not in"
                " named_parameters; pass the names of all its parameters"
            )
        return self._names[p]

    @staticmethod
    def _draw(stream: Stream, t: int, sigma_t: float) -> Tensor:
        """Return the noise of a whole parameter, in its shape."""
        p = stream.parameter
        real = torch.float64 if p.dtype in (torch.float64, torch.complex128) else torch.float32
        count = p.numel() * (2 if p.is_complex() else 1)
        z = gaussian.normal(stream.key, t, count).to(real)
        if p.is_complex():
            return torch.view_as_complex(torch.tensor(sigma_t / 2**0.5, dtype=real) * z.view(*p.shape, 2))
        return torch.tensor(sigma_t, dtype=real) * z.view(p.shape)
