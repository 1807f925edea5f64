"""Table 1 of the paper as a study: six experiments, the dropout arm and the five-layer pair.

Two further studies: "pixels" asks what its first three rows owe to the scale of the pixels, on which the paper is
silent; "eta" compares the two noise rates that the paper tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from gradnoise.data import load_images
from gradnoise.noise import Annealed
from gradnoise.paper.deep_mlp.experiment import DeepMLPExperiment
from gradnoise.paper.system import Request, Scale
from gradnoise.study import Arm, Claim, Metric, Setting, Study

PAPER = "Neelakantan et al."
SOURCE = f"{PAPER}, Table 1"
ETA = 0.01
LEARNING_RATES = (0.1, 0.01)

NONE = Arm("none", title="no noise")
NOISE = Arm("noise", {"noise": Annealed(ETA)}, title="noise")
DROPOUT = Arm("dropout", {"dropout": 0.5}, title="dropout")
STRONG = Arm("noise-1.0", {"noise": Annealed(1.0)}, title="noise, η = 1.0")

#: Row id, title, and what the row changes.
Row = tuple[str, str, dict[str, object]]
ROWS: tuple[Row, ...] = (
    ("1", "Simple init, no clip", {"init": "simple", "clip": None}),
    ("2", "Simple init, clip 100", {"init": "simple", "clip": 100.0}),
    ("3", "Simple init, clip 10", {"init": "simple", "clip": 10.0}),
    ("4", "Good init 1 (Sussillo & Abbott), clip 10", {"init": "sussillo", "clip": 10.0}),
    ("5", "Good init 2 (He et al.), clip 10", {"init": "he", "clip": 10.0}),
    ("6", "Zero init, clip 10", {"init": "zero", "clip": 10.0}),
    ("5-layer", "5 hidden layers, simple init, no clip", {"init": "simple", "clip": None, "depth": 5}),
)

#: The rows from Simple Init with the bytes of the image files as they are.
RAW = {"white": 255.0}
RAW_ROWS: tuple[Row, ...] = tuple(
    (f"{row}-raw", f"{title}, raw pixels", values | RAW) for row, title, values in ROWS if row in ("1", "2", "3")
)

METRIC = Metric(name="test_accuracy", title="test accuracy", unit="%", margin=1.0, success=80.0)

#: (best, mean) test accuracy in %.
Published = tuple[float, float]
DROPOUT_STUCK = "With dropout instead of noise Simple Init does worse: it stays at chance"


def _claim(
    id: str,
    row: str,
    expects: str,
    statement: str,
    without: Published | None = None,
    treated: Published | None = None,
    arm: str = NOISE.name,
    source: str | None = None,
) -> Claim:
    published = {NONE.name: without, arm: treated}
    return Claim(
        id=id,
        row=row,
        statement=statement,
        source=source or f"{SOURCE}, Experiment {row[0]}",
        treatment=arm,
        expects=expects,
        figures={name: {"best": of[0], "mean": of[1]} for name, of in published.items() if of},
    )


SIMPLE: dict[str, tuple[str, Published, Published]] = {
    "1": ("Noise helps from Simple Init without clipping", (89.9, 43.1), (96.7, 52.7)),
    "2": ("Noise helps from Simple Init with clipping at 100", (90.0, 46.3), (96.7, 52.3)),
    "3": ("Noise helps from Simple Init with clipping at 10", (95.7, 51.6), (97.0, 53.6)),
}


def _simple(row: str, part: str = "", words: str = "") -> Claim:
    statement, without, treated = SIMPLE[row.removesuffix("-raw")]
    return _claim(f"T1.{row[0]}{part}", row, "helps", statement + words, without, treated)


#: The paper's Table 1 (40 runs a cell: without noise, with noise) and what its text concludes.
CLAIMS = (
    _simple("1"),
    _claim("T1.1-dropout", "1", "hurts", DROPOUT_STUCK, (89.9, 43.1), (11.3, 10.8), arm=DROPOUT.name),
    _simple("2"),
    _simple("3"),
    _claim("T1.4", "4", "no help", "With Sussillo & Abbott's init noise does not help", (97.4, 92.1), (97.5, 92.2)),
    _claim("T1.5", "5", "no help", "With He's init noise does not help", (97.4, 91.7), (97.2, 91.7)),
    _claim("T1.6", "6", "helps", "From zero weights only noise learns", (11.4, 10.1), (94.5, 49.7)),
    _claim(
        "4.1-five", "5-layer", "no help", "Noise does not improve a 5-layer network", source=f"{PAPER}, section 4.1"
    ),
    *(_simple(row, "/raw", ", pixels from 0 to 255") for row, *_ in RAW_ROWS),
)

PROTOCOL = (
    ("network", "784 -> 20 hidden layers of 50 ReLU units -> 10, softmax cross-entropy"),
    ("training", "plain SGD, fixed learning rate, minibatches of 100 reshuffled every epoch"),
    ("pixels", "divided by 255, but from 0 to 255 in rows called raw"),
    ("one update", "gradient; clip by global norm; add noise N(0, eta / (1 + t)^0.55), eta = 0.01; step"),
    ("reported", "final-step test accuracy; best over evaluations beside it; success = final accuracy >= 80 %"),
    ("pairs", "same seed, same initial weights and same minibatches in every arm; learning rates pooled in a row"),
    ("a diverged run", "is frozen and counts with the accuracy of a model of nans (class 0)"),
)

#: What the paper does not say, and what is done here (same in every arm).
SILENT = (
    "The paper does not give batch size, length of training, input scale or the scope of the clip;"
    " 100, pixels / 255 and the global norm are our choice; the study “pixels” has rows 1 to 3 with pixels from 0 to"
    " 255, from which plain SGD learns.",
    "The paper does not give the rate of its dropout; 0.5 on every hidden layer is our choice.",
    "The paper also tried noise of η = 1.0 and found 0.01 better; the study “eta” compares them.",
)


def _grid(rows: Sequence[Row], rates: Sequence[float] = LEARNING_RATES) -> tuple[Setting, ...]:
    """Return rows at some learning rates; the dropout arm runs in row 1 only, as in the paper."""
    return tuple(
        Setting(row, title, {"lr": lr, **values}, None if row == "1" else ("none", "noise"), name=f"lr {lr}")
        for row, title, values in rows
        for lr in rates
    )


def _table(*names: str) -> tuple[Row, ...]:
    return tuple(row for row in ROWS if row[0] in names)


@dataclass(frozen=True, kw_only=True)
class Grid(Scale):
    """A scale of Table 1.

    Args:
        settings: rows of the table at their learning rates.
        depth: hidden layers.
        batch_size: images in a minibatch.
    """

    settings: tuple[Setting, ...]
    depth: int = 20
    batch_size: int = 100


TABLE_1 = {
    "smoke": Grid(
        settings=_grid(_table("3", "6"), [0.1]),
        arms=(NONE, NOISE),
        seeds=2,
        length=20,
        eval_every=5,
        depth=4,
        batch_size=20,
        departures=("Smoke scale: 2 seeds, 20 updates of 20 images, 4 hidden layers; too short to show anything.",),
    ),
    "quick": Grid(
        settings=_grid(_table("3"), [0.15]) + _grid(_table("5"), [0.1]) + _grid(_table("6"), [0.2]),
        arms=(NONE, NOISE),
        seeds=8,
        length=3000,
        eval_every=150,
        departures=(
            "Quick scale, tuned twice until it showed the effect within minutes: it decides nothing about the paper.",
            "Quick scale: three of the six rows, 3,000 updates, 8 seeds, and one learning rate a row: 0.15, 0.1 and"
            " 0.2. A larger rate than the paper's lets the noise carry the weights to the scale at which the network"
            " learns within minutes (it moves them by lr * sigma_t an update); it is the same in both arms.",
        ),
        tests_claims=False,
    ),
    "paper": Grid(
        settings=_grid(ROWS),
        arms=(NONE, NOISE, DROPOUT),
        seeds=20,
        length=60_000,
        eval_every=600,
    ),
}


def _study(settings: tuple[Setting, ...], arms: tuple[Arm, ...]) -> dict[str, Grid]:
    """Return a study beside Table 1 at its full protocol, and as a smoke test."""
    own = {"arms": arms, "tests_claims": arms[0] is NONE}  # the published claims are about noise beside none
    return {
        "smoke": dataclasses.replace(TABLE_1["smoke"], settings=settings[-len(LEARNING_RATES) :], **own),
        "paper": dataclasses.replace(TABLE_1["paper"], settings=settings, **own),
    }


#: Rows 1 to 3 with raw pixels.
PIXELS = _study(_grid(RAW_ROWS), (NONE, NOISE))
#: Rows 1 to 6 with noise in both arms; the larger rate is the baseline.
ETA = _study(
    tuple(dataclasses.replace(s, arms=(STRONG.name, NOISE.name)) for s in _grid(ROWS) if s.row != "5-layer"),
    (STRONG, NOISE),
)
STUDIES = {"table1": TABLE_1, "pixels": PIXELS, "eta": ETA}


def build(request: Request[Grid]) -> Study:
    """Make the study of a request."""
    data = load_images(request.data)
    experiment = DeepMLPExperiment(data)
    return request.study(
        title="Very deep fully-connected networks (Table 1)",
        experiment=experiment,
        metric=dataclasses.replace(METRIC, chance=experiment.chance()),
        settings=request.scale.settings,
        base={"depth": request.scale.depth, "width": 50, "batch_size": request.scale.batch_size},
        protocol=PROTOCOL,
        silent=SILENT,
        data=data.name,
    )
