"""Losses and gradients of a population's update: recorded and replayed, or interpreted step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradnoise.errors import PopulationError
from gradnoise.population.course import Batch, Metrics
from gradnoise.population.experiment import Experiment, loss_of
from gradnoise.population.kept import Kept, KeptState, kept_sentence
from gradnoise.population.reasons import reason_of
from gradnoise.population.stacked import StackedModules
from gradnoise.population.traced import NotRecordableError, Traced, fresh, losses_and_gradients
from gradnoise.population.translate import IN_TURNS
from gradnoise.population.turns import Turn

#: Makes buffers, what the loss gets, and whether all replicas share the minibatch.
Later = Callable[[], tuple[dict[str, Tensor], Batch, bool]]

#: Role of the loss in `StackedModules.loop_reasons`.
LOSS = "loss"


def check_written(experiment: Experiment, modules: StackedModules) -> None:
    """Refuse losses that were seen to write into parameters, where they are to be recorded.

    Raises:
        PopulationError: one did; those that run as a loop are not recorded.
    """
    for role, names in modules.written.items():
        if names and role not in modules.loop_reasons:
            raise PopulationError(
                f"the {role} of {experiment.name} writes into parameters ({', '.join(map(repr, names[:3]))}), which a"
                " recorded step does not; let Course.weights return their new values after an update, or pass"
                " trace=False (--no-trace)"
            )


class Gradients:
    """Calls an experiment's loss of one turn for all replicas, forward and backward.

    Args:
        experiment: whose loss.
        config: what the replicas agree on.
        modules: the replicas' models.
        turn: whose loss.
        wanted: the parameters whose gradients are wanted.
        trace: record forward and backward pass once and replay them; False interprets every update.
        compile: also compile what was recorded.
    """

    def __init__(
        self,
        experiment: Experiment,
        config: Any,
        modules: StackedModules,
        turn: Turn,
        wanted: slice,
        *,
        trace: bool,
        compile: bool,
    ) -> None:
        self._experiment, self._config, self._modules = experiment, config, modules
        self._loss, self._wanted = loss_of(experiment, turn), wanted
        self._role = f"{LOSS} of turn {turn.name!r}" if experiment.turns else LOSS
        self._trace = trace or compile
        self._checked = False
        self._traced = Traced(self._losses, compile=compile, wanted=wanted)

    def into(
        self, segments: Sequence[Tensor], buffers: dict[str, Tensor], batch: Batch, shared: bool, later: Later
    ) -> tuple[Tensor, Metrics]:
        """Write wanted gradients into `segments` [P, ...]; return losses [P] and what the loss returned with them.

        Args:
            segments: where they go.
            buffers: of the models, by name.
            batch: what the loss gets.
            shared: whether all replicas share the minibatch.
            later: makes the same of the next update.
        """
        self._modules.train(True)
        if not self._checked:
            self._check_first(buffers, batch, shared, later)
        leaves = self._modules.views(self._modules.theta)
        losses, observed, grads = self._run(leaves, buffers, batch, shared)
        for view, grad in zip(segments, grads, strict=True):
            if grad is None:  # used in a branch that no replica took, see `_check_first`
                view.zero_()
            else:
                view.copy_(grad)
        return losses, observed

    def _run(
        self, leaves: Sequence[Tensor], buffers: dict[str, Tensor], batch: Batch, shared: bool
    ) -> tuple[Tensor, Metrics, Sequence[Tensor | None]]:
        if self._trace:
            try:
                return self._traced(leaves, buffers, batch, shared)
            except NotRecordableError as error:
                self._trace = False
                self._modules.loop_reasons[self._role] = reason_of(error)
        return self._interpret(leaves, buffers, batch, shared)

    @property
    def recorded(self) -> bool:
        """Whether updates are replayed."""
        return self._trace and self._checked

    def check(self, buffers: dict[str, Tensor], batch: Batch, shared: bool) -> None:
        """Compare what was recorded with the code as it runs now.

        Raises:
            PopulationError: they differ by more than rounding.
        """
        if self.recorded:
            self._traced.check(self._copied(), buffers, batch, shared)

    def _copied(self) -> list[Tensor]:
        """Return copies of the parameters [P, ...], for code that may write into them while it is looked at."""
        return self._modules.views(self._modules.theta.clone())

    def keeps(self, buffers: dict[str, Tensor], batch: Batch, shared: bool) -> list[str]:
        """Return what the code of the loss changes while it runs once, a counter say."""
        copies = {name: x.clone() for name, x in buffers.items()}
        leaves = fresh(self._copied(), self._wanted)
        with torch.enable_grad():
            return self._changed_by(lambda: self._losses(leaves, copies, batch, shared))

    def _changed_by(self, call: Callable[[], object]) -> list[str]:
        before = Kept(self._experiment, self._modules.module)
        call()
        return before.changes(Kept(self._experiment, self._modules.module))

    def _losses(
        self, leaves: Sequence[Tensor], buffers: dict[str, Tensor], batch: Batch, shared: bool
    ) -> tuple[Tensor, Metrics]:
        dims = None if shared else 0
        output = self._modules.call(
            self._role,
            lambda model, given: self._tensor(self._loss(model, given[0], self._config, given[1])),
            batch,
            (dims if self._experiment.course is None else (dims, 0), None),
            leaves=leaves,
            buffers=buffers,
        )
        return output if isinstance(output, tuple) else (output, {})

    def _tensor(self, output: Any) -> Any:
        """Return what the loss returned, if it is a tensor, or a tensor and tensors by name."""
        loss = output[0] if isinstance(output, tuple) and output else output
        parts = list(output.values()) if isinstance(output, Mapping) else output
        one = isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], Mapping)
        if isinstance(parts, list | tuple) and not one:
            raise PopulationError(
                f"{self._experiment.name}.loss returned {len(parts)} values; return one scalar, such as the sum of the"
                f" losses, or (loss, tensors by name) for a course: {IN_TURNS}"
            )
        if not isinstance(loss, Tensor):
            raise PopulationError(
                f"{self._experiment.name}.loss returned a {type(loss).__name__}; return the scalar tensor itself, on"
                " which `backward` would be called, not its number"
            )
        return output

    def _interpret(
        self, leaves: Sequence[Tensor], buffers: dict[str, Tensor], batch: Batch, shared: bool
    ) -> tuple[Tensor, Metrics, list[Tensor | None]]:
        return losses_and_gradients(self._losses, leaves, buffers, batch, shared, self._wanted)

    def _check_first(self, buffers: dict[str, Tensor], batch: Batch, shared: bool, later: Later) -> None:
        """Find out whether the loss is one, whether vmap can run it, and whether every parameter has a gradient.

        And whether its Python code does the same in the next update: a loop would otherwise count updates once for each
        replica, and a recording not at all.
        """
        copies = {name: x.clone() for name, x in buffers.items()}  # a BatchNorm must not count this pass
        theta = self._modules.theta.clone()
        leaves = self._modules.views(theta)
        drew = self._role in self._modules.random_roles
        losses, _, grads = losses_and_gradients(self._traced.noted, leaves, copies, batch, shared, self._wanted)
        if losses.shape != (len(self._modules),):
            shape = tuple(losses.shape[1:])
            raise PopulationError(f"{self._experiment.name}.loss returned shape {shape}; a loss is a scalar, shape ()")
        loops = self._role in self._modules.loop_reasons
        for name, grad in zip(self._modules.names[self._wanted], grads, strict=True):
            if grad is None and not loops:  # a loop may take another branch next time
                raise PopulationError(
                    f"parameter {name!r} has no part in the {self._role}; freeze it with requires_grad_(False)"
                )
        self._modules.written[self._role] = self._modules.changed_since(theta)
        if self._trace:
            check_written(self._experiment, self._modules)
        again = self._trace or (loops and len(self._modules) > 1)
        if again and (loops or drew != (self._role in self._modules.random_roles)):
            self._traced.forget()  # what was noted is an attempt that failed
            self._traced.watch(leaves, buffers, batch, shared)
        if again:
            given = (buffers, batch, shared) if loops else later()
            if kept := self._changed_by(lambda: self._traced.watch(leaves, *given)):
                warnings.warn(kept_sentence(kept), KeptState, stacklevel=2)
        self._trace = self._trace and not loops
        self._checked = True
