"""What a population trains: an ordinary model, its loss, its minibatches and its metrics, for one replica."""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradnoise.errors import PopulationError, nearest
from gradnoise.given import checked, hints_of
from gradnoise.population.course import Batch, Course, Goal, Metrics, Model
from gradnoise.population.training import Training, training_value
from gradnoise.population.turns import Round, Turn


@dataclass(frozen=True)
class Data:
    """What an experiment is trained on, as ids and reports name it.

    Args:
        title: what reports call the data.
        fingerprint: hash of the data; trials on different data have different ids.
        stand_in: whether the data only stands in for a published data set; every report then says so in its title.
    """

    title: str = ""
    fingerprint: str = ""
    stand_in: bool = False


@dataclass(frozen=True)
class NoSettings:
    """The configuration of an experiment without settings."""


class Experiment(ABC):
    """Model, loss, minibatches and metrics, written for one replica; the engine runs hundreds of them.

    Subclass it and write four methods. Nothing in them knows of populations: `model` in `loss` and `evaluate` is
    called like the module that the method `model` returned. All of them get the configuration, an instance of the
    class `Config`, whose fields are what an arm or setting of a study may change; everything else is refused.

    `model`, `loss` and `evaluate` may draw random numbers with torch: they are seeded for the replica and the update.
    The engine puts minibatches and held-out data on its device and casts their floating-point tensors to its precision.

    Data made on the fly, curricula and states that are carried on are a `Course`; ends before the last update are a
    `Goal`.

    Example:
        >>> class Parity(Experiment):
        ...     name = "parity"
        ...     @dataclass(frozen=True)
        ...     class Config:
        ...         width: int = 32
        ...     def model(self, config):
        ...         return nn.Sequential(nn.Linear(8, config.width), nn.Tanh(), nn.Linear(config.width, 2))
        ...     def batch(self, seed, t, config):
        ...         g = torch.Generator().manual_seed(derive_seed(seed, t, "bits"))
        ...         x = torch.randint(0, 2, (64, 8), generator=g)
        ...         return x.float(), x.sum(1) % 2
        ...     def loss(self, model, batch, config):
        ...         x, y = batch
        ...         return nn.functional.cross_entropy(model(x), y)
        ...     def held_out(self, config):
        ...         return self.batch(123, 0, config)
        ...     def evaluate(self, model, held_out, config):
        ...         x, y = held_out
        ...         return {"accuracy": (model(x).argmax(1) == y).float().mean()}
    """

    #: Of the experiment; with the data's fingerprint it enters every trial's id.
    name: str
    #: What it is trained on.
    data: Data = Data()
    #: A frozen dataclass of the experiment's own settings and their defaults.
    Config: ClassVar[type] = NoSettings
    #: Settings that may differ between replicas of one population (they change neither shapes nor minibatches).
    replica_keys: ClassVar[frozenset[str]] = frozenset()
    #: Whether minibatches are the same for every seed, as those of a text that is read in order; `batch` is then called
    #: once an update, with a seed of 0.
    same_batches: ClassVar[bool] = False
    #: Whether the model begins with the same weights for every seed, as a study of one starting point has it; seeds
    #: then differ by their minibatches, by what the loss draws, or by noise alone.
    same_weights: ClassVar[bool] = False
    #: This many non-finite losses or gradients in a row end a replica; updates with fewer are skipped for it.
    patience: ClassVar[int] = 1
    #: Whether to record what becomes of gradients: clipped_norm, noise_to_gradient, update_cosine, gradient_over_eps.
    watch_updates: ClassVar[bool] = False
    #: What a replica keeps beside its weights; None for nothing.
    course: Course | None = None
    #: What ends a run before its last update; None for nothing.
    goal: Goal | None = None
    #: Parts of the model that are updated in turns, each by its own loss and optimizer; () for one update of all.
    turns: tuple[Turn, ...] = ()

    @abstractmethod
    def model(self, config: Any) -> nn.Module:
        """Return a freshly initialised module; called with the global generator seeded for the replica."""

    def batch(self, seed: int, t: int, config: Any) -> Batch:
        """Return the minibatch of update `t` (0, 1, ...) as a pure function of `seed`.

        Replicas of one seed share it: it may depend on no setting that is in `replica_keys`.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method `batch`, or a course that generates")

    def stack(self, batches: Sequence[Batch]) -> Batch:
        """Put minibatches of R different seeds together, with a leading [R] on every tensor.

        Override it where the shapes of minibatches differ from seed to seed, to pad them.
        """
        return pytree.tree_map(lambda *xs: torch.stack(xs), *batches)

    @abstractmethod
    def loss(self, model: Model, batch: Batch, config: Any) -> Tensor | tuple[Tensor, Metrics]:
        """Return the scalar training loss of one replica on one minibatch.

        With a course `batch` is the pair (minibatch, state of the replica), and the loss may return
        (loss, tensors that the course's `after` shall see).

        A loss that depends on the update, such as one whose weights warm up, takes a fourth argument `t`, a 0-dim
        integer tensor: `def loss(self, model, batch, config, t)`. A counter in Python would stay as it was recorded.

        Where parts of the model are updated in `turns`, an argument `turn` is the name of the one whose parameters are
        updated: `def loss(self, model, batch, config, turn)`. Only they get a gradient.
        """

    def held_out(self, config: Any) -> Batch:
        """Return the data that `evaluate` gets, the same for every replica; () for none."""
        return ()

    @abstractmethod
    def evaluate(self, model: Model, held_out: Batch, config: Any) -> Metrics:
        """Return metrics of one replica, tensors of shape () or numbers, in evaluation mode and without gradient."""

    def diverged_metrics(self) -> dict[str, float]:
        """Return the metrics that a diverged replica counts with; {} leaves it out of means."""
        return {}

    # --- what a study asks of it --------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """Hash of the data."""
        return self.data.fingerprint

    @property
    def data_title(self) -> str:
        """What reports call the data."""
        return self.data.title

    @property
    def stand_in(self) -> bool:
        """Whether the data only stands in for a published data set."""
        return self.data.stand_in

    def keys(self) -> frozenset[str]:
        """Return all names that may stand in a configuration: the engine's settings and the experiment's own."""
        return frozenset(f.name for kind in (Training, self.Config) for f in dataclasses.fields(kind))

    def configured(self, config: Mapping[str, Any]) -> Any:
        """Return the experiment's own settings, an instance of `Config`, from a flat configuration.

        Raises:
            PopulationError: a value is of another type than its field.
        """
        own = {f.name for f in dataclasses.fields(self.Config)}
        return self.Config(**self.given({k: v for k, v in config.items() if k in own}))

    def given(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a flat configuration, or part of one, in our terms: "adam" as Adam(), a number of NumPy as a number.

        Raises:
            PopulationError: a value is of another type than its setting; the message says what is allowed.
        """
        engine = {f.name for f in dataclasses.fields(Training)}
        own, found = hints_of(self.Config), {}
        for name, value in config.items():
            if name in engine:
                value = self._engine_value(name, value)
            found[name] = checked("", name, own.get(name, Any), value, PopulationError)
        return found

    def _engine_value(self, name: str, value: Any) -> Any:
        if not Round.of(self.turns).by_turn(name, value):
            return training_value(name, value)
        return {turn: training_value(name, x) for turn, x in value.items()}

    def check_keys(self, names: Iterable[str]) -> None:
        """Refuse a name that is no setting.

        Raises:
            PopulationError: with the nearest name that is one.
        """
        known = self.keys()
        for name in names:
            if name not in known:
                raise PopulationError(
                    f"{self.name} has no setting {name!r}{nearest(name, known)}; there are {', '.join(sorted(known))}"
                )


def loss_of(
    experiment: Experiment, turn: Turn
) -> Callable[[Model, Batch, Any, Tensor], Tensor | tuple[Tensor, Metrics]]:
    """Return the loss of a turn as a function of (model, batch, config, t), whether or not the experiment's takes t.

    Raises:
        PopulationError: the loss asks for the turn, and the experiment names none.
    """
    loss: Callable[..., Any] = experiment.loss
    asked, given = inspect.signature(loss).parameters, {}
    if "turn" in asked:
        if not experiment.turns:
            raise PopulationError(
                f"{experiment.name}.loss takes `turn`, and the experiment names no turns; give its class"
                ' turns = (Turn("d"), Turn("g")) or the like'
            )
        given["turn"] = turn.name
    if "t" in asked:
        return lambda model, batch, config, t: loss(model, batch, config, t=t, **given)
    return lambda model, batch, config, t: loss(model, batch, config, **given)
