"""Problems of all lengths at once, the weight of the saturation cost, and the learning rate of diagonal Neural GPUs.

Source: the program of Freivalds & Liepins 2017 (arXiv 1702.08727).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradnoise.paper.neural_gpu.diagonal.config import DiagonalConfig
from gradnoise.paper.neural_gpu.diagonal.steps import Strip
from gradnoise.paper.neural_gpu.tasks import PAD, ZERO, task_of
from gradnoise.population import Course, Draws

State = dict[str, Tensor]

#: What the learning rate is multiplied by, and the least share of it that is left.
SLOWER, SLOWEST = 0.7, 1 / 60
#: The least weight of the saturation cost after a window.
LEAST = 1e-20


class AllLengths(Course):
    """Draws problems of every bin in every update, and looks at weight and learning rate after every window.

    The saturation cost's weight w becomes w lr (cross entropy) / (w cost), within [1e-20, its first value]. The
    learning rate falls where neither of the last two windows' mean cross entropies is below that of the one before.
    """

    generates = True

    def start(self, config: DiagonalConfig) -> State:
        """Return weight, share of the learning rate, sums over the window, and the settings that may differ."""
        numbers = {
            "weight": config.saturation,
            "most": config.saturation,
            "lr": config.lr,
            "rate": 1 - config.keep,
            "factor": 1.0,
            "nats": 0.0,
            "cost": 0.0,
            "wrong": 0.0,
            "entropy": 0.0,  # of the last window, and its error
            "error": 1.0,
        }
        state = {name: torch.tensor(float(x)) for name, x in numbers.items()}
        return state | {"before": torch.full((2,), torch.inf)}

    def batch(self, draws: Draws, state: State, config: DiagonalConfig) -> State:
        """Return strips of symbols and answers [P, L, B], and what the dropout masks are made of."""
        task, strip, b = task_of(config.task), Strip(config.lengths), config.batch_size
        bins, most = len(strip.bins), strip.steps
        bits = (draws.uniform("digits", bins, b, most) > 0.5).long()
        longest = torch.tensor(strip.lengths, device=bits.device)[:, None].expand(bins, b)
        least = torch.minimum(torch.full_like(longest, task.least), longest)
        drawn = least + draws.integers("length", longest - least + 1, bins, b)
        length = torch.where(draws.uniform("shorter", bins, b) <= config.shorter, drawn, longest)
        problems = task.make(length.flatten(), bits.view(-1, 1, most))
        shape = (len(bits), bins, b, most)
        tokens, targets = (x.view(shape) for x in (problems.tokens, filled(problems.targets, problems.length)))
        high, low = draws.integers("dropout", 1 << 24, 2).unbind(-1)
        return {
            "tokens": laid(tokens, strip),
            "targets": laid(targets, strip),
            "key": (high << 24) + low,
            "rate": state["rate"],
        }

    def after(self, state: State, observed: State, t: Tensor, config: DiagonalConfig) -> State:
        """Count the minibatch, and at the end of a window judge it."""
        state = state | {name: state[name] + observed[name] for name in ("nats", "cost", "wrong")}
        ends, judged = (t + 1) % config.window == 0, self.judged(state, config)
        return {name: torch.where(ends, judged[name], x) for name, x in state.items()}

    def judged(self, state: State, config: DiagonalConfig) -> State:
        """Return the state after a window: weight of the saturation cost, share of the learning rate."""
        zero, entropy, before = torch.zeros_like(state["nats"]), state["nats"] / config.window, state["before"]
        cost = state["cost"] / config.window
        weight = state["lr"] * state["factor"] * entropy / cost
        weight = torch.minimum(weight.clamp(min=LEAST), state["most"])
        stands = torch.minimum(entropy, before[:, 1]) >= before[:, 0]
        factor = torch.where(stands, (state["factor"] * SLOWER).clamp(min=SLOWEST), state["factor"])
        return state | {
            "weight": weight,
            "factor": factor,
            "nats": zero,
            "cost": zero,
            "wrong": zero,
            "entropy": entropy,
            "error": state["wrong"] / config.window,
            "before": torch.stack([before[:, 1], entropy], -1),
        }

    def rate(self, state: State) -> Tensor:
        """Return what the learning rate has fallen to, as a share."""
        return state["factor"]

    def recorded(self, state: State) -> State:
        """Return error and cross entropy of the last window, the weight of the saturation cost, the rate's share."""
        return {
            "window_error": 100 * state["error"],
            "cross_entropy": state["entropy"],
            "saturation_weight": state["weight"],
            "learning_rate_factor": state["factor"],
        }


def filled(targets: Tensor, length: Tensor) -> Tensor:
    """Return answers [P, B, N] with zeros instead of nothing up to their problem's length [P]."""
    k = torch.arange(targets.shape[-1], device=targets.device)
    return torch.where((targets == PAD) & (k < length[:, None, None]), ZERO, targets)


def laid(symbols: Tensor, strip: Strip) -> Tensor:
    """Lay symbols of all bins [P, bins, B, N], the longest bin first, into a strip [P, L, B]."""
    empty = torch.full_like(symbols[:, 0, :, :1], PAD)
    parts = [torch.cat([symbols[:, i, :, :n], empty], -1) for i, n in enumerate(strip.lengths)]
    return torch.cat(parts, -1).mT.contiguous()
