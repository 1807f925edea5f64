"""Arms, rows and scales of the study of diagonal Neural GPUs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gradnoise.paper.neural_gpu.diagonal.adamax import BoundedAdaMax
from gradnoise.paper.neural_gpu.scales import NONE, relative
from gradnoise.paper.system import Scale

# --- arms -----------------------------------------------------------------------------------------------

ARMS = (NONE, relative(1.0), relative(0.01))

# --- rows -----------------------------------------------------------------------------------------------

#: Axes of the grid and the factors of their three values; the first is the default. Of `keep` they are values.
FACTORS = {"lr": (1.0, 0.5, 2.0), "keep": (0.9, 0.85, 0.95), "init_weight": (1.0, 1 / 1.5, 1.5)}


def rate(maps: int) -> float:
    """Return the published learning rate of a network with so many maps."""
    return round(0.01 * 48 / maps, 6)


@dataclass(frozen=True)
class Bins:
    """A row of a table: which lengths are trained and tested, in one or more cells of the grid.

    Args:
        name, title: of the row.
        values: configuration.
        cells: how many of the grid's cells, that of the defaults first.
    """

    name: str
    title: str
    values: Mapping[str, Any]
    cells: int = 1

    def each(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a name and a whole configuration of every cell: "lr 0.02" of what differs from the defaults."""
        lr = rate(self.values["maps"])
        for factors in itertools.islice(itertools.product(*FACTORS.values()), self.cells):
            own = dict(zip(FACTORS, factors, strict=True))
            own["lr"], own["init_weight"] = round(lr * own["lr"], 6), round(own["init_weight"], 6)
            changed = [f"{n} {own[n]:g}" for n, factor in zip(FACTORS, factors, strict=True) if factor != FACTORS[n][0]]
            yield ", ".join(changed) or "defaults", {"optimizer": BoundedAdaMax(), **self.values, **own}


EIGHT_BITS = {
    "lengths": (5, 7, 11, 13, 17),
    "shorter": 0.0,
    "tests": (17, 81, 33),
    "samples": 256,
    "maps": 48,
    "batch_size": 16,
}
GRID = Bins("8-bits", "8 bits, tested on 16", EIGHT_BITS, cells=27)
CENTRE = Bins("8-bits", "8 bits, tested on 16", EIGHT_BITS)
FIVE_BITS = Bins(
    "5-bits",
    "5 bits, tested on 6",
    {**EIGHT_BITS, "lengths": (5, 7, 11), "tests": (11, 17, 13), "maps": 24},
)
TINY = Bins("2-bits", "2 bits, tested on 3", {"lengths": (3, 5), "shorter": 0.2, "tests": (5, 7), "samples": 8,
            "maps": 6, "batch_size": 4, "window": 2}, cells=2)  # fmt: skip

# --- scales ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Diagonal(Scale):
    """A scale of the study of diagonal Neural GPUs.

    Args:
        rows: of the table.
    """

    rows: tuple[Bins, ...]
    tests_claims: bool = False


SMALLER = (
    "Another network than Table 5's, the diagonal Neural GPU of 2017; numbers of 2, 3, 5, 6 and 8 bits instead of up to"
    " 20, 48 maps instead of 96, minibatches of 16 of each length, 2,400 updates instead of 20,000."
)
SCALES = {
    "smoke": Diagonal(
        rows=(TINY,),
        arms=ARMS,
        seeds=2,
        length=6,
        eval_every=3,
        departures=("Smoke scale: 2 seeds, 6 updates on a tiny network; too short to show anything.",),
    ),
    "half": Diagonal(
        rows=(FIVE_BITS,),
        arms=ARMS,
        seeds=40,
        length=2400,
        eval_every=600,
        departures=(
            "Scale half: another network than Table 5's, the diagonal Neural GPU of 2017, with 24 maps instead of 96;"
            " numbers of 2, 3 and 5 bits instead of up to 20, tested on 6; minibatches of 16 of each length; 2,400"
            " updates instead of 20,000; the defaults alone instead of 27 cells.",
        ),
    ),
    "centre": Diagonal(
        rows=(CENTRE,),
        arms=ARMS,
        seeds=80,
        length=2400,
        eval_every=600,
        departures=(SMALLER, "Scale centre: the defaults alone instead of 27 cells, with 80 seeds instead of 6."),
    ),
    "paper": Diagonal(rows=(GRID,), arms=ARMS, seeds=6, length=2400, eval_every=600, departures=(SMALLER,)),
}
