"""Optimizers as users name them: by a word, or as torch.optim has them, in the terms of populations."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradnoise.errors import PopulationError, nearest
from gradnoise.given import shown
from gradnoise.population.optimizers import L2, SGD, AdaGrad, Adam, AdamW, NAdam, Optimizer, RMSProp

#: What each is called in lower case; the name of the class in torch.optim is the same but for capitals.
NAMES: Mapping[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "adagrad": AdaGrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
}
#: Arguments of torch.optim -> ours.
_SAME = {
    "momentum": "momentum",
    "nesterov": "nesterov",
    "alpha": "alpha",
    "eps": "eps",
    "momentum_decay": "momentum_decay",
    "initial_accumulator_value": "initial",
}
#: Arguments of torch.optim that change how fast an update is, and not what it is.
_SPEED = frozenset({"foreach", "fused", "capturable", "differentiable"})

#: What is said to several optimizers, schedules or losses.
IN_TURNS = (
    "a population updates all parameters of a replica together, with one clock; `Groups` gives parts of the model rules"
    " of their own, and networks that are updated in turns, as those of a GAN, are named in the experiment's `turns`,"
    ' such as (Turn("d"), Turn("g")): each has a loss, an optimizer and a noise clock of its own'
)


def as_optimizer(value: Any) -> Optimizer:
    """Return the update rule of populations that a value stands for.

    Args:
        value: one of ours, its class or its name ("adam"); a class of torch.optim, or `functools.partial` of one with
            its settings. Weight decay that torch adds to the gradient becomes `L2`.

    Raises:
        PopulationError: populations have no such rule, or none with such a setting.
    """
    if isinstance(value, str):
        if value.lower() not in NAMES:
            raise PopulationError(
                f"optimizer = {value!r}: there are {', '.join(NAMES)}{nearest(value.lower(), NAMES)}, or an object such"
                " as Adam(beta2=0.99)"
            )
        return NAMES[value.lower()]()
    kind, settings = _unfolded(value)
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
        return _of_torch(kind, settings)
    if isinstance(value, torch.optim.Optimizer):
        raise PopulationError(
            f"optimizer is an object of torch.optim.{type(value).__name__}, which has the parameters of one model; give"
            f" the class, or functools.partial(torch.optim.{type(value).__name__}, ...) with its settings"
        )
    if isinstance(kind, type) and hasattr(kind, "update"):
        return kind(**settings)
    if not (hasattr(value, "init") and hasattr(value, "update")):
        raise PopulationError(
            f"optimizer = {shown(value)}: give a name ({', '.join(NAMES)}), one of gradnoise.population, such as"
            " Adam(), a class of torch.optim, or an object with the methods init and update"
        )
    return value


def _unfolded(value: Any) -> tuple[Any, dict[str, Any]]:
    """Return the class, and the settings that `functools.partial` binds to it."""
    settings: dict[str, Any] = {}
    while isinstance(value, functools.partial):
        if value.args:
            raise PopulationError(f"optimizer = {shown(value)}: bind settings by name")
        value, settings = value.func, {**value.keywords, **settings}
    return value, settings


def _of_torch(kind: type[torch.optim.Optimizer], settings: dict[str, Any]) -> Optimizer:
    """Return our form of a torch.optim class with some settings."""
    name, ours = f"torch.optim.{kind.__name__}", NAMES.get(kind.__name__.lower())
    if ours is None or kind.__module__.partition(".")[0] != "torch":
        raise PopulationError(
            f"populations have no {kind.__name__}; there are {', '.join(NAMES)}, or write one with the methods init and"
            " update on rows of parameters"
        )
    usual = {n: p.default for n, p in inspect.signature(kind).parameters.items()}
    for setting in settings:
        if setting in ("lr", "params"):
            raise PopulationError(f"{name} has {setting} = {shown(settings[setting])}: give the learning rate as `lr`")
        if setting not in usual:
            raise PopulationError(f"{name} has no setting {setting!r}{nearest(setting, usual)}")
    given = {**usual, **settings}
    own, decay = {}, 0.0
    for setting, value in given.items():
        if setting == "betas":
            own["beta1"], own["beta2"] = value
        elif setting == "weight_decay":
            decay = float(value)
        elif setting in _SAME:
            own[_SAME[setting]] = value if isinstance(value, bool) else float(value)  # 0 and 0.0 have different ids
        elif setting not in _SPEED and setting in settings and value != usual[setting]:
            raise PopulationError(f"{name} with {setting} = {shown(value)} is not one of populations; leave it out")
    known = set(inspect.signature(ours).parameters)
    own = {setting: value for setting, value in own.items() if setting in known}
    if "weight_decay" in known:
        return ours(**own, weight_decay=decay)
    return L2(ours(**own), decay) if decay else ours(**own)
