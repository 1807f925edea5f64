"""Looks out, in the first updates of an optimizer, for what is probably a mistake."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor
from torch.optim import Optimizer

from gradnoise.noise.dosing import Dose
from gradnoise.noise.doubts import likely_mistakes, lost_noise
from gradnoise.noise.doubts.lost_noise import Seen
from gradnoise.noise.doubts.other_steps import Watch
from gradnoise.noise.gradients import Stream
from gradnoise.noise.warning import say

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
        self._loud = self._alike = self._undone = self._stale = self._mistaken = self._twice = False  # what was said
        self._diagnosed: list[Seen] = []  # gradients that were compared with the noise of the update `_diagnosed_at`
        self._diagnosed_at = -1
        self._used: tuple[weakref.ref[Tensor], int] | None = None  # a gradient, and its version after the last step
        self._first: Stream | None = None  # whose gradient that is
        self._before: list[Seen] = []  # of the update that is under way
        self._left: list[Seen] = []  # of the last one
        self._scale: Tensor | None = None  # that its gradients carry into the step
        self._times = 0  # how often noise was added in this step
        self._fresh = False  # whether the optimizer had no memory when it began
        self._watch = Watch(parameters, type(optimizer).__name__, in_step)

    def before_noise(self, doses: Sequence[Dose], streams: Sequence[Stream], t: int, scale: Tensor | None) -> None:
        """Look at an update whose noise is about to be added."""
        made = self._made
        if not self._loud and (made < DOUBTFUL or made & (made - 1) == 0):
            self._loud = likely_mistakes.about_dose(doses, t, scale)
        if made == 0 and self._times == 0:
            likely_mistakes.about_padding(doses)
        if made < DOUBTFUL and not self._twice:
            self._twice = likely_mistakes.about_hand(streams)
        look, self._scale, self._first = made < DOUBTFUL, scale, streams[0]
        self._stale = self._stale or (look and lost_noise.about_renewal(self._left))
        self._before, self._fresh = lost_noise.before_noise(streams) if look else [], not self._optimizer.state
        self._left = []
        if self._diagnosed:
            self._mistaken = self._mistaken or (
                self._diagnosed_at == t and lost_noise.about_diagnosis(self._diagnosed, scale)
            )
            self._diagnosed = []
        if 0 < made < DOUBTFUL:
            between = [other._keys() for other in self._others() if other._turn > self._turn and not self._alike]
            self._alike = self._alike or likely_mistakes.about_names(self._keys(), between)
        self._turn = next(_turns)

    def diagnosed(self, streams: Sequence[Stream], t: int) -> None:
        """Look at gradients that are compared with the noise of the coming update, and remember them."""
        if self._mistaken:
            return
        if not streams:
            self._mistaken = True
            say(
                "diagnostics() found no gradient on any parameter that gets noise; call it after backward and clipping,"
                " right before step(), and not after zero_grad()"
            )
        elif self._is_used():
            self._mistaken = True
            say(
                "diagnostics() saw the gradients of the last update, which have its noise already; call it after the"
                " next backward and clipping, right before step()"
            )
        else:
            self._diagnosed, self._diagnosed_at = lost_noise.before_noise(streams), t

    def _is_used(self) -> bool:
        """Tell whether gradients are those that the last step left."""
        gradient = None if self._first is None else self._first.parameter.grad
        if gradient is None or self._used is None:
            return False
        before, version = self._used
        return before() is gradient and gradient._version == version

    def after_noise(self) -> None:
        """Remember gradients as they are with noise."""
        self._before = lost_noise.after_noise(self._before)
        self._times += 1
        self._watch.passed_in_step = False

    def after_step(self) -> None:
        """Look at what a step has left."""
        if self._undone or self._made >= DOUBTFUL:
            pass
        elif self._times and self._watch.passed_in_step:
            self._undone = True
            say(
                f"a backward pass within {type(self._optimizer).__name__}.step made gradients after the noise was"
                " added, and so without noise; the step gets a function that makes gradients as its argument `closure`"
            )
        else:
            fresh = self._fresh and self._times == 1
            self._undone = lost_noise.about_update(self._optimizer, self._before, self._scale, fresh=fresh)
        gradient = self._first.parameter.grad if self._first is not None and self._times else None
        self._used = None if gradient is None else (weakref.ref(gradient), gradient._version)
        self._made += self._times > 0
        self._left, self._before, self._times = self._before, [], 0
        self._watch.step()

    def remove(self) -> None:
        """Look no longer."""
        self._watch.remove()
