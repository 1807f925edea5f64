"""Training Neural GPUs on algorithmic tasks: the loss, and errors on lengths that training has and has not seen."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradnoise.paper.neural_gpu import operator
from gradnoise.paper.neural_gpu.config import Config
from gradnoise.paper.neural_gpu.course import Lengths
from gradnoise.paper.neural_gpu.model import NeuralGPU
from gradnoise.paper.neural_gpu.tasks import PAD, Problems, task_of
from gradnoise.population import Data, Draws, Experiment

#: Positions that are tested at a time, in all problems together.
POSITIONS = 1 << 14
#: Percentages of wrong digits below which the paper counts models.
THRESHOLDS = (1, 2, 3, 5)

State = dict[str, Tensor]


class NeuralGPUExperiment(Experiment):
    """Neural GPUs learn a task on short problems and are tested on longer ones.

    The loss is the mean cross entropy over all positions of a problem, also of those that are to stay empty, plus
    pull * (sum of squared distances of the copies of the weights from their mean).

    Metrics, in %, on the last of the lengths of `Config.tests`: error, the share of wrong digits; sequence_error, of
    problems with a wrong digit; strict_error, of problems with a wrong digit or a symbol behind the last one; and
    below_1, below_2, below_3, below_5: 100 where error is below so many percent, else 0. The same of every other length
    n as error_n, sequence_error_n, strict_error_n.
    """

    name = "neural-gpu"
    Config = Config
    replica_keys = frozenset({"init_weight", "pull", "pull_factor", "bound", "state_dropout", "gate"})
    data = Data("generated problems", "bits-1")
    watch_updates = True
    course = Lengths()

    def model(self, config: Any) -> nn.Module:
        """Return the network of a configuration."""
        return NeuralGPU(config.maps, config.height, config.layers, config.sets, config.kernel, init=config.init_weight)

    def loss(self, model: nn.Module, batch: tuple[State, State], config: Any) -> tuple[Tensor, State]:
        """Return the loss of one replica's minibatch, and what its course looks at."""
        made, state = batch
        network = inner(model)
        run = compiled if made["tokens"].device.type == "cpu" else defined
        nats, wrong = run(network, made, read_dropped=config.trained_as.read_dropped)
        spread = network.spread()
        seen = {"drawn": made["drawn"], "wrong": wrong, "nats": nats, "spread": spread}
        return nats + state["pull"] * spread, seen

    def held_out(self, config: Any) -> list[tuple[Tensor, Tensor]]:
        """Return the test problems of every length: symbols and answers, int64 [samples, n] each."""
        tests = [_exam(config.task, n, config.samples) for n in config.tests]
        return [(problems.tokens[0], problems.targets[0]) for problems in tests]

    def evaluate(self, model: nn.Module, held_out: list[tuple[Tensor, Tensor]], config: Any) -> State:
        """Return the metrics; see the class."""
        metrics: State = {}
        for i, (n, (tokens, targets)) in enumerate(zip(config.tests, held_out, strict=True)):
            size = max(1, POSITIONS // tokens.shape[-1])
            answers = torch.cat([model(part).argmax(-1) for part in tokens.split(size)])
            answers = self.compared(answers, targets)
            suffix = "" if i == len(held_out) - 1 else f"_{n}"
            metrics |= {f"{name}{suffix}": 100 * x for name, x in errors(answers, targets, model).items()}
        error = metrics["error"]
        return metrics | {f"below_{c}": 100 * (error < c).to(error) for c in THRESHOLDS}

    def compared(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Return answers as they are compared with targets: as they are."""
        return answers

    def diverged_metrics(self) -> dict[str, float]:
        """Return what a network of nans scores: nothing is right."""
        return {"error": 100.0, "sequence_error": 100.0, "strict_error": 100.0} | {
            f"below_{c}": 0.0 for c in THRESHOLDS
        }


def compiled(network: NeuralGPU, made: State, *, read_dropped: bool) -> tuple[Tensor, Tensor]:
    """Return cross entropy and share of wrong sequences of one replica, by the operator for a CPU."""
    setting = network.setting._replace(read_dropped=int(read_dropped))
    tokens, targets, length, key, rate = (made[name] for name in ("tokens", "targets", "length", "key", "rate"))
    return operator.loss(network.flat(), tokens, targets, length, key, rate, setting)


def defined(network: NeuralGPU, made: State, *, read_dropped: bool) -> tuple[Tensor, Tensor]:
    """Return the same in plain torch with every problem padded to N positions: nothing is read on the host."""
    tokens, targets, n = made["tokens"], made["targets"], made["length"]
    b, size = tokens.shape
    masks = operator.masks(made["key"], made["rate"], size + 1, size, b * network.height * network.maps)
    masks = masks.unflatten(-1, (b, network.height, network.maps))
    *_, last = network.states(tokens, size, n, masks)
    if read_dropped:
        last = last * masks.index_select(0, n[None])[0].permute(1, 3, 0, 2)
    logits = network.read(last)
    there = torch.arange(size, device=tokens.device) < n
    nats = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(b, size)
    nats = torch.where(there, nats, 0).sum() / (b * n)
    wrong = ((logits.argmax(-1) != targets) & (targets != PAD)).any(-1)
    return nats, wrong.to(nats.dtype).mean().detach()


def errors(answers: Tensor, targets: Tensor, network: nn.Module) -> State:
    """Return digit, sequence and strict error, as shares.

    Args:
        answers, targets: symbols, int64 [B, n]; where a target is `PAD`, an answer counts in the strict error alone.
        network: for the precision of the result.
    """
    digits, wrong = targets != PAD, answers != targets
    like = next(network.parameters())
    return {
        "error": (wrong & digits).sum().to(like) / digits.sum(),
        "sequence_error": (wrong & digits).any(-1).to(like).mean(),
        "strict_error": wrong.any(-1).to(like).mean(),
    }


@lru_cache(maxsize=64)
def _exam(task: str, n: int, samples: int) -> Problems:
    """Make test problems of one length [1, samples, n]; training never sees this stream."""
    bits = (Draws([n], 0).uniform("test digits", samples, n) > 0.5).long()
    return task_of(task).make(torch.tensor([n]), bits)


def inner(model: nn.Module) -> NeuralGPU:
    """Return a model as what it is."""
    assert isinstance(model, NeuralGPU)
    return model
