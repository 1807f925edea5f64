"""Training an NRAM on one of its tasks: learned stop, loss, success (NRAM paper)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from gradnoise.paper.nram.config import Config
from gradnoise.paper.nram.course import Lessons
from gradnoise.paper.nram.machine.checks import check_precision
from gradnoise.paper.nram.machine.model import NRAM
from gradnoise.paper.nram.machine.modules import straight_through
from gradnoise.paper.nram.problems.curriculum import Curriculum
from gradnoise.paper.nram.problems.exam import start, wrong
from gradnoise.paper.nram.problems.lesson import Lesson
from gradnoise.paper.nram.problems.tasks import Problems
from gradnoise.population import Data, Experiment, Goal, PopulationError

EPS = 1e-6

Metrics = dict[str, Tensor]


class ZeroError(Goal):
    """No error on 1,000 problems, then none on 10,000 others."""

    def __init__(self, experiment: NRAMExperiment) -> None:
        self._experiment = experiment

    def reached(self, metrics: Metrics) -> Tensor:
        """Say which machines make no error at all."""
        return metrics["error"] == 0

    def exam(self, model: nn.Module, config: Config) -> Metrics:
        """Return error and success on the second, larger exam, and the error on problems of twice the size."""
        assert isinstance(model, NRAM)
        lesson = self._experiment.lesson(config)
        return _with_success({"error": lesson.confirmation.error(model), "far_error": lesson.larger.error(model)})


class NRAMExperiment(Experiment):
    """NRAMs learn tasks from inputs and outputs alone, on problems that become harder as they learn.

    The loss of a problem is sum_t p_t l_t - lambda_t sum_t H_t: l_t is the negative log-likelihood of the right
    output in memory after step t, H_t the entropy of the controller's choices. A minibatch counts with the sum
    over its problems. A replica finishes when it makes no error on 1,000 problems and on 10,000 others.

    Metrics, in %: solved, 100 for a replica without error, else 0; error, the share of wrong output cells in the
    memory averaged over the stop, and error_k0, error_k1, ... of it on lists with that many hops; stopped_error,
    in the memory at the first step with f_t >= 0.5; hard_error, of the hard machine; far_error, on problems of
    size 2 n_max in 4 n_max + 4 cells and 2 n_max + 4 steps, for replicas that succeed. And steps, the mean time
    of stop; ties, how many output cells held two values that were equally likely (the lower one counted).

    Args:
        lessons: what there is to learn, one or more; their names differ.
        curriculum: when problems become harder; None for the published rule.

    Raises:
        PopulationError: there are no lessons.
    """

    name = "nram"
    Config = Config
    replica_keys = frozenset({"gain", "stop_bias", "value_clip", "entropy", "half_life", "curriculum"})
    patience = 100

    def __init__(self, *lessons: Lesson, curriculum: Curriculum | None = None) -> None:
        if not lessons:
            raise PopulationError(
                "no lessons; give at least one, such as Lesson.of('access', cells=8, most=4, steps=4)"
            )
        self.lessons = {lesson.name: lesson for lesson in lessons}
        title = "; ".join(lesson.title for lesson in self.lessons.values()) + " (generated)"
        self.data = Data(title, "+".join(self.lessons))
        self.course = Lessons(self.lesson, curriculum or Curriculum())
        self.goal = ZeroError(self)

    def lesson(self, config: Config) -> Lesson:
        """Return the lesson of a trial.

        Raises:
            PopulationError: there is none of that name.
        """
        name = next(iter(self.lessons)) if config.lesson is None else config.lesson
        if name not in self.lessons:
            raise PopulationError(f"no lesson {name!r}: there are {', '.join(self.lessons)}")
        return self.lessons[name]

    def model(self, config: Config) -> NRAM:
        """Return the machine of a configuration."""
        self.lesson(config)
        return NRAM(
            registers=config.registers,
            units=config.units,
            controller=config.controller,
            passes=config.passes,
            gain=config.gain,
            stop_bias=config.stop_bias,
        )

    def loss(self, model: Callable[..., Any], batch: tuple[Metrics, Metrics], config: Config) -> tuple[Tensor, Metrics]:
        """Return the summed loss of a minibatch, and the share of wrong output cells."""
        made, state = batch
        problems = Problems(made["memory"], made["target"], made["mask"], made["kind"])
        lesson, dtype = self.lesson(config), state["entropy"].dtype
        check_precision(dtype)
        outputs = lesson.task.outputs()
        run = model(start(problems.memory, lesson.task.cells, dtype), lesson.steps, outputs, state["limit"])
        data = (run.p * _log_likelihood(run.answers, problems, outputs)).sum(-1)
        error = wrong(run.answer.argmax(-1), problems, outputs, dtype).mean()
        return -(data + made["bonus"] * run.entropy.sum(-1)).sum(), {"error": error}

    def evaluate(self, model: nn.Module, held_out: object, config: Config) -> Metrics:
        """Return all metrics but far_error on the first exam; see the class."""
        assert isinstance(model, NRAM)
        return _with_success(self.lesson(config).exam.all_scores(model))

    def diverged_metrics(self) -> dict[str, float]:
        """Return what a machine of nans scores: it gets nothing right."""
        return {"solved": 0.0, "error": 100.0}


def _log_likelihood(answers: Tensor, problems: Problems, outputs: slice) -> Tensor:
    """Return log P(right output) after each step [B, T].

    Of a probability x it is log max(x, eps), with the gradient 1 / max(x, eps) also below eps.
    """
    target = problems.target[..., None, outputs, None].expand(*answers.shape[:-1], 1)
    right = answers.gather(-1, target)[..., 0]
    return (straight_through(right, right.clamp(min=EPS)).log() * problems.mask[..., None, outputs]).sum(-1)


def _with_success(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    error = metrics["error"]
    return metrics | {"solved": 100 * (error == 0).to(error.dtype)}
