"""The mechanism in one picture: noise carries the weights to the scale at which a deep network can learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradnoise.paper.deep_mlp.model import weight_sd
from gradnoise.study import StudyResults, TrialResult
from gradnoise.study.report import arm_colour, legend, style

SCALE, ACCURACY = "hidden_weight_sd", "test_accuracy"
ARMS = ("none", "noise")
THEORY, CRITICAL = arm_colour(2), arm_colour(3)


def diffused_sd(start: float, lr: float, eta: float, gamma: float, steps: np.ndarray) -> np.ndarray:
    """Return the standard deviation of a weight that noise alone moves.

    At T updates it is sqrt(start^2 + lr^2 eta sum_{t<T} (1+t)^-gamma).

    Args:
        start: standard deviation at T = 0.
        lr: learning rate of plain SGD.
        eta: of the schedule.
        gamma: of the schedule.
        steps: numbers of updates T.
    """
    sums = np.concatenate([[0.0], np.cumsum((1.0 + np.arange(int(steps.max()))) ** -gamma)])
    return np.sqrt(start**2 + lr**2 * eta * sums[steps.astype(int)])


def mechanism(results: StudyResults) -> list[tuple[str, Figure]]:
    """Draw the scale of the hidden weights and the test accuracy over training, without and with noise.

    Args:
        results: of a deep-MLP study.

    Returns:
        One (title, figure), or nothing where no trial recorded the scale of its weights.
    """
    rows = [(row, title) for row, title in results.record.rows if _trials(results, row, "noise")]
    if not rows:
        return []
    figure = Figure(figsize=(3.6 * len(rows), 4.6), layout="constrained")
    axes = figure.subplots(2, len(rows), sharex=True, sharey="row", squeeze=False)
    for column, (row, title) in enumerate(rows):
        above, below = axes[:, column]
        for ax, metric in ((above, SCALE), (below, ACCURACY)):
            for i, arm in enumerate(ARMS):
                for trial in _trials(results, row, arm):
                    curve = trial.curves[metric]
                    ax.plot(curve.steps, curve.values, color=arm_colour(i), lw=1, alpha=0.6)
        _theory(above, _trials(results, row, "noise"))
        above.set_title(title, fontsize=9, loc="left", pad=16)
        style(above, y="" if column else "sd of hidden weights")
        style(below, x="updates", y="" if column else "test accuracy in %")
    _legend(figure)
    return [("Why: noise carries the weights to the scale at which the network learns", figure)]


def _trials(results: StudyResults, row: str, arm: str) -> Sequence[TrialResult]:
    return [t for t in results.trials if t.row == row and t.arm == arm and SCALE in t.curves]


def _theory(ax: Axes, trials: Sequence[TrialResult]) -> None:
    """Draw the random walk of the noise alone at each learning rate, and He's scale, where signals keep their size."""
    settings = {trial.setting: trial for trial in trials}
    for trial in settings.values():
        config, noise = trial.config, trial.config["noise"]
        steps = np.linspace(0, trial.curves[SCALE].steps.max(), 100)
        start = weight_sd(config["init"], config["width"])
        sd = diffused_sd(start, config["lr"], noise["eta"], noise["gamma"], steps)
        ax.plot(steps, sd, ":", color=THEORY, lw=1.8)
    ax.axhline(math.sqrt(2 / trials[0].config["width"]), color=CRITICAL, lw=1)


def _legend(figure: Figure) -> None:
    looks: dict[str, dict[str, Any]] = {
        "no noise": {"color": arm_colour(0)},
        "noise": {"color": arm_colour(1)},
        "noise alone (theory)": {"color": THEORY, "ls": ":", "lw": 1.8},
        "critical scale (He)": {"color": CRITICAL},
    }
    axes = figure.axes[0]
    legend(figure, [axes.plot([], [], label=label, **look)[0] for label, look in looks.items()])
