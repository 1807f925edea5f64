"""Noise schedules: how strong the noise of update t is, as a variance sigma_t^2 or relative to the gradient."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np

from gradnoise.noise.until import Until, check_until, last_step, share_of

#: Up to here the end of relative noise is corrected for the rounding of a power.
EXACT = 2**40
LATER = {"later": True}
"""Metadata of a field that came after the first release: texts of a schedule, ids of trials among them, leave it out
where it has its default, so that they stay what they were."""


def _require(name: str, value: float, more: str = "") -> None:
    try:
        good = math.isfinite(value) and value >= 0 and not isinstance(value, bool)
    except TypeError:
        good = False
    if not good:
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}{more}")


class _Shown:
    """Shows the fields of a dataclass, without later ones that have their defaults."""

    def __repr__(self) -> str:
        fields = [(f, getattr(self, f.name)) for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        shown = [f"{f.name}={value!r}" for f, value in fields if not (f.metadata.get("later") and value == f.default)]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class Annealed(_Shown):
    """Annealed gradient noise: sigma_t^2 = eta / (1 + t)^gamma.

    t counts from 0, so the first update has sigma^2 = eta.

    Args:
        eta: variance of the first update's noise, >= 0; 0 is no noise. The paper uses 0.01, 0.3 and 1.0.
        gamma: how fast the variance decays, >= 0; 0 keeps it at eta.
        until: where the noise ends; an integer: no noise from that update on; a number in (0, 1]: it ends with the
            first update in which sigma_t sqrt(N) is less than this share of the gradient's norm. None: never.

    Raises:
        ValueError: eta or gamma is negative, infinite or nan, or until is neither of the two.

    Example:
        >>> Annealed(eta=0.01)(0)
        0.01

    Source: Neelakantan et al. 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks", eq. 1.
    """

    tag: ClassVar[str] = "gradnoise.schedule:Annealed"  # in the ids of trials: never to be changed
    eta: float
    gamma: float = 0.55
    until: Until = field(default=None, kw_only=True, metadata=LATER)

    def __post_init__(self) -> None:
        _require("eta", self.eta)
        _require("gamma", self.gamma)
        check_until(self.until)

    def __call__(self, t: Any) -> Any:
        """Return sigma_t^2 in float64, for an int or an array of t >= 0, as long as the noise has not ended."""
        return _cut(np.float64(self.eta) / (1.0 + np.asarray(t, dtype=np.float64)) ** self.gamma, t, self.until)


@dataclass(frozen=True, repr=False)
class Fixed(_Shown):
    """Noise of one standard deviation throughout: sigma_t^2 = sigma^2.

    Args:
        sigma: standard deviation (not variance), >= 0.
        until: where the noise ends, as for `Annealed`.

    Raises:
        ValueError: sigma is negative, infinite or nan, or until is unusable.

    Source: Neelakantan et al. 2015, section 4 (the fixed-noise comparison).
    """

    tag: ClassVar[str] = "gradnoise.schedule:Fixed"
    sigma: float
    until: Until = field(default=None, kw_only=True, metadata=LATER)

    def __post_init__(self) -> None:
        _require("sigma", self.sigma)
        check_until(self.until)

    def __call__(self, t: Any) -> Any:
        """Return sigma^2 in float64, of the shape of t."""
        return _cut(np.full(np.shape(t), self.sigma, dtype=np.float64)[()] ** 2, t, self.until)


@dataclass(frozen=True, repr=False)
class Relative(_Shown):
    """Noise in proportion to the gradient: its expected norm is rho / (1 + t)^(gamma / 2) times the gradient's.

    sigma_t = rho (1 + t)^(-gamma/2) |g_t| / sqrt(N), where |g_t| is the norm of the gradient that the optimizer gets,
    after clipping, and N the number of its elements, both of the parameters that get noise: then sqrt(E |noise|^2) =
    sigma_t sqrt(N). The same rho means the same on a network of any size, where the same eta does not: sigma_t sqrt(N)
    grows with N.

    With `attach` norm and N are those of a parameter group, over all ranks; in a population those of a replica. A
    gradient with an infinite or nan element gets no noise from `attach`.

    Args:
        rho: noise to gradient in the first update, >= 0; 0 is no noise, around 1 the two are alike.
        gamma: decay, as for `Annealed`: the ratio falls with (1 + t)^(-gamma/2).
        to: "gradient", or "clip" for noise in proportion to the threshold of the clipping instead: it does not shrink
            with the gradient, and is there where the gradient is 0, as at the start from zeros.
        clip: that threshold, > 0, with to="clip".
        until: where the noise ends, as for `Annealed`.

    Raises:
        ValueError: a number is out of range, or `to` and `clip` do not fit.

    Example:
        >>> attach(optimizer, Relative(0.1), seed=0)
    """

    tag: ClassVar[str] = "gradnoise.schedule:Relative"
    rho: float
    gamma: float = 0.55
    to: str = "gradient"
    clip: float | None = None
    until: Until = field(default=None, kw_only=True, metadata=LATER)

    def __post_init__(self) -> None:
        _require("rho", self.rho)
        _require("gamma", self.gamma)
        check_until(self.until)
        if self.to not in ("gradient", "clip"):
            raise ValueError(f"to must be 'gradient' or 'clip', got {self.to!r}")
        if self.to == "gradient" and self.clip is not None:
            raise ValueError(f"clip={self.clip!r} is for noise relative to the clip; add to='clip' or leave clip out")
        if self.to == "clip":
            _require("clip", self.clip, "; give the threshold of your clipping, as in Relative(0.1, to='clip', clip=1)")  # type: ignore[arg-type]
            if self.clip == 0:
                raise ValueError("clip must be > 0, got 0")

    def ratio(self, t: int) -> float:
        """Return the noise of update t, in units of the gradient's norm or of the clip; 0 where it has ended."""
        return 0.0 if t >= self.end else self._decayed(t)

    @functools.cached_property
    def end(self) -> float:
        """Return the first update without noise as far as that does not hang on a gradient, infinity for none."""
        share = share_of(self.until)
        if share is None or self.to == "clip":
            return last_step(self.until)
        if self.rho < share:
            return 1
        try:
            last = int((self.rho / share) ** (2 / self.gamma)) if self.gamma else math.inf
        except OverflowError:
            last = math.inf
        if last >= EXACT:
            return last
        while self._decayed(last) >= share:  # that power is rounded
            last += 1
        while self._decayed(last - 1) < share:
            last -= 1
        return last + 1

    def _decayed(self, t: float) -> float:
        return self.rho * (1.0 + t) ** (-self.gamma / 2)

    def sigma(self, t: int, gradient: float, count: int) -> float:
        """Return sigma_t.

        Args:
            t: update.
            gradient: norm of its gradient; not used with to="clip".
            count: N, elements that get noise, >= 1.
        """
        size = gradient if self.clip is None else self.clip
        return self.ratio(t) / math.sqrt(count) * size


Schedule: TypeAlias = Callable[[Any], Any] | Relative
"""A callable t -> sigma_t^2, or `Relative`. A callable gets t = 0, 1, 2, ..., the number of updates done before, and
returns a VARIANCE: a finite number >= 0. The schedules here also take an array of t and return one of float64."""


def end_of(schedule: Schedule) -> float:
    """Return the first update without noise as far as that does not hang on a gradient, infinity for none."""
    return schedule.end if isinstance(schedule, Relative) else last_step(getattr(schedule, "until", None))


def _cut(variance: Any, t: Any, until: Until) -> Any:
    """Return variances, 0 from the step on that `until` names."""
    return variance if last_step(until) == math.inf else np.where(np.asarray(t) < last_step(until), variance, 0.0)[()]


def until_share(schedule: Schedule) -> float | None:
    """Return the share of the gradient at which the noise ends, where that takes a look at the gradient."""
    by_itself = isinstance(schedule, Relative) and schedule.to == "gradient"  # the ratio is known beforehand
    return None if by_itself else share_of(getattr(schedule, "until", None))


def shown(schedule: Schedule) -> str:
    """Return a text of a schedule that is the same in every process."""
    if isinstance(schedule, _Shown):
        return repr(schedule)
    name = getattr(schedule, "__qualname__", type(schedule).__qualname__)
    return f"{name}(until={getattr(schedule, 'until', None)})"


def check_schedule(schedule: Schedule) -> None:
    """Refuse what is no schedule.

    Raises:
        ValueError: it is not.
    """
    if not (isinstance(schedule, Relative) or callable(schedule)):
        raise ValueError(
            f"schedule must be Relative(0.1) or a callable t -> variance such as Annealed(eta=0.01), got {schedule!r}"
        )
    if callable(schedule) and not _takes_t(schedule):
        raise ValueError(
            f"a schedule is called with one argument, t, the number of updates done before, which {shown(schedule)}"
            " does not take; write it as in lambda t: 0.01 / (1 + t)"
        )


def _takes_t(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(0)
    except TypeError:
        return False
    except ValueError:  # built in, and tells no signature
        pass
    return True


def sigma(schedule: Schedule, t: int) -> float:
    """Return the standard deviation of the noise at update t: sqrt(schedule(t)).

    Args:
        schedule: callable t -> variance.
        t: update, counted from 0.

    Returns:
        sigma_t >= 0.

    Raises:
        ValueError: the schedule returned something other than one finite number >= 0, or is relative to gradients.
    """
    if isinstance(schedule, Relative):
        raise ValueError(f"{schedule!r} is relative to the gradient: without one it has no standard deviation")
    variance = schedule(t)
    try:
        value = float(variance)
    except (TypeError, ValueError, RuntimeError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"the schedule must return a variance, one finite number >= 0, but at t = {t} it returned {variance!r}"
        )
    return math.sqrt(value)


def check_at(schedule: Schedule, t: int) -> None:
    """Refuse a schedule that returns no variance for update t.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(schedule, Relative):
        sigma(schedule, t)


def deviation(schedule: Schedule, t: int, known: float | None) -> float:
    """Return the standard deviation of the noise of update t, which is `known` where it is relative to the gradient.

    Raises:
        ValueError: it is relative to the gradient, and not known.
    """
    if not isinstance(schedule, Relative):
        return sigma(schedule, t)
    if known is None:
        raise ValueError(
            f"the noise of {schedule!r} follows from the gradient of update {t}, which is gone; pass the sigma that"
            " diagnostics() told before that update, or noise.sigma after it"
        )
    return known if schedule.ratio(t) else 0.0
