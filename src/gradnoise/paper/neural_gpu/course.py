"""How problems become longer as a Neural GPU learns, how its copies of the weights become one, and its learning rate.

Source: the authors' program; see `Profile` for what changed in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradnoise.paper.neural_gpu.config import GATES, Config
from gradnoise.paper.neural_gpu.tasks import task_of
from gradnoise.population import Course, Draws

State = dict[str, Tensor]

#: Shares of draws that compete with a second one up to the limit, and with one of any length.
SECOND, ANY = 0.6, 0.25
#: What the learning rate is multiplied by, and how many windows it looks back.
SLOWER, LOOK_BACK = 0.98, 3
#: Beside a dropout rate that falls with the length n: rate * EIGHT / max(EIGHT, n).
EIGHT = 8
#: Weights of which a network has several sets.
RELAXED = ("gates", "gate_bias", "candidate", "candidate_bias")


class Lengths(Course):
    """Draws the lengths of problems up to a limit that grows with every window whose error is below a bound.

    With every such success the pull between the copies of the weights grows, too; once it has reached its limit,
    successes set every copy to their mean instead. The learning rate falls when a window's cross entropy is above that
    of the last three, and at averagings.
    """

    generates = True

    def start(self, config: Config) -> State:
        """Return the limit, the pull, sums over the window, and the settings that differ between replicas."""
        numbers = {
            "limit": config.begin,
            "pull": config.pull,
            "factor": 1.0,  # of the learning rate
            "average": 0.0,  # whether the copies are now set to their mean
            "successes": 0.0,
            "windows": 0.0,
            "wrong": 0.0,  # sequences in this window of problems up to the limit, as shares of minibatches
            "counted": 0.0,  # such minibatches
            "nats": 0.0,
            "error": 1.0,  # of the last window
            "entropy": 0.0,
            "spread": 0.0,
            "bound": config.chosen("bound"),
            "growth": config.pull_factor,
            "dropout": config.chosen("state_dropout"),
        }
        state = {name: torch.tensor(float(x)) for name, x in numbers.items()}
        return state | {"before": torch.full((LOOK_BACK,), torch.inf), "gate": torch.tensor(GATES[config.gate])}

    def batch(self, draws: Draws, state: State, config: Config) -> State:
        """Return problems [P, B, N] of one length a replica, and what its dropout masks are made of."""
        length = self.drawn(draws, state, config)
        shape = config.chosen("batch_size"), config.longest
        problems = task_of(config.task).make(length, (draws.uniform("digits", *shape) > 0.5).long())
        high, low = draws.integers("dropout", 1 << 24, 2).unbind(-1)
        rate, n = state["dropout"], problems.length
        if config.trained_as.dropout_scaling == "inverse":
            rate = rate * EIGHT / n.clamp(min=EIGHT)
        return problems._asdict() | {"drawn": length, "key": (high << 24) + low, "rate": rate}

    def drawn(self, draws: Draws, state: State, config: Config) -> Tensor:
        """Return lengths int64 [P], uniform up to the limit and now and then more of the long ones."""
        low = config.shortest
        limit = state["limit"].long()[:, None]
        first, second = (low + draws.integers(name, limit - low + 1, 1)[:, 0] for name in ("length", "second length"))
        any_length = low + draws.integers("any length", config.longest - low + 1, 1)[:, 0]
        chance = draws.uniform("lengths", 2)
        longer = torch.where(chance[:, 0] < SECOND, torch.maximum(first, second), first)
        rival = longer if config.trained_as.second_draw else first
        return torch.where(chance[:, 1] < ANY, torch.maximum(rival, any_length), longer)

    def after(self, state: State, observed: State, t: Tensor, config: Config) -> State:
        """Count the minibatch, and at the end of a window judge it."""
        counts = (observed["drawn"] <= state["limit"]).to(state["wrong"])
        state = state | {
            "wrong": state["wrong"] + counts * observed["wrong"],
            "counted": state["counted"] + counts,
            "nats": state["nats"] + observed["nats"],
            "spread": observed["spread"],
            "average": torch.zeros_like(state["average"]),
        }
        ends = (t + 1) % config.chosen("window") == 0
        judged = self.judged(state, config)
        return {name: torch.where(ends, judged[name], x) for name, x in state.items()}

    def judged(self, state: State, config: Config) -> State:
        """Return the state after a window: limit, pull, whether copies are averaged, learning rate."""
        profile, zero = config.trained_as, torch.zeros_like(state["wrong"])
        error = torch.where(state["counted"] > 0, state["wrong"] / state["counted"].clamp(min=1), 1.0)
        entropy = state["nats"] / config.chosen("window")
        success, grows = error < state["bound"], state["limit"] < config.longest
        average = success & (state["pull"] >= profile.pull_limit)
        factor = torch.where(entropy > state["before"].amax(-1), SLOWER, 1.0)
        slower = average if profile.always_slower else average & (error < state["bound"] / 3)
        factor = factor * torch.where(slower, SLOWER, 1.0)
        before = torch.cat([state["before"][:, 1:], entropy[:, None]], -1)
        patient = success if profile.always_patient else success & grows
        pushed = torch.cat([before[:, 1:], torch.full_like(before[:, :1], torch.inf)], -1)
        return state | {
            "limit": state["limit"] + (success & grows),
            "pull": torch.where(success & ~average, state["pull"] * state["growth"], state["pull"]),
            "factor": state["factor"] * factor,
            "average": average.to(zero),
            "successes": state["successes"] + success,
            "windows": state["windows"] + 1,
            "wrong": zero,
            "counted": zero,
            "nats": zero,
            "error": error,
            "entropy": entropy,
            "before": torch.where(patient[:, None], pushed, before),
        }

    def rate(self, state: State) -> Tensor:
        """Return what the learning rate has fallen to, as a share."""
        return state["factor"]

    def noise(self, state: State) -> Tensor:
        """Return what the gradient noise's standard deviation is multiplied by, see `GATES`."""
        factor, offset, power = state["gate"].unbind(-1)
        return (factor * (state["error"] - offset).clamp(min=0)) ** power

    def weights(self, parameters: State, state: State) -> State:
        """Return the mean in place of every copy, where copies are averaged now."""

        def averaged(x: Tensor) -> Tensor:
            now = state["average"].view(-1, *[1] * (x.dim() - 1)) > 0
            return torch.where(now, x.mean(2, keepdim=True), x)

        return {name: averaged(parameters[name]) for name in RELAXED}

    def recorded(self, state: State) -> State:
        """Return the limit on the length, error and cross entropy of the last window, and how far copies are apart."""
        return {
            "length_limit": state["limit"],
            "window_error": 100 * state["error"],
            "cross_entropy": state["entropy"],
            "pull": state["pull"],
            "spread": state["spread"],
            "learning_rate_factor": state["factor"],
        }
