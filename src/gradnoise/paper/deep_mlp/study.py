"""Table 1 of the paper as a study: six experiments, the dropout arm and the five-layer pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from gradnoise.data import load_images
from gradnoise.noise.schedule import Annealed
from gradnoise.paper.deep_mlp.experiment import DeepMLPExperiment
from gradnoise.paper.scales import resized, scale_of
from gradnoise.study import Arm, Claim, Metric, Setting, Study

SOURCE = "Neelakantan et al., Table 1"
ETA = 0.01
LEARNING_RATES = (0.1, 0.01)

NONE = Arm("none", title="no noise")
NOISE = Arm("noise", {"noise": Annealed(ETA)}, title="noise")
DROPOUT = Arm("dropout", {"dropout": 0.5}, title="dropout")

#: Row id, title, and what the row changes.
ROWS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("1", "Simple init, no clip", {"init": "simple", "clip": None}),
    ("2", "Simple init, clip 100", {"init": "simple", "clip": 100.0}),
    ("3", "Simple init, clip 10", {"init": "simple", "clip": 10.0}),
    ("4", "Good init 1 (Sussillo & Abbott), clip 10", {"init": "sussillo", "clip": 10.0}),
    ("5", "Good init 2 (He et al.), clip 10", {"init": "he", "clip": 10.0}),
    ("6", "Zero init, clip 10", {"init": "zero", "clip": 10.0}),
    ("5-layer", "5 hidden layers, simple init, no clip", {"init": "simple", "clip": None, "depth": 5}),
)

METRIC = Metric(name="test_accuracy", title="test accuracy", unit="%", margin=1.0, success=80.0)


def _figures(**arms: tuple[float, float]) -> dict[str, dict[str, float]]:
    return {arm: {"best": best, "mean": mean} for arm, (best, mean) in arms.items()}


#: The paper's Table 1 (best / average test accuracy in %, 40 runs a cell) and what its text concludes.
CLAIMS = (
    Claim(
        "C1",
        "1",
        "Noise helps from Simple Init without clipping",
        f"{SOURCE}, Experiment 1",
        "noise",
        "helps",
        _figures(none=(89.9, 43.1), noise=(96.7, 52.7)),
    ),
    Claim(
        "C2",
        "2",
        "Noise helps from Simple Init with clipping at 100",
        f"{SOURCE}, Experiment 2",
        "noise",
        "helps",
        _figures(none=(90.0, 46.3), noise=(96.7, 52.3)),
    ),
    Claim(
        "C3",
        "3",
        "Noise helps from Simple Init with clipping at 10",
        f"{SOURCE}, Experiment 3",
        "noise",
        "helps",
        _figures(none=(95.7, 51.6), noise=(97.0, 53.6)),
    ),
    Claim(
        "C4",
        "4",
        "With Sussillo & Abbott's init noise makes no difference",
        f"{SOURCE}, Experiment 4",
        "noise",
        "no difference",
        _figures(none=(97.4, 92.1), noise=(97.5, 92.2)),
    ),
    Claim(
        "C5",
        "5",
        "With He's init noise makes no difference",
        f"{SOURCE}, Experiment 5",
        "noise",
        "no difference",
        _figures(none=(97.4, 91.7), noise=(97.2, 91.7)),
    ),
    Claim(
        "C6",
        "6",
        "From zero weights only noise learns",
        f"{SOURCE}, Experiment 6",
        "noise",
        "helps",
        _figures(none=(11.4, 10.1), noise=(94.5, 49.7)),
    ),
    Claim(
        "C7",
        "1",
        "Dropout does not rescue Simple Init: it stays at chance",
        f"{SOURCE}, Experiment 1",
        "dropout",
        "chance",
        _figures(none=(89.9, 43.1), dropout=(11.3, 10.8)),
    ),
    Claim(
        "C8",
        "5-layer",
        "On a 5-layer network noise makes no difference",
        "Neelakantan et al., section 4.1",
        "noise",
        "no difference",
    ),
)

PROTOCOL = (
    ("network", "784 -> 20 hidden layers of 50 ReLU units -> 10, softmax cross-entropy"),
    ("training", "plain SGD, fixed learning rate, minibatches of 100 reshuffled every epoch, pixels / 255"),
    ("one update", "gradient; clip by global norm; add noise N(0, eta / (1 + t)^0.55), eta = 0.01; step"),
    (
        "reported",
        "final-step test accuracy; best over evaluations beside it; success = final accuracy >= 80 %",
    ),
    (
        "pairs",
        "same seed, same initial weights and same minibatches in every arm; learning rates pooled in a row",
    ),
    ("a diverged run", "is frozen and counts with the accuracy of a model of nans (class 0)"),
)

#: What the paper does not say, and what is done here (same in every arm).
SILENT = (
    "The paper does not give batch size, length of training, input scale or the scope of the clip;"
    " 100, pixels / 255 and the global norm are our choice.",
)


def _grid(rows: Sequence[str], rates: Sequence[float]) -> tuple[Setting, ...]:
    """Settings of some rows at some learning rates; the dropout arm runs in row 1 only, as in the paper."""
    arms = {"1": None}
    return tuple(
        Setting(row, title, {"lr": lr, **values}, arms.get(row, ("none", "noise")), name=f"lr {lr}")
        for row, title, values in ROWS
        if row in rows
        for lr in rates
    )


@dataclass(frozen=True)
class Scale:
    """How much of the protocol to run."""

    settings: tuple[Setting, ...]
    arms: tuple[Arm, ...]
    seeds: int
    steps: int
    eval_every: int
    batch_size: int = 100
    depth: int = 20
    deviations: tuple[str, ...] = ()


SCALES = {
    "paper": Scale(_grid([r[0] for r in ROWS], LEARNING_RATES), (NONE, NOISE, DROPOUT), 20, 60_000, 600),
    "quick": Scale(
        _grid(["3"], [0.15]) + _grid(["5"], [0.1]) + _grid(["6"], [0.2]),
        (NONE, NOISE),
        seeds=8,
        steps=3000,
        eval_every=150,
        deviations=(
            "Quick scale: three of the six rows, 3,000 updates, 8 seeds, and one learning rate a row: 0.15, 0.1 and"
            " 0.2. A larger rate than the paper's lets the noise carry the weights to the scale at which the network"
            " learns within minutes (it moves them by lr * sigma_t an update); it is the same in both arms.",
        ),
    ),
    "smoke": Scale(
        _grid(["3", "6"], [0.1]),
        (NONE, NOISE),
        seeds=2,
        steps=20,
        eval_every=5,
        batch_size=20,
        depth=4,
        deviations=("Smoke scale: 2 seeds, 20 updates of 20 images, 4 hidden layers; too short to show anything.",),
    ),
}


def deep_mlp(scale: str = "paper", data: str = "auto", seeds: int | None = None, steps: int | None = None) -> Study:
    """The study of one scale.

    - "paper": every cell of Table 1, 60,000 updates, 20 seeds (600 runs).
    - "quick": minutes on two cores; fewer seeds and updates, and a larger step so that what takes the
      paper's runs tens of thousands of updates shows early. The same for both arms.
    - "smoke": seconds, for tests; too short to show anything.

    Args:
        scale: "paper", "quick" or "smoke".
        data: "auto", "mnist", "fashion-mnist" or "digits".
        seeds: number of seeds; None for the scale's own.
        steps: updates per run; None for the scale's own.
    """
    chosen = scale_of(SCALES, scale)
    numbers, deviations = resized(seeds, chosen.seeds, steps, chosen.steps)
    experiment = DeepMLPExperiment(load_images(data))
    rows, arms = {s.row for s in chosen.settings}, {a.name for a in chosen.arms}
    return Study(
        name="deep-mlp",
        title="Very deep fully-connected networks (Table 1)",
        experiment=experiment,
        arms=chosen.arms,
        metric=dataclasses.replace(METRIC, chance=experiment.chance()),
        settings=chosen.settings,
        seeds=numbers,
        steps=steps or chosen.steps,
        eval_every=min(chosen.eval_every, steps or chosen.steps),
        base={"depth": chosen.depth, "width": 50, "batch_size": chosen.batch_size},
        scale=scale,
        claims=tuple(c for c in CLAIMS if c.row in rows and c.treatment in arms),
        deviations=SILENT + chosen.deviations + deviations,
        protocol=PROTOCOL,
    )
