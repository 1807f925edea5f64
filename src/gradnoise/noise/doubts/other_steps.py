"""Notices parameters that are trained by something else than the `step` that noise is attached to."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakTensorKeyDictionary

from gradnoise.noise.warning import say

_watched: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # parameter -> weak reference to its last watch

PASSES = 3
"""Backward passes in a row, each on other weights than the one before, after which it is said."""


class Watch:
    """Warns once where backward passes find new weights again and again, but no step was made in between.

    Then updates come about in another way: methods of the optimizer's own, a `step` that was replaced after noise was
    attached, an update within the backward pass, another optimizer. A few changes are no doubt: a perturbation as
    that of sharpness-aware minimisation, the step of a line search, a checkpoint that is loaded.

    Args:
        parameters: the first and the last one that is trained are looked at.
        name: of the optimizer's class.
        in_step: tells whether a step is under way.
    """

    def __init__(self, parameters: Iterable[Tensor], name: str, in_step: Callable[[], bool]) -> None:
        trained = [p for p in parameters if p.requires_grad and p.is_leaf and not is_lazy(p)]
        looked_at = list({id(p): p for p in (*trained[:1], *trained[-1:])}.values())
        hooks = [p.register_post_accumulate_grad_hook(_calling(weakref.ref(self))) for p in looked_at]
        self.remove = weakref.finalize(self, _remove, hooks)
        """Look no longer."""
        for p in looked_at:  # an optimizer that noise is attached to later takes over, as after a resume
            if p in _watched and (other := _watched[p]()) is not None:
                other.remove()
            _watched[p] = weakref.ref(self)
        self._name, self._in_step = name, in_step
        self._stepped = self._said = False
        self.passed_in_step = False
        """Whether a gradient was made within the step that is under way, and no noise was added since."""
        self._seen: dict[int, tuple[Any, int]] = {}  # of each parameter, its marks and how often they changed

    def step(self) -> None:
        """Take note of a step that was made, with or without gradients."""
        self._stepped, self.passed_in_step = True, False
        self._seen.clear()

    def passed(self, p: Tensor) -> None:
        """Look at a parameter whose gradient was just made."""
        if p.is_cuda and torch.cuda.is_current_stream_capturing():
            return
        if self._in_step():
            self.passed_in_step = True
            return
        if self._said:
            return
        now = self._marks(p)
        before, changes = self._seen.get(id(p), (now, 0))
        changes += before != now
        self._seen[id(p)] = now, changes
        if changes >= PASSES:
            self._said = True
            say(
                f"parameters change from one backward pass to the next, but {self._name}.step, before which noise is"
                " added, was not called: these updates have no noise and are not counted. Attach noise to the"
                " optimizer that makes them, after its step has its last form; attach(..., warn=False) silences this"
            )

    def _marks(self, p: Tensor) -> Any:
        """Return what tells whether a parameter changed.

        Before the first step that is its norm, too, since what is written to `p.data` leaves no other trace.
        """
        if self._stepped or p.is_meta or type(p) not in (Tensor, torch.nn.Parameter):
            return p._version
        with torch.no_grad():
            return p._version, float(torch.linalg.vector_norm(p.detach().flatten()))


def _calling(ref: weakref.ref[Watch]) -> Callable[[Tensor], None]:
    """Return a hook that keeps neither optimizer nor noise in memory."""

    def hook(p: Tensor) -> None:
        if (watch := ref()) is not None:
            watch.passed(p)

    return hook


def _remove(hooks: Iterable[Any]) -> None:
    for hook in hooks:
        hook.remove()
