"""Training an NRAM on one of its tasks: data on the fly, learned stop, loss, curriculum, success (NRAM paper)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradnoise.paper.nram.machine.checks import check_precision
from gradnoise.paper.nram.machine.model import NRAM
from gradnoise.paper.nram.machine.modules import straight_through
from gradnoise.paper.nram.problems.curriculum import Curriculum
from gradnoise.paper.nram.problems.exam import start, wrong
from gradnoise.paper.nram.problems.lesson import Lesson
from gradnoise.paper.nram.problems.tasks import Problems
from gradnoise.population import Draws, Experiment

#: Keys of a trial's configuration that `NRAM` takes.
MODEL_KEYS = ("registers", "units", "controller", "passes", "gain", "stop_bias")
EPS = 1e-6


class Pupil(NRAM):
    """A machine that knows what it is to learn."""

    lesson: Lesson


class NRAMExperiment(Experiment):
    """NRAMs learn tasks from inputs and outputs alone, on problems that become harder as they learn.

    The loss of a problem is sum_t p_t l_t - lambda_t sum_t H_t: l_t is the negative log-likelihood of the right
    output in memory after step t, H_t the entropy of the controller's choices. A minibatch counts with the sum
    over its problems. A replica finishes when it makes no error on 1,000 problems and on 10,000 others.

    Configuration of a trial, beside the engine's own keys and those of `NRAM`: lesson (the name of one, the first
    one where it is left out), batch_size (B, 50); and per replica `value_clip` (C1, None for none), `entropy`
    (lambda_0) and `half_life` of the entropy bonus in updates, and `curriculum` (False: sizes uniform on 1..n_max
    from the first update).

    Metrics, in %: solved, 100 for a replica without error, else 0; error, the share of wrong output cells in the
    memory averaged over the stop, and error_k0, error_k1, ... of it on lists with that many hops; stopped_error,
    in the memory at the first step with f_t >= 0.5; hard_error, of the hard machine; far_error, on problems of
    size 2 n_max in 4 n_max + 4 cells and 2 n_max + 4 steps, for replicas that succeed. And steps, the mean time
    of stop; ties, how many output cells held two values that were equally likely (the lower one counted).

    Args:
        lessons: what there is to learn, one or more; their names differ.
        curriculum: when problems become harder; None for the published rule.
    """

    name = "nram"
    replica_keys = frozenset({"gain", "stop_bias", "value_clip", "entropy", "half_life", "curriculum"})
    patience = 100
    watched = ("level", "running_error")

    def __init__(self, *lessons: Lesson, curriculum: Curriculum | None = None) -> None:
        if not lessons:
            raise ValueError("no lessons; give at least one, such as Lesson.of('access', cells=8, most=4, steps=4)")
        self.curriculum = curriculum or Curriculum()
        self.lessons = {lesson.name: lesson for lesson in lessons}
        self.fingerprint = "+".join(self.lessons)
        self.data_title = "; ".join(lesson.title for lesson in self.lessons.values()) + " (generated)"

    def lesson(self, config: Mapping[str, Any]) -> Lesson:
        """The lesson of a trial.

        Raises:
            ValueError: there is none of that name.
        """
        name = config.get("lesson", next(iter(self.lessons)))
        if name not in self.lessons:
            raise ValueError(f"no lesson {name!r}: there are {', '.join(self.lessons)}")
        return self.lessons[name]

    def _lesson_of(self, model: Any) -> Lesson:
        """What a machine learns; one that was made elsewhere is measured on the first lesson."""
        return getattr(model, "lesson", self.lesson({}))

    # --- training ---------------------------------------------------------------------------------

    def model(self, config: Mapping[str, Any]) -> nn.Module:
        """The machine of `config`."""
        pupil = Pupil(**{k: config[k] for k in MODEL_KEYS if k in config})
        pupil.lesson = self.lesson(config)
        return pupil

    def state(self, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Where the curriculum stands, and the settings of the loss."""
        limit, entropy, half_life = config.get("value_clip"), config.get("entropy", 0.0), config.get("half_life", 1000)
        if limit is not None and not limit > 0:
            raise ValueError(f"value_clip C1 = {limit}: a limit is > 0, or None for none")
        if entropy < 0 or half_life <= 0:
            raise ValueError(f"entropy = {entropy} and half_life = {half_life}: need >= 0 and > 0")
        settings = {"limit": torch.inf if limit is None else limit, "entropy": entropy, "half_life": half_life}
        start = self.curriculum.start(self.lesson(config).task.most, config.get("curriculum", True))
        return start | {name: torch.tensor(float(x)) for name, x in settings.items()}

    def generate(self, draws: Draws, state: dict[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Problems [P, B, ...] of the difficulties that the curriculum wants, and what the loss needs at this t."""
        size = config.get("batch_size", 50)
        if size < 1:
            raise ValueError(f"batch_size B = {size}: at least 1 is needed")
        check_precision(self.dtype)
        lesson = self.lesson(config)
        u = draws.uniform("difficulty", 3, size)
        n = self.curriculum.difficulties(state, u[:, 0], u[:, 1], u[:, 2])
        problems = lesson.task.make(n, lambda name, k: draws.uniform(name, size, k))
        # in float64, as the last bit of a float32 exponential may depend on how many replicas there are
        fading = torch.exp2(-draws.t / state["half_life"].double()).to(state["entropy"])
        bonus = state["entropy"] * fading
        return vars(problems) | {"limit": state["limit"], "bonus": bonus}

    def loss(self, model: Callable[..., Any], batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed loss of a minibatch, and the share of wrong output cells."""
        problems = Problems(batch["memory"], batch["target"], batch["mask"], batch["kind"])
        lesson = self._lesson_of(model)
        outputs = lesson.task.outputs()
        run = model(start(problems.memory, lesson.task.cells, self.dtype), lesson.steps, outputs, batch["limit"])
        data = (run.p * _log_likelihood(run.answers, problems, outputs)).sum(-1)
        error = wrong(run.answer.argmax(-1), problems, outputs, self.dtype).mean()
        return -(data + batch["bonus"] * run.entropy.sum(-1)).sum(), {"error": error}

    def updated(self, state: dict[str, Tensor], report: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        """Let the curriculum learn of the minibatch's error."""
        return self.curriculum.updated(state, report["error"], t)

    # --- measuring --------------------------------------------------------------------------------

    def evaluate(self, model: nn.Module) -> dict[str, Tensor]:
        """All metrics but far_error on the first exam; see the class."""
        return _with_success(self._lesson_of(model).exam.all_scores(model))  # type: ignore[arg-type]

    def finished(self, metrics: dict[str, Tensor]) -> Tensor:
        """No error at all."""
        return metrics["error"] == 0

    def confirm(self, model: nn.Module) -> dict[str, Tensor]:
        """Error and success on the second, larger exam, and the error on problems of twice the size."""
        lesson = self._lesson_of(model)
        metrics = {"error": lesson.confirmation.error(model), "far_error": lesson.larger.error(model)}  # type: ignore[arg-type]
        return _with_success(metrics)

    def broken(self) -> dict[str, float]:
        """A machine of nans gets nothing right."""
        return {"solved": 0.0, "error": 100.0}


def _log_likelihood(answers: Tensor, problems: Problems, outputs: slice) -> Tensor:
    """log P(right output) after each step [B, T]; log max(x, eps) with gradient 1 / max(x, eps) also below eps."""
    target = problems.target[..., None, outputs, None].expand(*answers.shape[:-1], 1)
    right = answers.gather(-1, target)[..., 0]
    return (straight_through(right, right.clamp(min=EPS)).log() * problems.mask[..., None, outputs]).sum(-1)


def _with_success(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    error = metrics["error"]
    return metrics | {"solved": 100 * (error == 0).to(error.dtype)}
