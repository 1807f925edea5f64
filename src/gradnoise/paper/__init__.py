"""The six systems of the paper, each a model, a task and a study, built on the public interface alone."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from gradnoise.paper.deep_mlp import CLAIMS as DEEP_MLP_CLAIMS
from gradnoise.paper.deep_mlp import deep_mlp, mechanism
from gradnoise.paper.memory_network import CLAIMS as MEMORY_NETWORK_CLAIMS
from gradnoise.paper.memory_network import calibration, memory_network
from gradnoise.paper.nram import CLAIMS as NRAM_CLAIMS
from gradnoise.paper.nram import learning, nram
from gradnoise.study import Claim, Study, StudyError, StudyResults
from gradnoise.study.report import Extra


@dataclass(frozen=True)
class System:
    """One system of the paper.

    Args:
        name: on the command line.
        title: what it is.
        study: (scale, data, seeds, steps) -> study; None for the scale's own numbers.
        scales: scales that it has.
        claims: published figures that it tests.
        results: folder of the committed results, below `results/`.
        figures: further figures and tables for the report.
    """

    name: str
    title: str
    study: Callable[[str, str, int | None, int | None], Study]
    claims: tuple[Claim, ...]
    results: str
    figures: Callable[[StudyResults], Extra] = lambda _: ()
    scales: tuple[str, ...] = ("smoke", "quick", "paper")


SYSTEMS = {
    s.name: s
    for s in (
        System("deep-mlp", "20-layer MLP on MNIST (Table 1)", deep_mlp, DEEP_MLP_CLAIMS, "deep_mlp", mechanism),
        System(
            "memn2n",
            "End-to-end memory network on bAbI (Table 2)",
            memory_network,
            MEMORY_NETWORK_CLAIMS,
            "memn2n",
            calibration,
        ),
        System(
            "nram",
            "Neural Random-Access Machine on linked lists (Table 4)",
            nram,
            NRAM_CLAIMS,
            "nram",
            learning,
            scales=("smoke", "quick", "paper", "ablations", "size-m", "size-l"),
        ),
    )
}


def system(name: str) -> System:
    """A system by name; an unknown name gets the nearest one as a hint."""
    if name in SYSTEMS:
        return SYSTEMS[name]
    near = difflib.get_close_matches(name, SYSTEMS, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise StudyError(f"no experiment {name!r}: there are {', '.join(SYSTEMS)}{hint}")
