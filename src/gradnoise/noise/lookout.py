"""Looks out, in the first updates of an optimizer, for what is probably a mistake."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor
from torch.optim import Optimizer

from gradnoise.noise import doubts
from gradnoise.noise.dosing import Dose
from gradnoise.noise.gradients import Stream
from gradnoise.noise.ranks import Ranks
from gradnoise.noise.watch import Watch

DOUBTFUL = 4
"""Updates that are looked at."""

_turns = itertools.count()


class Lookout:
    """What is found out while training, each warned of once.

    Args:
        optimizer: that has noise.
        parameters: those that get it.
        keys: of the noise's streams.
        in_step: tells whether a step is under way.
        others: returns the lookouts of the other optimizers that have noise.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Iterable[Tensor],
        keys: Callable[[], frozenset[int]],
        in_step: Callable[[], bool],
        others: Callable[[], Iterable[Lookout]],
    ) -> None:
        self._optimizer, self._keys, self._others = optimizer, keys, others
        self._made, self._turn = 0, -1  # updates made, and when the last one was among those of all optimizers
        self._loud = self._alike = self._shrinks = False  # what was said
        self._before: list[tuple[Tensor, int, Tensor]] = []
        self._ranks = Ranks()
        self._watch = Watch(parameters, type(optimizer).__name__, in_step)

    def before_noise(self, doses: Sequence[Dose], streams: Sequence[Stream], t: int, scale: Tensor | None) -> None:
        """Look at an update whose noise is about to be added."""
        made = self._made
        if not self._loud and (made < DOUBTFUL or made & (made - 1) == 0):
            self._loud = doubts.about_dose(doses, t, scale)
        if made == 0:
            self._ranks.tell(streams)
        elif made < DOUBTFUL:
            self._ranks.look()
            between = [other._keys() for other in self._others() if other._turn > self._turn and not self._alike]
            self._alike = self._alike or doubts.about_names(self._keys(), between)
        self._made, self._turn = made + 1, next(_turns)

    def after_noise(self, gradients: Sequence[Tensor], scale: Tensor | None) -> None:
        """Remember gradients as they are with noise; a fused optimizer takes the loss scale away within its step."""
        if scale is None and self._made <= DOUBTFUL and not self._shrinks:
            self._before = doubts.samples(gradients)

    def after_step(self) -> None:
        """Look at what a step has left."""
        self._watch.step()
        if self._before:
            self._shrinks = doubts.about_change(self._optimizer, self._before)
            self._before = []

    def remove(self) -> None:
        """Look no longer."""
        self._watch.remove()
