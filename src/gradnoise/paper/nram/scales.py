"""The grid of the NRAM studies: three settings, strengths of noise, ablations, sizes of problems."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gradnoise.noise import Annealed, Fixed
from gradnoise.paper.system import Scale
from gradnoise.study import Arm

# --- arms ---------------------------------------------------------------------------------------------

NONE = Arm("none", title="no noise")
WEAK, MIDDLE, STRONG = (
    Arm(f"eta-{eta}", {"noise": Annealed(eta)}, title=f"noise η = {eta}") for eta in (0.01, 0.3, 1.0)
)
DOSES = (NONE, WEAK, MIDDLE, STRONG)

#: Ablations (a) to (d) of docs/nram.md: noise that does not fade, minibatches, noise on the weights, noise before
#: the clip of the norm. The paper's fixed levels are read as variances; `fixed-sd` is the other reading of one of them.
FIXED = tuple(
    Arm(f"fixed-{v:g}", {"noise": Fixed(math.sqrt(v))}, title=f"fixed noise, variance {v:g}")
    for v in (1e-4, 4e-4, 1.6e-3, 6.3e-3, 2.5e-2, 0.1)
)
FIXED_SD = Arm("fixed-sd", {"noise": Fixed(0.0016)}, title="fixed noise, sd 0.0016")
BATCHES = tuple(Arm(f"batch-{b}", {"batch_size": b}, title=f"no noise, B = {b}") for b in (10, 25))
WEIGHTS = tuple(
    Arm(f"weights-{eta:g}", {"weight_noise": Annealed(eta)}, title=f"noise on weights, η = {eta:g}")
    for eta in (1e-6, 1e-4, 1e-2)
)
FIRST = Arm("before-clip", {**STRONG.values, "noise_first": True}, title="noise η = 1.0 before the clip")
ABLATIONS = (*FIXED, FIXED_SD, *BATCHES, *WEIGHTS, FIRST)
PLAIN = (NONE.name, STRONG.name)

# --- rows ---------------------------------------------------------------------------------------------

#: lr, C1 (value_clip), C2 (clip), lambda_0 (entropy), b_f (stop_bias), g (gain): the best of a small search.
HYPER: Mapping[str, dict[str, Any]] = {
    "A": {"registers": 5, "lr": 1e-2, "value_clip": 10.0, "clip": 10.0, "entropy": 1e-5, "half_life": 300,
          "stop_bias": -4.0, "gain": 3.0},
    "B": {"registers": 8, "lr": 1e-2, "value_clip": 10.0, "clip": 100.0, "entropy": 1e-3, "half_life": 1000,
          "stop_bias": 0.0, "gain": 3.0},
    "C": {"registers": 5, "lr": 1e-2, "value_clip": None, "clip": 100.0, "entropy": 3e-3, "half_life": 3000,
          "stop_bias": -4.0, "gain": 1.0},
}  # fmt: skip

#: Arguments of `Lesson.of`.
SIZE_S = {"task": "listk", "cells": 12, "most": 4, "steps": 8}
SIZE_M = {"task": "listk", "cells": 16, "most": 6, "steps": 10}
SIZE_L = {"task": "listk", "cells": 24, "most": 10, "steps": 14}
PAIRS = {"task": "listk", "cells": 8, "most": 2, "steps": 5}
ACCESS = {"task": "access", "cells": 8, "most": 4, "steps": 4}
TINY = {"task": "access", "cells": 5, "most": 2, "steps": 2, "evaluated": 20, "confirmed": 20}
TINY_MACHINE = {"units": 8, "registers": 2, "batch_size": 5}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        id, title: of the row.
        lesson: what is learned, arguments of `Lesson.of`.
        values: configuration.
        arms: names of the arms that run; None for all.
        steps, eval_every: updates, and updates between evaluations; None for the scale's.
    """

    id: str
    title: str
    lesson: Mapping[str, Any]
    values: Mapping[str, Any]
    arms: tuple[str, ...] | None = None
    steps: int | None = None
    eval_every: int | None = None


def settings(lesson: Mapping[str, Any], names: str = "ABC", **values: Any) -> Iterator[Row]:
    """Make HP-A, HP-B and HP-C on one lesson, with some values changed; sizes M and L need 6 registers."""
    least = 6 if lesson in (SIZE_M, SIZE_L) else 0
    for name in names:
        own = HYPER[name]
        enough = {"registers": max(least, own["registers"])}
        yield Row(name, f"HP-{name}", lesson, {**own, **enough, **values})


def variant(
    suffix: str, title: str, names: str = "ABC", lesson: Mapping[str, Any] = SIZE_S, **values: Any
) -> Iterator[Row]:
    """Make the settings on one lesson with and without noise, with some values changed."""
    for row in settings(lesson, names, **{"units": 32, **values}):
        yield Row(f"{row.id}-{suffix}", f"{row.title}, {title}", row.lesson, row.values, PLAIN)


# --- scales -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grid(Scale):
    """A scale of a study of Table 4.

    Args:
        title: what is learned, for the study's title.
        rows: of the table.
    """

    title: str
    rows: tuple[Row, ...]
    arms: tuple[Arm, ...] = DOSES
    seeds: int = 100
    length: int = 5000
    eval_every: int | None = 500


SMALLER = "Lists of up to {} nodes instead of 10 (M = {}, T = {}): the paper's size needs a GPU or many cores."

#: HP-A, HP-B and HP-C, four strengths of noise, up to 5,000 updates: what a small machine can do of Table 4.
TABLE_4 = {
    "smoke": Grid(
        title="Access",
        rows=tuple(settings(TINY, "AB", **TINY_MACHINE)),
        arms=(NONE, STRONG),
        seeds=2,
        length=6,
        eval_every=3,
        departures=("Smoke scale: 2 seeds, 6 updates on a tiny machine; too short to show anything.",),
        tests_claims=False,
    ),
    "quick": Grid(
        title="Access, and lists of two nodes",
        rows=(
            Row("access", "Access", ACCESS, {**HYPER["A"], "units": 32}, steps=400, eval_every=10),
            Row("pairs", "ListK, up to 2 nodes", PAIRS, {**HYPER["A"], "units": 32}),
        ),
        seeds=8,
        length=2500,
        eval_every=50,
        departures=("Quick scale: Access, and lists of up to two nodes instead of ten; 8 seeds, short runs.",),
    ),
    "paper": Grid(
        title="ListK, size S",
        rows=tuple(settings(SIZE_S, units=32)),
        departures=(SMALLER.format(4, 12, 8),),
    ),
}

#: The same on longer lists.
SIZES = {
    "size-m": {
        "paper": Grid(
            title="ListK, size M",
            rows=tuple(settings(SIZE_M, units=64)),
            length=10_000,
            departures=(SMALLER.format(6, 16, 10),),
        )
    },
    "size-l": {"paper": Grid(title="ListK, size L", rows=tuple(settings(SIZE_L, units=64)), length=20_000)},
}

#: (a) to (f) of docs/nram.md, and runs that go on to the end.
ABLATED = {
    "smoke": Grid(
        title="ablations on Access",
        rows=(
            *settings(TINY, "AB", **TINY_MACHINE),
            *variant("values-free", "C1 off", "A", TINY, **TINY_MACHINE, value_clip=None),
            *variant("no-curriculum", "no curriculum", "A", TINY, **TINY_MACHINE, curriculum=False),
            *variant("to-the-end", "trained to the end", "A", TINY, **TINY_MACHINE, early_stop=False),
        ),
        arms=(NONE, STRONG, *ABLATIONS),
        seeds=1,
        length=6,
        eval_every=3,
        departures=("Smoke scale: one seed, 6 updates on a tiny machine; too short to show anything.",),
        tests_claims=False,
    ),
    "paper": Grid(
        title="ablations on ListK, size S",
        rows=(
            *settings(SIZE_S, units=32),
            *variant("values-free", "C1 off", "AB", value_clip=None),  # (e); HP-C has none anyway
            *variant("no-curriculum", "no curriculum", curriculum=False),  # (f)
            *variant("to-the-end", "trained to the end", early_stop=False),
        ),
        arms=(NONE, STRONG, *ABLATIONS),
        seeds=20,
        departures=(
            SMALLER.format(4, 12, 8),
            "20 seeds where the paper has 180 runs for fixed noise and 100 for each size of minibatch.",
        ),
    ),
}

STUDIES: Mapping[str, Mapping[str, Grid]] = {"table4": TABLE_4, "ablations": ABLATED, **SIZES}
