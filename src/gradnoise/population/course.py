"""What only some experiments need: a memory for each replica, data made on the fly, and a goal that ends a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from gradnoise.population.draws import Draws

Batch = Any  # a tensor, or any nesting of tuples, lists and dicts of tensors
Model = nn.Module
State = dict[str, Tensor]
Metrics = dict[str, Tensor]


class Course(ABC):
    """What a replica keeps beside its weights, and how minibatches follow from it.

    Examples are the level of a curriculum, a running error, the hidden state that a language model carries from one
    window of text to the next. The state travels with the replica and its checkpoints. The loss of an experiment with
    a course gets the pair (minibatch, state) as its batch, and may return (loss, tensors for `after`).

    `start` speaks of one replica. `batch` and `after` get all P replicas at once; every tensor has a leading [P], and
    no row may depend on another. After an update that a replica skipped, its state is put back.

    Example, a hidden state that is carried on:
        >>> class Carried(Course):
        ...     def start(self, config):
        ...         return {"hidden": torch.zeros(config.batch_size, config.units)}
        ...     def after(self, state, observed, t, config):
        ...         return {"hidden": observed["hidden"]}  # `loss` returned (loss, {"hidden": ...})
    """

    #: Whether `batch` makes the minibatches; otherwise they come from `Experiment.batch`.
    generates: ClassVar[bool] = False

    @abstractmethod
    def start(self, config: Any) -> State:
        """Return the state of one replica before its first update, given its own configuration.

        Settings of the loss that differ between the replicas of a population belong here, too.
        """

    def batch(self, draws: Draws, state: State, config: Any) -> Batch:
        """Return the minibatches of one update, every tensor with a leading [P]; see `generates`.

        Args:
            draws: uniform random numbers, a row for each replica, and the update's t.
            state: what the replicas keep.
            config: what the replicas agree on.
        """
        raise NotImplementedError(f"{type(self).__name__} says generates = True and has no method `batch`")

    def after(self, state: State, observed: Metrics, t: Tensor, config: Any) -> State:
        """Return the state after an update.

        Args:
            state: what the replicas kept before it.
            observed: what `loss` returned beside the loss, without gradient.
            t: the update, a 0-dim integer tensor.
            config: what the replicas agree on.
        """
        return state

    def rate(self, state: State) -> Tensor | None:
        """Return what the learning rates of the next update are multiplied by, [P]; None for 1."""
        return None

    def noise(self, state: State) -> Tensor | None:
        """Return what sigma_t of the next update's gradient noise is multiplied by, [P]; None for 1.

        So noise may hang on how a run goes: on its error, say, or on the level of a curriculum.
        """
        return None

    def weights(self, parameters: Metrics, state: State) -> Metrics:
        """Return new values of those parameters that the course itself changes after an update, such as averages.

        Args:
            parameters: by name, [P, ...] each, after the update.
            state: what `after` returned.
        """
        return {}

    def recorded(self, state: State) -> Metrics:
        """Return metrics [P] to be recorded with those of `Experiment.evaluate`."""
        return {}


class Goal(ABC):
    """When a run has reached what it was for and may end before its last update.

    A goal that remembers earlier evaluations, as early stopping does, keeps a state for each replica: `start` and
    `after` make it, and `reached(metrics, state)` sees it. It is part of the replica's checkpoints. `Patience` is one.
    """

    def start(self, config: Any) -> State:
        """Return the state of one replica before its first evaluation, given its own configuration; {} for none."""
        return {}

    def after(self, state: State, metrics: Metrics) -> State:
        """Return the states after an evaluation, [P, ...] each; called once for every evaluation that counts."""
        return state

    @abstractmethod
    def reached(self, metrics: Metrics) -> Tensor:
        """Say which replicas have reached the goal, bool [P], given the metrics [P] of `Experiment.evaluate`.

        It may take a second argument, `state`: what `after` returned for this evaluation.
        """

    def exam(self, model: Model, config: Any) -> Metrics:
        """Return metrics on more data for one replica; only those that seem to have reached the goal are asked.

        They replace metrics of the same names, and `reached` decides anew. Names that `evaluate` does not have are nan
        for all other replicas.
        """
        return {}
