"""What a machine is to learn: a task, its size, the time for it, and the problems that judge the machine."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from gradnoise.errors import PopulationError, nearest
from gradnoise.paper.nram.problems.exam import Exam
from gradnoise.paper.nram.problems.tasks import TASKS, ListK, Task

#: Problems of an evaluation, and of the second one that a success has to pass.
EVALUATED, CONFIRMED = 1000, 10_000


@dataclass(frozen=True, eq=False)
class Lesson:
    """What to learn and how it is judged; `Lesson.of` makes one.

    Args:
        task: family of problems.
        steps: T, time steps.
        exam: problems of an evaluation.
        confirmation: other problems, which a machine without error on `exam` has to pass as well.
        larger: problems of size 2 n_max.
    """

    task: Task
    steps: int
    exam: Exam
    confirmation: Exam
    larger: Exam

    @classmethod
    def of(
        cls,
        task: str = "listk",
        cells: int = 12,
        most: int = 4,
        steps: int = 8,
        evaluated: int = EVALUATED,
        confirmed: int = CONFIRMED,
    ) -> Lesson:
        """Make a lesson and its exams.

        Args:
            task: a name in `TASKS`.
            cells: M.
            most: n_max, the largest problems.
            steps: T, time steps.
            evaluated, confirmed: problems that success is judged on.

        Raises:
            PopulationError: an argument is out of range.
        """
        if task not in TASKS:
            raise PopulationError(f"unknown task {task!r}: there are {', '.join(TASKS)}{nearest(task, TASKS)}")
        if steps < 1:
            raise PopulationError(f"steps T = {steps}: at least 1 is needed")
        kind, twice = TASKS[task], 2 * most
        made = kind(cells, most)
        if kind is ListK and steps < most + 2:
            warnings.warn(
                f"T = {steps} is too short for lists of {most} nodes: a machine with K = 1 needs n_max + 2 steps",
                stacklevel=2,
            )
        return cls(
            made,
            steps,
            Exam.of(made, steps, 0, evaluated),
            Exam.of(made, steps, 1, confirmed),
            Exam.of(kind(2 * twice + 4, twice), twice + 4, 2, evaluated, fewest=twice),
        )

    @property
    def name(self) -> str:
        """Task and sizes, such as "listk-M12-n4-T8"."""
        return f"{self.task.name}-M{self.task.cells}-n{self.task.most}-T{self.steps}"

    @property
    def title(self) -> str:
        """The same in words."""
        return f"{self.task.name}, M = {self.task.cells}, n up to {self.task.most}, T = {self.steps}"
