"""Options of parameter groups that give them noise of their own."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from gradnoise.noise.schedule import Annealed, Fixed, Relative, Schedule, end_of, sigma
from gradnoise.noise.until import Endings
from gradnoise.noise.warning import say

OPTIONS = {"noise_eta": "eta", "noise_gamma": "gamma", "noise_rho": "rho", "noise_sigma": "sigma"}
"""Option of a parameter group -> field of the schedule that it replaces."""

_KINDS = {"rho": "a Relative", "sigma": "a Fixed"}


def schedule_of(group: Mapping[str, Any], schedule: Schedule) -> Schedule:
    """Return the schedule of a parameter group: that of all, but for the numbers that the group's options replace.

    Raises:
        ValueError: the schedule has no such number.
    """
    options = {name: field for name, field in OPTIONS.items() if name in group}
    if not options:
        return schedule
    ours = isinstance(schedule, (Annealed, Fixed, Relative))
    fields = {f.name for f in dataclasses.fields(schedule)} if ours else set()  # type: ignore[arg-type]
    for name, field in options.items():
        if field not in fields:
            kind = _KINDS.get(field, "an Annealed")
            raise ValueError(
                f"a parameter group has the option {name!r}, which replaces a number of {kind} schedule, but the"
                f" schedule is {schedule!r}; attach {kind} one or remove the option"
            )
    return dataclasses.replace(schedule, **{field: group[name] for name, field in options.items()})  # type: ignore[type-var]


class Options:
    """Reads the schedules of an optimizer's parameter groups, whose options may change while training.

    A state that is loaded replaces all options of a group, the learning rate as well. One that knows nothing of an
    option of ours leaves it as it was; one that changes the noise of a group is warned of.

    Args:
        optimizer: whose groups.
        schedule: of groups without options.
        warn: whether to warn.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule, warn: bool) -> None:
        self._optimizer, self._schedule, self._warn = optimizer, schedule, warn
        self._read: dict[int, tuple[set[str], bool]] = {}  # of each group its keys, and whether options are among them
        self._before: list[dict[str, Any]] = []
        self._hooks: tuple[Any, ...] = ()
        self._endings: Endings | None = None

    def keep(self, endings: Endings | None) -> None:
        """Keep the options, from now on, when a state is loaded, and take note of what knows the groups' ends."""
        self._endings = endings
        self._hooks = (
            self._optimizer.register_load_state_dict_pre_hook(lambda *_: self._remember()),
            self._optimizer.register_load_state_dict_post_hook(lambda _: self._compare()),
        )

    def remove(self) -> None:
        """Take the hooks off the optimizer."""
        for hook in self._hooks:
            hook.remove()

    def schedule(self, i: int) -> Schedule:
        """Return the schedule of a group.

        Args:
            i: index of the group.

        Raises:
            ValueError: it has an option that is unknown or does not fit.
        """
        group = self._optimizer.param_groups[i]
        keys, given = self._read.get(i, (None, False))
        if group.keys() != keys:
            _refuse_unknown(group, self._optimizer.defaults)
            given = any(name in group for name in OPTIONS)
            self._read[i] = set(group), given
        return schedule_of(group, self._schedule) if given else self._schedule

    def is_over(self, i: int, t: int) -> bool:
        """Tell whether the noise of a group has ended in update t."""
        by_share = self._endings is not None and self._endings.over(i, t)
        return by_share or t >= end_of(self.schedule(i))

    def strength(self, i: int, t: int) -> float:
        """Return sigma of a group in update t, of noise relative to the gradient its share; 0 where it has ended."""
        own = self.schedule(i)
        if self.is_over(i, t):
            return 0.0
        return own.ratio(t) if isinstance(own, Relative) else sigma(own, t)

    def going(self, t: int) -> list[Schedule]:
        """Return the schedules of groups whose noise has not ended in update t; of those without options, if any."""
        if self._endings is not None:
            self._endings.settle()
        every = list(map(self.schedule, range(len(self._optimizer.param_groups))))
        groups = [i for i, own in enumerate(every) if own is self._schedule] or range(len(every))
        return [every[i] for i in groups if not self.is_over(i, t)]

    def _remember(self) -> None:
        self._before = [{k: v for k, v in g.items() if k in OPTIONS} for g in self._optimizer.param_groups]

    def _compare(self) -> None:
        changed = []
        for i, (group, before) in enumerate(zip(self._optimizer.param_groups, self._before, strict=False)):
            for name, value in before.items():
                group.setdefault(name, value)
            now = {name: value for name, value in group.items() if name in OPTIONS}
            if now != before and schedule_of(before, self._schedule) != self.schedule(i):
                changed.append(f"group {i} has {_shown(now)} instead of {_shown(before)}")
        if changed and self._warn:
            say(
                f"the state that was loaded brings other noise to parameter groups: {'; '.join(changed)}; set the"
                " options of optimizer.param_groups after loading where this is not meant"
            )


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no option"


def _refuse_unknown(group: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse an option that looks like ours and is none, unless it is one that the optimizer itself has.

    Raises:
        ValueError: there is one.
    """
    for option in group:
        if not str(option).startswith("noise_") or option in OPTIONS:
            continue
        near = difflib.get_close_matches(option, OPTIONS, n=1, cutoff=0.85)
        if option in defaults and not near:
            continue
        raise ValueError(
            f"a parameter group has the option {option!r}, which is none of {', '.join(OPTIONS)}; the nearest is"
            f" {difflib.get_close_matches(option, OPTIONS, n=1, cutoff=0.0)[0]!r}; rename or remove it"
        )
