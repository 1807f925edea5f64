"""How a replica is trained: the engine's own settings, all of them, with their defaults."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from gradnoise.errors import PopulationError, nearest
from gradnoise.given import checked, hints_of, shown
from gradnoise.noise.schedule import Relative, Schedule, sigma, until_share
from gradnoise.population.optimizers import SGD, Optimizer
from gradnoise.population.translate import IN_TURNS, as_optimizer
from gradnoise.population.turns import BY_TURN

LearningRate: TypeAlias = float | Callable[[int], float]
"""A number, or a callable t -> learning rate of update t = 0, 1, 2, ..."""

CLIP_PER = ("replica", "tensor")
NOISE_ON = ("all", "nonzero")
NOT = "!"
"""Begins a pattern of names of parameters that get no noise."""


@dataclass(frozen=True)
class Training:
    """The settings of one replica that the engine itself reads; an arm of a study sets them by these names.

    Args:
        lr: learning rate, a finite number > 0, or a callable t -> learning rate of update t = 0, 1, ...
        noise: schedule of sigma_t^2, or `Relative` to the gradient after the clip, or None for no gradient noise.
        clip: threshold c > 0 of gradient clipping, or None for no clipping.
        clip_per: "replica" clips the global norm, "tensor" each parameter by its own norm.
        dropout: rate in [0, 1) for every nn.Dropout of the model, or None to keep the model's own.
        optimizer: update rule.
        early_stop: whether the run may end before its last update, see `Goal`.
        noise_first: add the noise before clipping instead of after; an ablation, as the clip then cuts the noise.
        noise_on: "all" adds gradient noise to every coordinate; "nonzero" leaves those alone whose gradient is exactly
            zero in this update, such as the embeddings of words that are not in the minibatch; patterns of parameters'
            names choose those that get noise, such as `("*.weight",)`, or with ! those that get none, `("!*.bias",)`.
        weight_noise: schedule of noise that is added to the weights after every update and stays there; or None.
        anti_pgd: take away the gradient noise of the update before, g <- g + sigma_t z_t - sigma_{t-1} z_{t-1}.

    Raises:
        PopulationError: a value is out of range.
    """

    lr: LearningRate = 0.1
    noise: Schedule | None = None
    clip: float | None = None
    clip_per: str = "replica"
    dropout: float | None = None
    optimizer: Optimizer = field(default_factory=SGD)
    early_stop: bool = True
    noise_first: bool = False
    noise_on: str | tuple[str, ...] = "all"
    weight_noise: Schedule | None = None
    anti_pgd: bool = False

    def __post_init__(self) -> None:
        """Check types, then ranges."""
        for field_ in fields(self):
            value = getattr(self, field_.name)
            if (new := training_value(field_.name, value)) is not value:
                object.__setattr__(self, field_.name, new)
        self.rate(0)
        if self.clip is not None and not self.clip > 0:
            raise PopulationError(f"clip = {self.clip}: a threshold is > 0, or None for no clipping")
        _check_word("clip_per", self.clip_per, CLIP_PER)
        if isinstance(self.noise_on, str):
            _check_word("noise_on", self.noise_on, NOISE_ON, ', and patterns of names in a list, such as ["!*.bias"]')
        elif not self.noise_on or not all(pattern.removeprefix(NOT) for pattern in self.noise_on):
            raise PopulationError(
                f"noise_on = {self.noise_on!r}: give at least one pattern of parameters' names, such as"
                ' ["*.weight"] or ["!*.bias"], and no empty one'
            )
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise PopulationError(f"dropout = {self.dropout} is outside [0, 1)")
        self._check_noise()

    def _check_noise(self) -> None:
        onto_weights = self.weight_noise
        if isinstance(onto_weights, Relative) or (onto_weights is not None and until_share(onto_weights) is not None):
            raise PopulationError(
                f"weight_noise = {onto_weights!r}: noise on weights has no gradient to be compared with; give a"
                " schedule such as Annealed(0.01)"
            )
        if isinstance(self.noise, Relative) and self.noise.clip is not None and self.noise.clip != self.clip:
            raise PopulationError(
                f"noise = {self.noise!r} is relative to a clip of {self.noise.clip}, but clip = {self.clip}; they are"
                " the same number"
            )

        if self.anti_pgd and self.noise_on == "nonzero":
            raise PopulationError(
                "anti_pgd takes the noise of an update away in the next one, whose gradient is zero elsewhere, and"
                " noise_on='nonzero' adds none there; leave one of them out"
            )

    def rate(self, t: int) -> float:
        """Return the learning rate of update `t`.

        Raises:
            PopulationError: it is not a finite number > 0.
        """
        rate = self.lr(t) if callable(self.lr) else self.lr
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            rate = checked("", f"lr at t = {t}", float, rate, PopulationError)  # a 0-dim tensor is a number, too
        if not (math.isfinite(rate) and rate > 0):
            at = f" at t = {t}" if callable(self.lr) else ""
            raise PopulationError(f"lr = {rate}{at}: a learning rate is a finite number > 0")
        return rate

    @property
    def noise_follows(self) -> bool:
        """Whether the noise hangs on the gradient: relative to it, or ended by it."""
        return self.noise is not None and (isinstance(self.noise, Relative) or until_share(self.noise) is not None)

    @property
    def identity(self) -> dict[str, object]:
        """What a checkpoint must agree on; a schedule is any callable, so its first value stands for it."""

        def first(schedule: Schedule | None) -> object:
            return schedule if schedule is None or isinstance(schedule, Relative) else sigma(schedule, 0)

        found: dict[str, object] = {
            "lr": self.rate(0),
            "first sigma": first(self.noise),
            "clip": self.clip,
            "clip_per": self.clip_per,
            "dropout": self.dropout,
            "optimizer": self.optimizer,
            "noise_first": self.noise_first,
            "first sigma of weights": first(self.weight_noise),
        }
        # named where they are not the defaults alone: checkpoints of versions without them stay readable
        later = {"noise_on": self.noise_on, "until": getattr(self.noise, "until", None), "anti_pgd": self.anti_pgd}
        return found | {name: value for name, value in later.items() if value not in ("all", None, False)}


def _check_word(name: str, value: str, allowed: tuple[str, ...], others: str = "") -> None:
    if value not in allowed:
        words = " and ".join(map(repr, allowed))
        raise PopulationError(f"{name} = {value!r}: allowed are {words}{others}{nearest(value, allowed)}")


def training_value(name: str, value: Any) -> Any:
    """Return a value of one of the settings as `Training` keeps it.

    Raises:
        PopulationError: it is of another type than the setting's; the message says what is allowed.
    """
    if isinstance(value, list | tuple | Mapping) and name in BY_TURN:
        raise PopulationError(f"{name} = {shown(value)} are {len(value)}: {IN_TURNS}")
    if name == "optimizer":
        return as_optimizer(value)
    if name in ("noise", "weight_noise"):
        return _schedule(name, value)
    if name == "lr" and (isinstance(value, type) or (hasattr(value, "step") and hasattr(value, "get_last_lr"))):
        raise PopulationError(
            f"lr = {shown(value)}: give a number, a schedule such as Cosine(0.1, steps=1000), or a callable t ->"
            " learning rate; a scheduler of torch belongs to an optimizer of torch"
        )
    return checked("", name, hints_of(Training).get(name, Any), value, PopulationError)


def _schedule(name: str, value: Any) -> Any:
    """Return a schedule of sigma_t^2, or None."""
    if isinstance(value, type):
        raise PopulationError(f"{name} is the class {value.__name__} itself; give an object, {value.__name__}(...)")
    if value is None or callable(value) or isinstance(value, Relative):
        return value
    raise PopulationError(f"{name} = {shown(value)}: a schedule is a callable such as Annealed(0.01), or None")
