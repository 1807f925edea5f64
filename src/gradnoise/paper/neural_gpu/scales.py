"""Arms, rows and scales of the studies of Neural GPUs: the grid of Table 5, doses of noise, short numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gradnoise.noise import Annealed, Relative
from gradnoise.paper.neural_gpu.config import EARLY, MARCH, PROFILES, Profile
from gradnoise.paper.system import Scale
from gradnoise.study import Arm

#: N of the published network with the copies of its weights.
PARAMETERS = 188_260

# --- arms -----------------------------------------------------------------------------------------------

NONE = Arm("none", title="no noise")


def literal(eta: float) -> Arm:
    """Return the arm of the paper's words: noise of variance eta / (1 + t)^0.55 on every coordinate after the clip."""
    return Arm(f"eta-{eta:g}", {"noise": Annealed(eta)}, title=f"noise, η = {eta:g}")


def as_strong_as_the_clip(profile: Profile) -> Arm:
    """Return the arm whose noise has, in the first update, the norm of a clipped gradient."""
    return Arm("clip", {"noise": Annealed(profile.clip**2 / PARAMETERS)}, title="noise as strong as the clip")


def relative(eta: float) -> Arm:
    """Return the arm whose noise has sqrt(eta / (1 + t)^0.55) times the norm of the gradient."""
    noise = Relative(round(eta**0.5, 6))
    return Arm(f"relative-{eta:g}", {"noise": noise}, title=f"noise relative to the gradient, η = {eta:g}")


def gated(gate: str) -> Arm:
    """Return the arm of noise with eta = 1 whose strength hangs on the error of the last window, see `GATES`."""
    values: dict[str, Any] = {"noise": Annealed(1.0), "gate": gate}
    if gate == "early":  # as the program of January: not on the embedding
        values["noise_on"] = ("!embedding",)
    return Arm(f"gate-{gate}", values, title=f"noise, η = 1, gate {gate}")


LITERAL = literal(1.0)
TABLE_5_ARMS = (NONE, LITERAL)
DOSES = (NONE, *(literal(eta) for eta in (1.0, 1e-2, 1e-4, 1e-6, 1e-8)))
RELATIVE = tuple(relative(eta) for eta in (1.0, 1e-2, 1e-4))
SHORT = (NONE, LITERAL, as_strong_as_the_clip(MARCH))

# --- rows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of a table, with one or more cells of a grid.

    Args:
        name, title: of the row.
        profile: a key of `PROFILES`.
        values: configuration, over what the profile says.
        cells: (name, values) of each cell.
        steps, eval_every: updates, and updates between evaluations; None for the scale's.
    """

    name: str
    title: str
    profile: str
    values: Mapping[str, Any]
    cells: tuple[tuple[str, Mapping[str, Any]], ...] = (("", {}),)
    steps: int | None = None
    eval_every: int | None = None


#: Axes of the grid and the factors of their three values, of the pull's growth its exponents; the first value is the
#: program's default. They are the authors' axes with their factors where these are known, but for the sixth: the
#: noise's strength is not searched here, and the clip is in its place.
FACTORS = {
    "lr": (1.0, 0.5, 2.0),
    "init_weight": (1.0, 1 / 1.5, 1.5),
    "pull_factor": (1.0, 0.5, 2.0),
    "bound": (1.0, 1 / 1.5, 1.5),
    "state_dropout": (1.0, 1 / 1.5, 1.5),
    "clip": (1.0, 0.5, 2.0),
}


def grid(profile: Profile) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the 3^6 cells, that of the defaults first: a name such as "lr 0.002" of what differs, and all values."""
    defaults = {"init_weight": 1.0, "pull_factor": 1.2} | {
        name: getattr(profile, name) for name in ("lr", "bound", "state_dropout", "clip")
    }
    for factors in itertools.product(*FACTORS.values()):
        values = {}
        for (name, default), factor in zip(((n, defaults[n]) for n in FACTORS), factors, strict=True):
            value = default**factor if name == "pull_factor" else default * factor
            values[name] = round(value, 6)
        changed = [f"{n} {x:g}" for (n, x), factor in zip(values.items(), factors, strict=True) if factor != 1]
        yield ", ".join(changed) or "defaults", values


def _cells(profile: Profile, changed: int) -> tuple[tuple[str, dict[str, float]], ...]:
    """Return the cells in which at most so many axes are changed."""
    return tuple((n, v) for n, v in grid(profile) if n == "defaults" or n.count(",") < changed)


TESTED = {"longest": 41, "tests": (41, 401), "samples": 256}
MULTIPLY = Row("bmul", "20 bits, tested on 200", "early", TESTED, _cells(EARLY, changed=6))
COPY = Row(
    "copy",
    "copy 9 bits, tested on 18",
    "march",
    {"task": "id", "longest": 9, "tests": (9, 18), "samples": 64, "batch_size": 16, "window": 50, "pull_factor": 1.6},
    steps=300,
    eval_every=50,
)
THREE_BITS = Row(
    "3-bits",
    "multiply 3 bits",
    "march",
    {"longest": 7, "begin": 5, "tests": (7,), "samples": 64, "batch_size": 16, "window": 50, "pull_factor": 1.6},
)
FOUR_BITS = Row(
    "4-bits",
    "multiply 4 bits",
    "march",
    {"longest": 9, "tests": (11, 13, 17, 9), "samples": 256, "batch_size": 16, "window": 50, "pull_factor": 1.6},
)
TINY = {"maps": 4, "height": 2, "sets": 2, "batch_size": 4, "window": 2, "longest": 9, "samples": 8}


def _tiny(row: Row, **values: Any) -> Row:
    tests = tuple(n for n in row.values["tests"] if n < 20) or (9, 17)
    return replace(row, values={**row.values, **TINY, "tests": tests, **values}, cells=row.cells[:2], steps=None)


# --- scales ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grid(Scale):
    """A scale of a study of Neural GPUs.

    Args:
        rows: of the table.
    """

    rows: tuple[Row, ...]


def _smoke(rows: tuple[Row, ...], arms: tuple[Arm, ...]) -> Grid:
    return Grid(
        rows=rows,
        arms=arms,
        seeds=2,
        length=6,
        eval_every=3,
        departures=("Smoke scale: 2 seeds, 6 updates on a tiny network; too short to show anything.",),
        tests_claims=False,
    )


FULL = Grid(rows=(MULTIPLY,), arms=TABLE_5_ARMS, seeds=10, length=40_000, eval_every=10_000)
TABLE_5 = {
    "smoke": _smoke((_tiny(MULTIPLY),), TABLE_5_ARMS),
    "quick": Grid(
        rows=(COPY, THREE_BITS),
        arms=SHORT,
        seeds=8,
        length=700,
        eval_every=100,
        departures=(
            "Quick scale: copying 9 bits, and multiplying 3 bits, in the profile of March, with minibatches of 16 and"
            " windows of 50 updates; 8 seeds, short runs.",
        ),
        tests_claims=False,
    ),
    "centre": replace(
        FULL,
        rows=(replace(MULTIPLY, cells=_cells(EARLY, changed=0)),),
        seeds=100,
        departures=("Scale centre: the defaults alone instead of 729 cells, with 100 seeds instead of 10.",),
    ),
    "axes": replace(
        FULL,
        rows=(replace(MULTIPLY, cells=_cells(EARLY, changed=1)),),
        departures=("Scale axes: 13 cells of the grid, the defaults and what differs from them in one axis.",),
    ),
    "paper": FULL,
}
#: The same noise a hundred, a thousand and ten thousand times weaker, in both profiles.
STRENGTHS = {
    "smoke": _smoke(tuple(_tiny(replace(FOUR_BITS, name=p, profile=p)) for p in PROFILES), (NONE, LITERAL)),
    "paper": Grid(
        rows=tuple(
            Row(name, f"profile {name}, 10 bits, tested on 100", name,
                {"longest": 21, "tests": (21, 41, 81, 201), "samples": 256, "pull_factor": 1.4})
            for name in PROFILES
        ),
        arms=DOSES,
        seeds=20,
        length=15_000,
        eval_every=1000,
        departures=("Numbers of up to 10 bits instead of 20, tested on 100; 15,000 updates.",),
        tests_claims=False,
    ),
}  # fmt: skip
STRENGTHS["relative"] = replace(
    STRENGTHS["paper"],
    arms=(NONE, *RELATIVE),
    departures=(
        *STRENGTHS["paper"].departures,
        "Scale relative: noise relative to the norm of the clipped gradient instead of equal on every coordinate.",
    ),
)
#: Small enough for a few hours of two cores.
SHORT_NUMBERS = {
    "smoke": _smoke((_tiny(FOUR_BITS),), SHORT),
    "paper": Grid(
        rows=(FOUR_BITS,),
        arms=SHORT,
        seeds=40,
        length=3800,
        eval_every=475,
        departures=(
            "Numbers of 4 bits instead of 20; minibatches of 16, 3,800 updates. Judged is what a run has learned: the"
            " 256 products of 4 bits occur in training, too. Numbers of 5, 6 and 8 bits stand beside.",
        ),
        tests_claims=False,
    ),
}
SHORT_NUMBERS["gates"] = replace(
    SHORT_NUMBERS["paper"],
    arms=(NONE, LITERAL, gated("linear"), gated("code"), gated("early"), *RELATIVE[:2]),
    departures=(
        *SHORT_NUMBERS["paper"].departures,
        "Scale gates: noise whose strength hangs on the error, and noise relative to the norm of the clipped gradient,"
        " beside the paper's.",
    ),
)
STUDIES = {"table5": TABLE_5, "doses": STRENGTHS, "short": SHORT_NUMBERS}
