"""What the code of an experiment does, measured: the model, its data, loss and metrics, optimizers and schedules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from gradnoise.noise import Relative
from gradnoise.population import Experiment, Optimizer
from gradnoise.population.probe import check, probe
from gradnoise.study.canonical import canonical
from gradnoise.study.engine import LATER, Behaviour, Probed
from gradnoise.study.run.memory import one_fits
from gradnoise.study.spec import Config

#: Settings that act after loss and gradient: what is measured of a model does not depend on them.
AFTERWARDS = frozenset(
    {
        "lr",
        "noise",
        "clip",
        "clip_per",
        "optimizer",
        "early_stop",
        "noise_first",
        "noise_on",
        "weight_noise",
        "steps",
        "eval_every",
    }
)
#: Updates at which a schedule is read, as shares of a run.
SHARES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 1.0)


def probed(
    experiment: Experiment, configs: Sequence[Config], known: Collection[str], device: str, *, recorded: bool = True
) -> Probed:
    """Measure an experiment in every configuration that its model, data, loss and metrics can tell apart.

    Args:
        experiment: the experiment.
        configs: of the trials.
        known: names of what was checked before.
        device: where to measure.
        recorded: whether runs replay a recorded step.
    """
    found: dict[str, Behaviour] = {experiment.name: _plain(experiment)}
    notes: dict[str, None] = {}
    measured: list[frozenset[str]] = []
    for config in configs:
        own = {k: v for k, v in config.items() if k not in AFTERWARDS}
        name = canonical(own)
        if name not in found:
            seed = own.pop("study_seed", 0)
            run = {"steps": config["steps"], "study_seed": seed, "device": device}
            with one_fits():
                seen = probe(experiment, own, recorded=recorded, **run)
                beside = check(experiment, own, seen.readings, **run) if name not in known else ()
            found[name] = seen.readings
            if seen.later:
                found[f"{name}{LATER}"] = seen.later
            notes |= dict.fromkeys((*seen.notes, *beside))
            measured += [seen.measured] if seen.measured else []
        for key in ("lr", "noise", "weight_noise", "optimizer"):
            for value in _each(config.get(key)):
                found.setdefault(canonical({key: value, "steps": config["steps"]}), _rule(value, config["steps"]))
    return Probed(found, tuple(notes), frozenset.intersection(*measured) if measured else frozenset())


def device_problem(device: str) -> Exception | None:
    """Return what keeps this machine from using a device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return error
    return None


def _each(value: Any) -> list[Any]:
    """Return the schedules and optimizers that a setting holds, one or one of each turn."""
    values = value.values() if isinstance(value, Mapping) else (value,)
    return [x for x in values if x is not None and not isinstance(x, int | float)]


def _rule(value: Any, steps: int) -> Behaviour:
    """Return what a schedule or an optimizer does."""
    if isinstance(value, Relative):
        return _values(value.ratio, steps)
    return _values(value, steps) if callable(value) else _moves(value)


def _values(schedule: Callable[[int], Any], steps: int) -> Behaviour:
    times = sorted({int(share * (steps - 1)) for share in SHARES})
    return {f"value at t = {t}": float(schedule(t)) for t in times}


def _moves(optimizer: Optimizer) -> Behaviour:
    """Return where an optimizer takes two rows of three weights in three updates."""
    theta = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).view(2, 3)
    lr = torch.tensor([[0.1], [0.01]], dtype=torch.float64)
    state = optimizer.init(theta)
    for t in range(3):
        g = torch.sin(theta * (t + 1) + 0.5)
        if (own := getattr(optimizer, "before_noise", None)) is not None:
            own(g, state, torch.tensor(t))
        optimizer.update(theta, g, state, lr, torch.tensor(t))
    return {f"weight {i}": x for i, x in enumerate(theta.flatten().tolist())}


def _plain(experiment: Experiment) -> Mapping[str, float | str]:
    """Return what decides when a run ends and what it then counts with, which no first minibatch shows."""
    found: dict[str, float | str] = {f"{n} of a diverged run": x for n, x in experiment.diverged_metrics().items()}
    if experiment.patience != 1:
        found["patience"] = float(experiment.patience)
    for name in ("goal", "course"):
        part = getattr(experiment, name)
        if part is not None:
            plain = {k: v for k, v in sorted(vars(part).items()) if isinstance(v, int | float | str | bool | None)}
            found[name] = f"{type(part).__name__}({', '.join(f'{k}={v!r}' for k, v in plain.items())})"
    return found
