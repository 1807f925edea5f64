"""Arms, rows and scales of the studies: the grid of 72 configurations, ablations, and one cell to begin with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gradnoise.noise import Annealed, Fixed
from gradnoise.paper.system import Scale
from gradnoise.population import Adam
from gradnoise.study import Arm, Metric

# --- arms ---------------------------------------------------------------------------------------------

ETA = 1.0
NONE = Arm("none", title="no noise")
NOISE = Arm("noise", {"noise": Annealed(ETA)}, title="noise")
#: The paper's fixed values are read as variances.
FIXED = tuple(
    Arm(f"fixed-{v:g}", {"noise": Fixed(math.sqrt(v))}, title=f"fixed noise, variance {v:g}")
    for v in (1e-4, 1e-3, 1e-2, 1e-1)
)
WEIGHTS = tuple(
    Arm(f"weights-{eta:g}", {"weight_noise": Annealed(eta)}, title=f"noise on weights, η = {eta:g}")
    for eta in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
)
BOTH = (NONE, NOISE)

# --- metrics ------------------------------------------------------------------------------------------

SOLVED = Metric("solved", "runs that answer everything", unit="%", chance=0.0, margin=2.0, success=100.0, rate=True)
ACCURACY = Metric("accuracy", "test accuracy at the best validation", unit="%", margin=1.0, success=100.0)
FINAL = Metric("test_accuracy", "test accuracy", unit="%", margin=1.0, success=100.0)
#: Success is a loss a tenth below the plateau of delta 25 without empty pairs, 1,970.
LEAVES = Metric("train_loss", "training loss of the last epoch", margin=40.0, success=1770.0)
#: The same bound as a rate.
LEFT = Metric("left", "runs that leave the plateau", of=f"{LEAVES.name} <= {LEAVES.success:g}", chance=0.0, margin=2.0)

# --- rows ---------------------------------------------------------------------------------------------

DELTAS, LOOKUP_WEIGHTS = (10.0, 25.0, 50.0), (25.0, 50.0, 75.0, 100.0)


def point(clip: float, eps: float, delta: float, weight: float) -> dict[str, Any]:
    """Return a point of the grid: clip threshold, epsilon of Adam, delta, lambda."""
    return {"clip": clip, "optimizer": Adam(eps=eps), "delta": delta, "lookup_weight": weight}


#: Neelakantan et al. 2016: 3 x 2 x 3 x 4 = 72 configurations.
GRID = tuple(point(*values) for values in itertools.product((1.0, 5.0, 50.0), (1e-6, 1e-8), DELTAS, LOOKUP_WEIGHTS))
#: The cell that the first author's later release uses, with each delta.
CELL = tuple(point(1.0, 1e-6, delta, 50.0) for delta in DELTAS)
DROPOUT_KEEP = 0.8


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        name, title: of the row.
        values: of its configuration.
        points: of the grid, pooled in this row.
        arms: names of the arms that run; None for all.
    """

    name: str
    title: str
    values: Mapping[str, Any]
    points: tuple[Mapping[str, Any], ...] = GRID
    arms: tuple[str, ...] | None = None


SINGLE = Row("single", "single column", {"task": "single"})
SINGLE_DROPOUT = Row("single-dropout", "single column, dropout", {"task": "single", "dropout_keep": DROPOUT_KEEP})
FIVE = Row("five", "five columns", {"task": "five"})
FIVE_DROPOUT = Row("five-dropout", "five columns, dropout", {"task": "five", "dropout_keep": DROPOUT_KEEP})
TEXT = Row("text", "text entries", {"task": "text"})
TEXT_DROPOUT = Row("text-dropout", "text entries, dropout", {"task": "text", "dropout_keep": DROPOUT_KEEP})
BATCHES = tuple(
    Row(
        f"batch-{b}",
        f"single column, minibatches of {b}",
        {"task": "single", "batch_size": b},
        arms=(NONE.name, NOISE.name),
    )
    for b in (10, 25)
)
FIGURE_2 = Row("figure2", "five columns, one configuration", {"task": "five"}, points=CELL[:1])
#: The clip decides how much of the gradient is left beside the noise.
CLIPS = tuple(
    Row(f"clip-{clip:g}", f"single column, clip {clip:g}", {"task": "single"}, points=(point(clip, 1e-6, 10.0, 50.0),))
    for clip in (1.0, 50.0)
)
PAIRS = Row(
    "pairs", "single column, no empty pairs of comparisons", {"task": "single", "empty_pairs": False}, points=CELL
)
PAIRS_25 = replace(PAIRS, name="pairs-25", title="no empty pairs of comparisons, delta 25", points=CELL[1:2])
VARIANTS = (
    Row("literal", "single column", {"task": "single"}, points=CELL),
    Row("ste", "single column, straight-through pivots", {"task": "single", "pivot_grad": "ste"}, points=CELL),
    Row("full", "single column, d units in each direction", {"task": "single", "encoder": "full"}, points=CELL),
    PAIRS,
)


# --- scales -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grid(Scale):
    """A scale of a study; its length counts epochs.

    Args:
        title: what is learned, for the study's title.
        rows: of the table.
        metric: what arms are compared by.
        most: points of the grid that run, the first ones; None for all.
        shrink: what smaller networks and data change in every row.
    """

    title: str
    rows: tuple[Row, ...]
    metric: Metric
    most: int | None = None
    shrink: Mapping[str, Any] | None = None
    arms: tuple[Arm, ...] = BOTH
    seeds: int = 3
    length: int = 300


def _smoke(title: str, rows: tuple[Row, ...], metric: Metric, arms: tuple[Arm, ...] = BOTH) -> Grid:
    return Grid(
        title=title,
        rows=rows,
        metric=metric,
        most=1,
        shrink={"dim": 8, "batch_size": 10, "examples": 60, "tables": 1},
        arms=arms,
        seeds=2,
        length=2,
        departures=("Smoke scale: 2 seeds, one configuration, 8 units, 2 epochs of 60 questions; too short to show"
                    " anything.",),
        tests_claims=False,
    )  # fmt: skip


COLUMN = "one numeric column"
SECTION_4_3 = {
    "smoke": _smoke(COLUMN, (SINGLE, SINGLE_DROPOUT), SOLVED),
    "quick": Grid(
        title=COLUMN,
        rows=CLIPS,
        metric=FINAL,
        shrink={"dim": 128, "examples": 25_000},
        seeds=8,
        length=4,
        departures=(
            "Quick scale: two configurations, one with the smallest and one with the largest clip of the grid, d = 128,"
            " 4 epochs of 25,000 questions, 8 seeds; far too short for all questions, so that accuracies are compared.",
        ),
        tests_claims=False,
    ),
    "paper": Grid(title=COLUMN, rows=(SINGLE, SINGLE_DROPOUT), metric=SOLVED),
}
CELLS = (FIVE, TEXT, FIVE_DROPOUT, TEXT_DROPOUT)
TABLE_3 = {
    "smoke": _smoke("five columns, text", CELLS, ACCURACY),
    "paper": Grid(title="five columns, text", rows=CELLS, metric=ACCURACY),
}
CURVES = {
    "smoke": _smoke("five columns", (FIGURE_2,), ACCURACY),
    "paper": Grid(title="five columns", rows=(FIGURE_2,), metric=ACCURACY, seeds=5, length=270),
}
ABLATED = {
    "smoke": _smoke("ablations", (SINGLE,), SOLVED, (*BOTH, *FIXED, *WEIGHTS)),
    "paper": Grid(title="ablations", rows=(SINGLE, *BATCHES), metric=SOLVED, arms=(*BOTH, *FIXED, *WEIGHTS)),
}
FIRST_CELL = {
    "smoke": _smoke("one cell of the grid", VARIANTS, FINAL),
    "half": Grid(
        title="one cell of the grid, half the units",
        rows=VARIANTS,
        metric=FINAL,
        shrink={"dim": 128},
        length=120,
        departures=("Half scale: d = 128 instead of 256, 120 epochs instead of 300.",),
        tests_claims=False,
    ),
    "paper": Grid(title="one cell of the grid", rows=VARIANTS, metric=FINAL, tests_claims=False),
}
FRESH = (
    "The question, whether noise lowers the training loss, was put after runs of seeds 0 to 2 had been seen; the seeds"
    " here start with 3."
)
#: Declared before the run, after 4 of 14 runs with noise had left the plateau within 70 epochs, and none without.
AGAIN = (
    "Fresh seeds, 17 to 32, which nobody had seen. What is compared is how many runs end with a training loss of at"
    " most 1,770, by McNemar's exact test, two-sided, at 5 %, after all 16 pairs and not before."
)
WIDE = Grid(
    title="the plateau",
    rows=(PAIRS_25,),
    metric=LEAVES,
    seeds=10,
    first_seed=3,
    departures=(FRESH,),
    tests_claims=False,
)
PLATEAU = {
    "smoke": _smoke("the plateau", (PAIRS_25,), LEAVES),
    "half": replace(
        WIDE,
        title="the plateau, half the units",
        shrink={"dim": 128},
        length=70,
        departures=("Half scale: d = 128 instead of 256, 70 epochs instead of 300.", FRESH),
    ),
    "again": replace(
        WIDE,
        title="the plateau again, half the units",
        metric=LEFT,
        seeds=16,
        first_seed=17,
        shrink={"dim": 128},
        length=100,
        departures=("Half scale, again: d = 128 instead of 256, 100 epochs instead of 300.", AGAIN),
    ),
    "paper": WIDE,
}
STUDIES: Mapping[str, Mapping[str, Grid]] = {
    "section4.3": SECTION_4_3,
    "table3": TABLE_3,
    "figure2": CURVES,
    "ablations": ABLATED,
    "cell": FIRST_CELL,
    "plateau": PLATEAU,
}
