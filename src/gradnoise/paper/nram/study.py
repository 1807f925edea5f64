"""Table 4 of the paper as a study: three settings, four strengths of noise, many seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradnoise.paper.nram.experiment import NRAMExperiment
from gradnoise.population import Adam
from gradnoise.schedule import Annealed
from gradnoise.study import Arm, Claim, Metric, Setting, Study, StudyError

SOURCE = "Neelakantan et al., Table 4"

NONE = Arm("none", title="no noise")
WEAK, MIDDLE, STRONG = (
    Arm(f"eta-{eta}", {"noise": Annealed(eta)}, title=f"noise η = {eta}") for eta in (0.01, 0.3, 1.0)
)

METRIC = Metric(name="solved", title="runs at zero error", unit="%", chance=0.0, margin=2.0, success=100.0)

#: Row id, title, and what the row sets: lr, C1 (value_clip), C2 (clip), lambda_0 (entropy), b_f (stop_bias), g (gain).
ROWS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "A": ("HP-A", {"registers": 5, "lr": 1e-2, "value_clip": 10.0, "clip": 10.0, "entropy": 1e-5, "half_life": 300,
                   "stop_bias": -4.0, "gain": 3.0}),
    "B": ("HP-B", {"registers": 8, "lr": 1e-2, "value_clip": 10.0, "clip": 100.0, "entropy": 1e-3, "half_life": 1000,
                   "stop_bias": 0.0, "gain": 3.0}),
    "C": ("HP-C", {"registers": 5, "lr": 1e-2, "value_clip": None, "clip": 100.0, "entropy": 3e-3, "half_life": 3000,
                   "stop_bias": -4.0, "gain": 1.0}),
}  # fmt: skip


def _claim(id: str, row: str, arm: str, number: int, without: float, noisy: float) -> Claim:
    statement = f"Noise lets more runs reach zero error, Hyper-{number}"
    figures = {"none": {"mean": without}, arm: {"mean": noisy}}
    return Claim(id, row, statement, f"{SOURCE}, Hyper-{number}", arm, "helps", figures)


#: The paper's Table 4 (% of 100 runs at 100 % accuracy). Its settings are published nowhere; ours stand in for them.
CLAIMS = (
    _claim("C1", "A", STRONG.name, 1, 1.0, 5.0),
    _claim("C2", "B", STRONG.name, 2, 0.0, 22.0),
    _claim("C3", "C", WEAK.name, 3, 3.0, 7.0),
)

PROTOCOL = (
    ("machine", "14 modules a step, LSTM controller that sees P(register = 0) alone, learned stop"),
    ("problems", "fresh ones in every update, 50 a minibatch, gradients summed; difficulty follows the curriculum"),
    (
        "one update",
        "gradient, intermediate ones cut to ±C1; clip by global norm C2; add noise N(0, eta / (1 + t)^0.55); Adam",
    ),
    ("success", "no error on 1,000 problems of all sizes, then none on 10,000 others; the run stops there"),
    ("reported", "share of runs that reach zero error at some evaluation (“ever”)"),
    ("pairs", "same seed, same initial weights and same random numbers for the problems in every arm"),
)

SILENT = (
    "The paper publishes neither its three settings nor the search for them; HP-A, HP-B and HP-C are the best of a"
    " small search of our own and stand in for Hyper-1, Hyper-2 and Hyper-3.",
    "The paper's noise strength is 0.01 in one version and 0.3 in another, with the same table; all runs see 0.01,"
    " 0.3 and 1. Gradients are summed over the minibatch, which decides how strong that is.",
)


@dataclass(frozen=True)
class Scale:
    """How much of the protocol to run, on which task and size."""

    rows: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: int
    steps: int
    eval_every: int
    experiment: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    title: str = "ListK, size S"
    deviations: tuple[str, ...] = ()


ALL = (NONE, WEAK, MIDDLE, STRONG)
LISTS = tuple(ROWS)
SMALL = {"task": "listk", "cells": 12, "most": 4, "steps": 8}
SIZE = "Lists of up to {} nodes instead of 10 (M = {}, T = {}): the paper's size needs a GPU or many cores."

SCALES: Mapping[str, Scale] = {
    "paper": Scale(LISTS, ALL, 100, 5000, 500, SMALL, {"units": 32}, deviations=(SIZE.format(4, 12, 8),)),
    "size-m": Scale(
        LISTS,
        ALL,
        100,
        10_000,
        500,
        {"task": "listk", "cells": 16, "most": 6, "steps": 10},
        {"units": 64},
        "ListK, size M",
        (SIZE.format(6, 16, 10),),
    ),
    "size-l": Scale(
        LISTS,
        ALL,
        100,
        20_000,
        500,
        {"task": "listk", "cells": 24, "most": 10, "steps": 14},
        {"units": 64},
        "ListK, size L",
    ),
    "quick": Scale(
        ("A",),
        (NONE, STRONG),
        8,
        1500,
        100,
        {"task": "access", "cells": 8, "most": 4, "steps": 4},
        {"units": 32, "registers": 4},
        "Access",
        ("Quick scale: the task is Access, which takes minutes to learn, not ListK; 8 seeds, 1,500 updates.",),
    ),
    "smoke": Scale(
        ("A", "B"),
        (NONE, STRONG),
        2,
        6,
        3,
        {"task": "access", "cells": 5, "most": 2, "steps": 2, "batch_size": 5, "evaluated": 20, "confirmed": 20},
        {"units": 8, "registers": 2},
        "Access",
        ("Smoke scale: 2 seeds, 6 updates on a tiny machine; too short to show anything.",),
    ),
}


def nram(scale: str = "paper", data: str = "auto", seeds: int | None = None, steps: int | None = None) -> Study:
    """The study of one scale.

    - "paper": HP-A, HP-B and HP-C on ListK at size S (lists of up to 4 nodes), four strengths of noise, 100
      seeds, up to 5,000 updates: what a small machine can do of Table 4 (1,200 runs).
    - "size-m", "size-l": the same with lists of up to 6 and 10 nodes, 10,000 and 20,000 updates.
    - "quick": minutes on two cores; the task Access, which most runs learn.
    - "smoke": seconds, for tests.

    Args:
        scale: one of these.
        data: "auto"; problems are made while training.
        seeds: number of seeds; None for the scale's own.
        steps: updates per run at most; None for the scale's own.
    """
    if scale not in SCALES:
        raise StudyError(f"scale {scale!r}: allowed are {', '.join(SCALES)}")
    if data != "auto":
        raise StudyError(f"--data {data}: this system makes its problems itself; leave --data out")
    chosen = SCALES[scale]
    count = chosen.seeds if seeds is None else seeds
    if count < 1:
        raise StudyError(f"--seeds {count}: a study needs at least one seed")
    deviations = SILENT + chosen.deviations
    if steps is not None and steps != chosen.steps:
        deviations += (f"{steps:,} updates a run instead of {chosen.steps:,}.",)
    if count < chosen.seeds:
        deviations += (f"{count} seeds instead of {chosen.seeds}.",)
    listk = chosen.experiment["task"] == "listk"
    return Study(
        name="nram",
        title=f"Neural Random-Access Machines (Table 4), {chosen.title}",
        experiment=NRAMExperiment(**chosen.experiment),
        arms=chosen.arms,
        metric=METRIC,
        settings=_settings(chosen.rows, chosen.values, scale),
        seeds=tuple(range(count)),
        steps=steps or chosen.steps,
        eval_every=min(chosen.eval_every, steps or chosen.steps),
        base={"controller": "lstm", "optimizer": Adam()},
        scale=scale,
        claims=tuple(c for c in CLAIMS if listk),
        deviations=deviations,
        protocol=PROTOCOL,
    )


def _settings(rows: Sequence[str], values: Mapping[str, Any], scale: str) -> tuple[Setting, ...]:
    """One setting a row; sizes M and L need at least 6 registers."""
    found = []
    for row in rows:
        title, own = ROWS[row]
        merged = {**own, **values}
        if scale in ("size-m", "size-l"):
            merged["registers"] = max(6, own["registers"])
        found.append(Setting(row, title, merged, name=title))
    return tuple(found)
