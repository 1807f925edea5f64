"""Whether the clock that an optimizer brings along was counted with the noise that goes on with it."""

from __future__ import annotations

from torch.optim import Optimizer

from gradnoise.noise.steps.shared_groups import CLOCK
from gradnoise.noise.until import ENDED
from gradnoise.noise.warning import say

OF = "gradnoise_of"
"""Key in `optimizer.param_groups` of the noise that the clock there counts the updates of."""


class Origin:
    """Writes down whose noise an optimizer has, and warns where a loaded state was that of other noise.

    Args:
        optimizer: that has noise.
        noise: what tells it from other noise.
        ends: whether groups are told of elsewhere where the other noise has ended.
        warn: whether to warn.
    """

    def __init__(self, optimizer: Optimizer, noise: str, ends: bool, warn: bool) -> None:
        self._optimizer, self._noise, self._ends, self._warn = optimizer, noise, ends, warn
        self._hook = optimizer.register_load_state_dict_post_hook(lambda _: self._compare())
        self._compare()

    def _compare(self) -> None:
        groups = self._optimizer.param_groups
        begun = [group for group in groups if group.get(CLOCK) and not (self._ends and group.get(ENDED, -1) >= 0)]
        others = {str(of) for group in begun if (of := group.get(OF, self._noise)) != self._noise}
        t = max((group.get(CLOCK, 0) for group in groups), default=0)
        for group in groups:
            group[OF] = self._noise
        if others and self._warn:
            say(
                f"the optimizer's state is that of a run with {' and '.join(sorted(others))}; from update {t} on it has"
                f" {self._noise}. Where the run is to go on as it began, attach the noise that it began with"
            )

    def remove(self) -> None:
        """Forget: who attaches other noise now means it."""
        self._hook.remove()
        for group in self._optimizer.param_groups:
            group.pop(OF, None)
