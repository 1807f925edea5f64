"""Test problems, and what a machine scores on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gradnoise.paper.nram.machine.hard import run_hard
from gradnoise.paper.nram.machine.model import NRAM, Run
from gradnoise.paper.nram.problems.tasks import Problems, Task
from gradnoise.population import Draws

ERRORS = ("error", "stopped_error", "hard_error")
PART = 250  # problems at a time


def start(memory: Tensor, cells: int, dtype: torch.dtype) -> Tensor:
    """Return integers in memory [..., M] as one-hot rows [..., M, M]."""
    return one_hot(memory, cells).to(dtype)


def wrong(values: Tensor, problems: Problems, outputs: slice, dtype: torch.dtype) -> Tensor:
    """Return the share of wrong output cells [B], given what they hold, int64 [B, O]."""
    mask = problems.mask[..., outputs]
    return ((values != problems.target[..., outputs]) & mask).sum(-1).to(dtype) / mask.sum(-1)


@dataclass(frozen=True)
class Exam:
    """Fixed problems of one task.

    Args:
        task: family of problems.
        steps: T, time steps of the machine.
        problems: which, [count, M].
    """

    task: Task
    steps: int
    problems: Problems

    @classmethod
    def of(cls, task: Task, steps: int, seed: int, count: int, fewest: int = 1) -> Exam:
        """Make `count` problems of sizes uniform on fewest..n_max; training never sees these streams."""
        draws = Draws([seed], 0)
        n = fewest + draws.integers("exam size", task.most + 1 - fewest, count)[0]
        return cls(task, steps, task.make(n, lambda name, k: draws.uniform(f"exam {name}", count, k)[0]))

    def error(self, model: NRAM) -> Tensor:
        """Return the share of wrong output cells in the memory averaged over the time of stop, in %."""
        dtype = model.stop.weight.dtype
        outputs = self.task.outputs()
        found = []
        for part in self._parts(model):
            run: Run = model(start(part.memory, self.task.cells, dtype), self.steps, outputs)
            found.append(wrong(run.answer.argmax(-1), part, outputs, dtype))
        return 100 * torch.cat(found).mean()

    def all_scores(self, model: NRAM) -> dict[str, Tensor]:
        """Return every metric of `NRAMExperiment.evaluate`."""
        parts = list(self._parts(model))
        scores = [self._scores(model, part) for part in parts]
        columns = {name: torch.cat([s[name] for s in scores]) for name in scores[0]}
        metrics = {name: 100 * columns[name].mean() for name in ERRORS}
        metrics |= {"steps": columns["steps"].mean(), "ties": columns["ties"].sum()}
        kind = torch.cat([part.kind for part in parts])
        if self.task.kinds > 1:
            for k in range(self.task.kinds):
                metrics[f"error_k{k}"] = 100 * (columns["error"] * (kind == k)).sum() / (kind == k).sum().clamp(min=1)
        return metrics

    def _parts(self, model: NRAM) -> Sequence[Problems]:
        device = model.stop.weight.device
        p = self.problems
        parts = zip(*(x.split(PART) for x in (p.memory, p.target, p.mask, p.kind)), strict=True)
        return [Problems(*(x.to(device) for x in part)) for part in parts]

    def _scores(self, model: NRAM, problems: Problems) -> dict[str, Tensor]:
        """Return the scores [B] of some problems."""
        dtype, outputs = model.stop.weight.dtype, self.task.outputs()
        run: Run = model(start(problems.memory, self.task.cells, dtype), self.steps, outputs)
        hard = list(run_hard(model, problems.memory, self.steps))
        soft_stop = _first((run.stop >= 0.5).unbind(-1), run.answers.argmax(-1).unbind(-2))
        hard_stop = _first([m.stops for m in hard], [m.memory[..., outputs] for m in hard])
        averaged = run.answer
        answers = zip(ERRORS, (averaged.argmax(-1), soft_stop, hard_stop), strict=True)
        scores = {name: wrong(answer, problems, outputs, dtype) for name, answer in answers}
        tied = (averaged == averaged.amax(-1, keepdim=True)).sum(-1) > 1
        time = torch.arange(1, self.steps + 1, dtype=dtype, device=run.stop.device)
        return scores | {
            "steps": (run.p * time).sum(-1),
            "ties": (tied & problems.mask[..., outputs]).sum(-1).to(dtype),
        }


def _first(stops: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Return the values [B, O] at the first step that stops [B]; those of the last step where none does."""
    found = values[-1]
    for stop, value in zip(reversed(stops[:-1]), reversed(values[:-1]), strict=True):
        found = torch.where(stop[..., None], value, found)
    return found
