"""Training an NRAM on one of its tasks: data on the fly, learned stop, loss, curriculum, success (NRAM paper)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradnoise.paper.nram.curriculum import Curriculum
from gradnoise.paper.nram.exam import Exam, average, start, wrong
from gradnoise.paper.nram.model import NRAM, stopping
from gradnoise.paper.nram.modules import straight_through
from gradnoise.paper.nram.tasks import TASKS, Problems
from gradnoise.population import Draws, Experiment

#: Keys of a trial's configuration that `NRAM` takes.
MODEL_KEYS = ("registers", "units", "controller", "passes", "gain", "stop_bias")
#: Problems of an evaluation, and of the second one that a success has to pass.
EVALUATED, CONFIRMED = 1000, 10_000
EPS = 1e-6


class NRAMExperiment(Experiment):
    """An NRAM learns a task from inputs and outputs alone, on problems that become harder as it learns.

    The loss of a problem is sum_t p_t l_t - lambda_t sum_t H_t: l_t is the negative log-likelihood of the right
    output in memory after step t, H_t the entropy of the controller's choices. A minibatch counts with the sum
    over its problems. A replica finishes when it makes no error on 1,000 problems and on 10,000 others.

    Configuration of a trial, beside the engine's own keys and those of `NRAM`: batch_size; and per replica
    `value_clip` (C1, None for none), `entropy` (lambda_0) and `half_life` of the entropy bonus in updates.

    Metrics, in %: solved, 100 for a replica without error, else 0; of output cells error, of the memory averaged over the stop; stopped_error, of
    the memory at the first step with f_t >= 0.5, hard_error, of the hard machine, error_k0, error_k1, ..., of
    lists with that many hops, and far_error, of problems of size 2 n_max in 4 n_max + 4 cells and 2 n_max + 4
    steps, for replicas that succeed; and steps, the mean time of stop.

    Args:
        task: a name in `TASKS`.
        cells: M.
        most: n_max, the largest problems.
        steps: T, time steps.
        curriculum: when problems become harder; None for the published rule.
        batch_size: B.
        evaluated, confirmed: problems that success is judged on.
    """

    name = "nram"
    replica_keys = frozenset({"gain", "stop_bias", "value_clip", "entropy", "half_life"})
    patience = 100
    watched = ("level", "running_error")

    def __init__(
        self,
        task: str = "listk",
        cells: int = 12,
        most: int = 4,
        steps: int = 8,
        curriculum: Curriculum | None = None,
        batch_size: int = 50,
        evaluated: int = EVALUATED,
        confirmed: int = CONFIRMED,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"unknown task {task!r}: there are {', '.join(TASKS)}")
        for what, value in (("steps T", steps), ("batch size B", batch_size)):
            if value < 1:
                raise ValueError(f"{what} = {value}: at least 1 is needed")
        self.task = TASKS[task](cells, most)
        self.curriculum = curriculum or Curriculum(most)
        self.steps, self.batch_size = steps, batch_size
        self.fingerprint = f"{task}-M{cells}-n{most}-T{steps}-B{batch_size}"
        self.data_title = f"{task}, M = {cells}, n up to {most}, T = {steps} (generated)"
        self._exam = Exam.of(self.task, steps, 0, evaluated)
        self._second = Exam.of(self.task, steps, 1, confirmed)
        far = 2 * most
        self._far = Exam.of(TASKS[task](2 * far + 4, far), far + 4, 2, evaluated, fewest=far)

    # --- training ---------------------------------------------------------------------------------

    def model(self, config: Mapping[str, Any]) -> nn.Module:
        """The machine of `config`."""
        return NRAM(**{k: config[k] for k in MODEL_KEYS if k in config})

    def state(self, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Where the curriculum stands, and the settings of the loss."""
        limit, entropy, half_life = config.get("value_clip"), config.get("entropy", 0.0), config.get("half_life", 1000)
        if limit is not None and not limit > 0:
            raise ValueError(f"value_clip C1 = {limit}: a limit is > 0, or None for none")
        if entropy < 0 or half_life <= 0:
            raise ValueError(f"entropy = {entropy} and half_life = {half_life}: need >= 0 and > 0")
        settings = {"limit": torch.inf if limit is None else limit, "entropy": entropy, "half_life": half_life}
        return self.curriculum.start() | {name: torch.tensor(float(x)) for name, x in settings.items()}

    def generate(self, draws: Draws, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Problems [P, B, ...] of the difficulties that the curriculum wants, and what the loss needs at this t."""
        u = draws.uniform("difficulty", 3, self.batch_size).to(self.device)
        n = self.curriculum.difficulties(state["level"], u[:, 0], u[:, 1], u[:, 2])
        problems = self.task.make(n, lambda name, k: draws.uniform(name, self.batch_size, k))
        bonus = state["entropy"] * torch.exp2(-draws.t / state["half_life"])
        return vars(problems) | {"limit": state["limit"], "bonus": bonus}

    def loss(self, model: Callable[..., Any], batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed loss of a minibatch, and the share of wrong output cells."""
        problems = Problems(batch["memory"], batch["target"], batch["mask"], batch["kind"])
        moments = list(model(start(problems.memory, self.task.cells, self.dtype), self.steps, batch["limit"]))
        likelihoods = [self._log_likelihood(m.memory, problems) for m in moments]
        p = stopping([m.stop for m in moments])
        data = sum(p_t * l_t for p_t, l_t in zip(p, likelihoods, strict=True))
        entropy = sum(m.entropy for m in moments)
        outputs = self.task.outputs()
        error = wrong(average(p, moments, outputs).argmax(-1), problems, outputs, self.dtype).mean()
        return -(data + batch["bonus"] * entropy).sum(), {"error": error}

    def updated(self, state: dict[str, Tensor], report: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        """Let the curriculum learn of the minibatch's error."""
        return state | self.curriculum.updated(state, report["error"], t)

    def _log_likelihood(self, memory: Tensor, problems: Problems) -> Tensor:
        """log P(right output) [B]; log max(x, eps) with gradient 1 / max(x, eps) also below eps."""
        out = self.task.outputs()
        right = memory[..., out, :].gather(-1, problems.target[..., out, None])[..., 0]
        return (straight_through(right, right.clamp(min=EPS)).log() * problems.mask[..., out]).sum(-1)

    # --- measuring --------------------------------------------------------------------------------

    def evaluate(self, model: nn.Module) -> dict[str, Tensor]:
        """All metrics but far_error on the first exam; see the class."""
        return _with_success(self._exam.all_scores(model))  # type: ignore[arg-type]

    def finished(self, metrics: dict[str, Tensor]) -> Tensor:
        """No error at all."""
        return metrics["error"] == 0

    def confirm(self, model: nn.Module) -> dict[str, Tensor]:
        """Error and success on the second, larger exam, and the error on problems of twice the size."""
        metrics = {"error": self._second.error(model), "far_error": self._far.error(model)}  # type: ignore[arg-type]
        return _with_success(metrics)

    def broken(self) -> dict[str, float]:
        """A machine of nans gets nothing right."""
        return {"solved": 0.0, "error": 100.0}


def _with_success(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    error = metrics["error"]
    return metrics | {"solved": 100 * (error == 0).to(error.dtype)}
