"""What NRAMs are trained on: problems made on the fly, harder as a machine learns, and the settings of its loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gradnoise.paper.nram.config import Config
from gradnoise.paper.nram.problems.curriculum import Curriculum
from gradnoise.paper.nram.problems.lesson import Lesson
from gradnoise.population import Course, Draws

State = dict[str, Tensor]


class Lessons(Course):
    """Makes the problems of a lesson as difficult as the curriculum of each replica wants them.

    Args:
        lesson: configuration -> what is learned.
        curriculum: when problems become harder.
    """

    generates = True

    def __init__(self, lesson: Callable[[Config], Lesson], curriculum: Curriculum) -> None:
        self._lesson, self.curriculum = lesson, curriculum

    def start(self, config: Config) -> State:
        """Return where the curriculum begins, and the settings of the loss."""
        settings = {
            "limit": torch.inf if config.value_clip is None else config.value_clip,
            "entropy": config.entropy,
            "half_life": config.half_life,
        }
        begin = self.curriculum.start(self._lesson(config).task.most, config.curriculum)
        return begin | {name: torch.tensor(float(x)) for name, x in settings.items()}

    def batch(self, draws: Draws, state: State, config: Config) -> dict[str, Tensor]:
        """Return problems [P, B, ...], and the weight of the entropy bonus at this t."""
        size, lesson = config.batch_size, self._lesson(config)
        u = draws.uniform("difficulty", 3, size)
        n = self.curriculum.difficulties(state, u[:, 0], u[:, 1], u[:, 2])
        problems = lesson.task.make(n, lambda name, k: draws.uniform(name, size, k))
        # in float64, as the last bit of a float32 exponential may depend on how many replicas there are
        fading = torch.exp2(-draws.t / state["half_life"].double()).to(state["entropy"])
        return vars(problems) | {"bonus": state["entropy"] * fading}

    def after(self, state: State, observed: State, t: Tensor, config: Config) -> State:
        """Let the curriculum learn of the minibatch's error."""
        return self.curriculum.updated(state, observed["error"], t)

    def recorded(self, state: State) -> State:
        """Return level and running error."""
        return {"level": state["level"], "running_error": state["running_error"]}
