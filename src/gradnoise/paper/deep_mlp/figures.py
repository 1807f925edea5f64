"""The mechanism in one picture: noise carries the weights to the scale at which a deep network can learn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from gradnoise.paper.deep_mlp.model import weight_sd
from gradnoise.study import StudyResults, TrialResult

SCALE, ACCURACY = "hidden_weight_sd", "test_accuracy"


def diffused_sd(start: float, lr: float, eta: float, gamma: float, steps: np.ndarray) -> np.ndarray:
    """Standard deviation of a weight that noise alone moves: sqrt(start^2 + lr^2 eta sum_{t<T} (1+t)^-gamma).

    Args:
        start: standard deviation at T = 0.
        lr: learning rate of plain SGD.
        eta, gamma: of the schedule.
        steps: numbers of updates T.
    """
    sums = np.concatenate([[0.0], np.cumsum((1.0 + np.arange(int(steps.max()))) ** -gamma)])
    return np.sqrt(start**2 + lr**2 * eta * sums[steps.astype(int)])


def mechanism(results: StudyResults) -> list[tuple[str, Figure]]:
    """Scale of the hidden weights and test accuracy over training, per row that starts off the critical scale.

    Args:
        results: of a deep-MLP study whose trials recorded `hidden_weight_sd`.

    Returns:
        One (title, figure), or nothing where no trial recorded the scale.
    """
    rows = [(row, title) for row, title in results.record.rows if _of(results, row, "noise")]
    if not rows:
        return []
    figure = Figure(figsize=(4.2 * len(rows), 5.2), layout="constrained")
    axes = figure.subplots(2, len(rows), sharex=True, sharey="row", squeeze=False)
    for column, (row, title) in enumerate(rows):
        above, below = axes[:, column]
        above.set_title(title, fontsize="medium")
        for arm, style in (("none", "--"), ("noise", "-")):
            for trial in _of(results, row, arm):
                for ax, metric in ((above, SCALE), (below, ACCURACY)):
                    curve = trial.curves[metric]
                    ax.plot(curve.steps, curve.values, style, color="C0" if arm == "none" else "C1", lw=1, alpha=0.6)
        _theory(above, _of(results, row, "noise")[0])
        below.set_xlabel("update")
    axes[0, 0].set_ylabel("sd of hidden weights")
    axes[1, 0].set_ylabel("test accuracy in %")
    return [("Noise carries the weights to the scale at which the network learns", figure)]


def _of(results: StudyResults, row: str, arm: str) -> Sequence[TrialResult]:
    return [t for t in results.trials if t.row == row and t.arm == arm and SCALE in t.curves]


def _theory(ax, trial: TrialResult) -> None:  # noqa: ANN001 - matplotlib's Axes
    config, noise = trial.config, trial.config["noise"]
    steps = np.linspace(0, trial.curves[SCALE].steps.max(), 100)
    sd = diffused_sd(weight_sd(config["init"], config["width"]), config["lr"], noise["eta"], noise["gamma"], steps)
    ax.plot(steps, sd, ":", color="C2", lw=2, label="noise alone, theory")
    ax.axhline(math.sqrt(2 / config["width"]), color="C3", lw=1, label="critical scale (He)")
    ax.legend(fontsize="small", frameon=False)
