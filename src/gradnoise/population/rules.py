"""Schedules and optimizers, measured: what they do is their fingerprint, and must be a function of what they are given.

A population asks a schedule for all its replicas, many updates at a time, and trains populations in turns. So what a
rule keeps between calls would make a run depend on who trains beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradnoise.errors import PopulationError
from gradnoise.noise.schedule import Relative
from gradnoise.population.groups import BoundGroups, Groups, Run
from gradnoise.population.kept import Kept, attributes
from gradnoise.population.optimizers import Optimizer, before_noise_of
from gradnoise.population.randomness import kept_generators
from gradnoise.population.training import Training

#: Settings that are rules.
RULES = ("lr", "noise", "weight_noise", "optimizer")
#: Updates at which a rule is looked at, as shares of a run.
SHARES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 1.0)
#: Columns of the weights that an optimizer moves, and the first updates in which it does.
WIDTH, UPDATES = 3, range(3)
BOTH = (0, 1)
#: A schedule is asked again at `TWICE` updates; a rule whose state changes is called `MANY` times in between.
TWICE, MANY = 256, 10_000
#: Packages whose rules keep nothing, and are the same code in all folders of a version.
LIBRARIES = ("gradnoise.noise.", "gradnoise.population.")


@dataclass(frozen=True)
class Rule:
    """What is known of a schedule or an optimizer.

    Args:
        readings: what it does at some updates, by name.
        later: what it does in others, which folders of older versions do not know.
        notes: what should be said of it, a sentence each.
    """

    readings: Mapping[str, float]
    later: Mapping[str, float | str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def rules_in(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (setting, rule) of all schedules and optimizers in a configuration: one of a setting, or of each turn."""
    for name in RULES:
        value = config.get(name)
        for rule in value.values() if isinstance(value, Mapping) else (value,):
            if rule is not None and not isinstance(rule, int | float | str):
                yield name, rule


def measured(name: str, rule: Any, steps: int) -> Rule:
    """Measure a rule, and check that it does the same whenever it is asked.

    Args:
        name: of the experiment and the setting, for messages.
        rule: a schedule or an optimizer.
        steps: length of a run.

    Raises:
        PopulationError: it keeps something between calls that decides what it does, or an optimizer mixes rows.
    """
    with kept_generators():
        if isinstance(rule, Relative):
            return _schedule(name, rule.ratio, steps, own=False)
        if callable(rule):
            return _schedule(name, rule, steps, own=_is_own(rule))
        return _optimizer(name, rule, steps)


def check_rules(experiment: str, trainings: Iterable[Training]) -> None:
    """Check that the user's own schedules and optimizers do the same whenever they are asked.

    Raises:
        PopulationError: one keeps something between calls that decides what it does, or an optimizer mixes rows.
    """
    seen = {id(rule): (name, rule) for own in trainings for name, rule in rules_in(vars(own)) if _is_own(rule)}
    with kept_generators():
        for name, rule in seen.values():
            whole = f"{experiment}: {name}"
            _steady_schedule(whole, rule, TWICE) if callable(rule) else _steady_optimizer(whole, rule)


def _is_own(rule: Any) -> bool:
    """Tell whether a rule, or one in it, is the user's own code and not the library's."""
    parts = [rule] if isinstance(rule, Relative) or callable(rule) else _parts(rule)
    return any(not f"{_module(part)}.".startswith(LIBRARIES) for part in parts)


def _module(rule: Any) -> str:
    return str(getattr(rule, "__module__", ""))


def _times(steps: int) -> list[int]:
    return sorted({int(share * (steps - 1)) for share in SHARES})


def _schedule(name: str, schedule: Callable[[int], Any], steps: int, *, own: bool) -> Rule:
    before = _kept(schedule) if own else Kept()
    readings = {f"value at t = {t}": float(schedule(t)) for t in _times(steps)}
    if not own:
        return Rule(readings)
    values, changes = _steady_schedule(name, schedule, steps, before)
    digest = hashlib.sha256(" ".join(f"{x:.6g}" for x in values).encode()).hexdigest()[:12]
    return Rule(readings, {f"hash of the values at all t < {steps}": digest}, _noted(name, schedule, changes))


def _steady_schedule(
    name: str, schedule: Callable[[int], Any], steps: int, before: Kept | None = None
) -> tuple[list[float], Sequence[str]]:
    """Return the values of a schedule that gives them again, and what it changes at each call without a consequence."""
    before = _kept(schedule) if before is None else before
    first = [_value(schedule, t) for t in range(steps)]  # fills what a cache may hold
    kept = _kept(schedule)
    asked = np.unique(np.linspace(steps - 1, 0, TWICE).astype(int))[::-1]

    def same() -> bool:
        return all(_equal(_value(schedule, t), first[t]) for t in asked.tolist())

    def many() -> None:
        for _ in range(MANY):
            _value(schedule, 0)

    unchanged = same()
    changes = kept.changes(_kept(schedule))
    if unchanged and changes:
        many()
        unchanged = same()
    before.empty_caches()
    if not unchanged:
        raise PopulationError(
            f"{name}: {_called(schedule)} returned other values when it was asked again{_which(changes)}; a population"
            " asks for many runs at once, and the values would depend on them: make it a function of t alone"
        )
    return first, changes


def _value(schedule: Callable[[int], Any], t: int) -> float:
    try:
        return float(schedule(t))
    except Exception:  # a schedule may end somewhere, after the end of all runs perhaps
        return math.nan


def _equal(x: float, y: float) -> bool:
    return x == y or (math.isnan(x) and math.isnan(y))


def _optimizer(name: str, optimizer: Optimizer, steps: int) -> Rule:
    first, changes = _steady_optimizer(name, optimizer)
    (late,) = _moved(optimizer, [BOTH], (*UPDATES, *_times(steps)))
    return Rule(
        {f"weight {i}": x for i, x in enumerate(first.flatten().tolist())},
        {f"weight {i} after later updates": x for i, x in enumerate(late.flatten().tolist())},
        _noted(name, optimizer, changes),
    )


def _steady_optimizer(name: str, optimizer: Optimizer) -> tuple[Tensor, Sequence[str]]:
    """Return where an optimizer that does the same again takes weights, and what it changes without a consequence."""
    before = _kept(optimizer)
    (first,) = _moved(optimizer, [BOTH])
    kept = _kept(optimizer)
    unchanged = all(_near(x, first) for x in (*_moved(optimizer, [BOTH, BOTH]), *_moved(optimizer, [BOTH])))
    changes = kept.changes(_kept(optimizer))
    if unchanged and changes:
        for _ in range(MANY // 10):
            _moved(optimizer, [BOTH])
        unchanged = _near(_moved(optimizer, [BOTH])[0], first)
    before.empty_caches()
    if not unchanged:
        raise PopulationError(
            f"{name}: {_called(optimizer)} moved the same weights elsewhere when it was used again{_which(changes)}; it"
            " keeps something beside the state that `init` returns, and runs would depend on each other: keep it there,"
            " one row a replica, and take t from `update`"
        )
    alone = torch.cat(_moved(optimizer, [(0,), (1,)]))
    if not _near(alone, first):
        raise PopulationError(
            f"{name}: {_called(optimizer)} moves a replica elsewhere alone than beside another; it mixes rows: take"
            " means and norms over the last dimension, with keepdim=True"
        )
    return first, changes


def _moved(optimizer: Optimizer, runs: Sequence[Sequence[int]], times: Sequence[int] = UPDATES) -> tuple[Tensor, ...]:
    """Return where an optimizer takes weights of some rows; several runs of them take turns at each update."""
    rule, width = _bound(optimizer)
    all_rows = torch.linspace(-1.0, 1.0, 2 * width, dtype=torch.float64).view(2, width)
    rates = torch.tensor([[0.1], [0.01]], dtype=torch.float64)
    thetas = [all_rows[list(rows)] for rows in runs]
    states = [rule.init(theta) for theta in thetas]
    for t in times:
        for rows, theta, state in zip(runs, thetas, states, strict=True):
            g = torch.sin(theta * (t + 1) + 0.5)
            if (own := before_noise_of(rule)) is not None:
                own(g, state, torch.tensor(t))
            rule.update(theta, g, state, rates[list(rows)], torch.tensor(t))
    return tuple(thetas)


def _near(x: Tensor, y: Tensor) -> bool:
    """Tell whether weights are equal but for rounding, in float32 perhaps."""
    return torch.allclose(x, y, rtol=1e-5, atol=1e-8, equal_nan=True)


def _bound(optimizer: Optimizer) -> tuple[Optimizer, int]:
    """Return an update rule and the number of columns that it needs: groups get some each."""
    if not isinstance(optimizer, Groups):
        return optimizer, WIDTH
    rules = [*((g.optimizer, g.lr) for g in optimizer.groups), (optimizer.rest, 1.0)]
    runs = tuple(Run(WIDTH * k, WIDTH * (k + 1), rule, lr) for k, (rule, lr) in enumerate(rules))
    return BoundGroups(runs), WIDTH * len(runs)


def _kept(rule: Any) -> Kept:
    """Return what a rule and the rules in it keep."""
    return Kept(*_parts(rule))


def _parts(rule: Any) -> Iterator[Any]:
    yield rule
    for value in attributes(rule).values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if dataclasses.is_dataclass(part) and not isinstance(part, type):
                yield from _parts(part)


def _called(rule: Any) -> str:
    return getattr(rule, "__name__", None) or type(rule).__name__


def _which(changes: Sequence[str]) -> str:
    return f", and changes {', '.join(changes[:3])}" if changes else ""


def _noted(name: str, rule: Any, changes: Sequence[str]) -> tuple[str, ...]:
    if not changes:
        return ()
    return (
        f"{name}: {_called(rule)} changes {', '.join(changes[:3])} whenever it is used; where its results depend on"
        " that, runs depend on who trains beside them",
    )
