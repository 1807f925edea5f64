"""What the code of an experiment does, measured: the model, its data, loss and metrics, optimizers and schedules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from gradnoise.population import Experiment
from gradnoise.population.probe import check, probe
from gradnoise.population.rules import measured as measured_rule
from gradnoise.population.rules import rules_in
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
        for key, value in rules_in(config):
            name = canonical({key: value, "steps": config["steps"]})
            if name not in found:
                rule = measured_rule(f"{experiment.name}: {key}", value, config["steps"])
                found |= {name: rule.readings} | ({f"{name}{LATER}": rule.later} if rule.later else {})
                notes |= dict.fromkeys(rule.notes)
    return Probed(found, tuple(notes), frozenset.intersection(*measured) if measured else frozenset())


def device_problem(device: str) -> Exception | None:
    """Return what keeps this machine from using a device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return error
    return None


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
