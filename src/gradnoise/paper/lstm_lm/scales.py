"""Arms, rows and scales of the studies: sizes and schedules of Zaremba et al. 2014, noise of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gradnoise.noise import Annealed
from gradnoise.paper.system import Scale
from gradnoise.study import Arm

#: Rate on the paths that have dropout, of the grid 0.2, 0.25, 0.3, 0.5; the paper does not give it.
DROPOUT = 0.25

NONE = Arm("none", title="no noise")
SMALL, USUAL, LARGE = 0.001, 0.01, 1.0


def dense(eta: float) -> Arm:
    """Return the arm of reading (a): noise on every coordinate, eta the variance of the first update."""
    return Arm(f"eta-{eta:g}", {"noise": Annealed(eta)}, title=f"noise, eta {eta:g}")


def present(eta: float) -> Arm:
    """Return the arm of reading (b): as (a), but an embedding gets noise only in updates that have its word."""
    values = {"noise": Annealed(eta), "noise_on": "nonzero"}
    return Arm(f"present-{eta:g}", values, title=f"noise on words present, eta {eta:g}")


def as_sd(eta: float) -> Arm:
    """Return the arm of reading (c): sigma_t = eta / (1 + t)^0.55, eta a standard deviation."""
    return Arm(f"sd-{eta:g}", {"noise": Annealed(eta**2, 1.1)}, title=f"noise, sd {eta:g}")


ARMS = (NONE, dense(SMALL), dense(USUAL), dense(LARGE))
READINGS = (NONE, *(reading(eta) for reading in (present, as_sd) for eta in (SMALL, USUAL, LARGE)))
RATES = tuple(Arm(f"p-{p:g}", {"dropout": p}, title=f"dropout {p:g}") for p in (DROPOUT, 0.2, 0.3, 0.5))

ZAREMBA = {
    "small": {"units": 200, "init": 0.1, "unroll": 20, "clip": 5.0},
    "medium": {"units": 650, "init": 0.05, "unroll": 35, "clip": 5.0, "dropout": 0.5},
    "large": {"units": 1500, "init": 0.04, "unroll": 35, "clip": 10.0, "dropout": 0.65},
}


@dataclass(frozen=True)
class Row:
    """A row of the table: a network and how long and at which rate it is trained.

    Args:
        name, title: of the row.
        short: its title where the network is smaller and the training shorter.
        values: of its configuration.
        epochs: in all, at the scale's own length; another length changes all rows in proportion.
        full: epochs at learning rate 1.
        divide: what the rate is divided by in every later epoch.
    """

    name: str
    title: str
    short: str
    values: Mapping[str, Any]
    epochs: int
    full: int
    divide: float


#: The paper's "200-unit LSTM with dropout" in the schedules of the small and the medium network, and without dropout.
MAIN = (
    Row("dropout", "200 units, dropout, 13 epochs", "dropout", {**ZAREMBA["small"], "dropout": DROPOUT}, 13, 4, 2.0),
    Row(
        "dropout-long",
        "200 units, dropout, 39 epochs",
        "dropout, longer",
        {**ZAREMBA["small"], "dropout": DROPOUT},
        39,
        6,
        1.2,
    ),
    Row("plain", "200 units, no dropout, 13 epochs", "no dropout", ZAREMBA["small"], 13, 4, 2.0),
)
SIZES = (
    Row("small", "small: 200 units, 13 epochs", "small", ZAREMBA["small"], 13, 4, 2.0),
    Row("medium", "medium: 650 units, dropout 0.5, 39 epochs", "medium", ZAREMBA["medium"], 39, 6, 1.2),
    Row("large", "large: 1500 units, dropout 0.65, 55 epochs", "large", ZAREMBA["large"], 55, 14, 1.15),
)
#: Of networks that learn the generated sentences within minutes.
TINY = {"units": 64, "dropout": 0.1}


@dataclass(frozen=True, kw_only=True)
class Grid(Scale):
    """A scale of a study of language models; its length counts epochs of its first row.

    Args:
        rows: of the table.
        shrink: what smaller networks change in the rows' values; keys that a row does not have stay out.
    """

    rows: tuple[Row, ...]
    shrink: Mapping[str, Any] = field(default_factory=dict)

    def values(self, row: Row) -> dict[str, Any]:
        """Return the configuration of a row."""
        return {**row.values, **{k: v for k, v in self.shrink.items() if k in row.values}}


def _lasting(rows: tuple[Row, ...], epochs: int, full: int) -> tuple[Row, ...]:
    return tuple(replace(r, title=r.short, epochs=epochs, full=full, divide=2.0) for r in rows)


def _smoke(rows: tuple[Row, ...], arms: tuple[Arm, ...]) -> Grid:
    return Grid(
        rows=_lasting(rows, epochs=1, full=1),
        arms=arms,
        seeds=2,
        length=1,
        data="generated",
        shrink={"units": 8, "init": 0.3},
        departures=("Smoke scale: 2 seeds, 8 units, one epoch; too short to show anything.",),
    )


def _quick(rows: tuple[Row, ...], arms: tuple[Arm, ...]) -> Grid:
    return Grid(
        rows=_lasting(rows, epochs=6, full=3),
        arms=arms,
        seeds=8,
        length=6,
        data="generated",
        shrink=TINY,
        departures=("Quick scale: 64 units, dropout 0.1, 6 epochs of which 3 at the full learning rate, 8 seeds.",),
    )


PERPLEXITIES = {
    "smoke": _smoke((MAIN[0], MAIN[2]), (NONE, dense(USUAL))),
    "quick": _quick((MAIN[0], MAIN[2]), ARMS),
    "paper": Grid(rows=MAIN, arms=ARMS, seeds=10, length=13),
}
OTHER_READINGS = {
    "smoke": replace(_smoke(MAIN[:1], (NONE, present(USUAL), as_sd(USUAL))), tests_claims=False),
    "quick": replace(_quick(MAIN[:1], READINGS), tests_claims=False),
    "paper": Grid(rows=MAIN[:1], arms=READINGS, seeds=6, length=13, tests_claims=False),
}
DROPOUT_RATES = {
    "smoke": replace(_smoke(MAIN[:1], RATES[:2]), tests_claims=False),
    "paper": Grid(rows=MAIN[:1], arms=RATES, seeds=6, length=13, tests_claims=False),
}
THREE_SIZES = {
    "smoke": replace(_smoke(SIZES, (NONE, dense(USUAL))), tests_claims=False),
    "paper": Grid(rows=SIZES, arms=(NONE, dense(USUAL)), seeds=6, length=13, tests_claims=False),
}
STUDIES = {
    "section4.6": PERPLEXITIES,
    "readings": OTHER_READINGS,
    "rates": DROPOUT_RATES,
    "sizes": THREE_SIZES,
}
