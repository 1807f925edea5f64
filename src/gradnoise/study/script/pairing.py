"""Pairs are proved: what weights and gradients were at the first update, in both arms and under every seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Largest relative difference of gradients that only the order of summation sets apart.
ROUNDING = 1e-4

PAIRED = "Pairing is proved: both runs of a pair began with the same weights and the same first gradient"
UNSEEDED = (
    "The script is not seeded: runs of one seed began with other weights or another first gradient, so that the arms"
    " are compared as independent runs, and pairing takes no chance out of the comparison"
)
ARGUMENTS = (
    "Runs of one seed began differently, as the arms' arguments or the seeding have it: no more than the seed is shared"
)
UNSEEN = (
    "Pairing is taken on trust: no update of a torch optimizer was seen, so that nothing shows that runs of a seed"
    " share what they should"
)


@dataclass(frozen=True)
class Beginning:
    """The first update of each optimizer of a run, in the order of their first updates.

    Args:
        optimizers: what the hook wrote down of each.
    """

    optimizers: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> Beginning:
        """Return what the hook's records say."""
        return cls(tuple(r for r in records if "weights" in r))

    def alike(self, other: Beginning) -> bool:
        """Tell whether two runs began with the same weights and, but for rounding, the same gradients.

        Only the optimizers that both have are compared: one that starts later may not be there yet.
        """
        both = list(zip(self.optimizers, other.optimizers, strict=False))
        return bool(both) and all(_alike(a, b) for a, b in both)

    @property
    def sentence(self) -> str:
        """What a person is shown of the first optimizer."""
        if not self.optimizers:
            return "no update of a torch optimizer was seen"
        first = self.optimizers[0]
        noise, norm = "", first["norm"]
        if "schedule" in first:
            noise = f", noise {first['schedule']}"
        if first.get("sigma", 0.0) > 0.0:
            times = first["sigma"] * math.sqrt(first["elements"]) / norm if norm else math.inf
            noise += f" of {times:.2g} times that"
        hashes = f"weights {first['weights'][:8]}, gradient {first['gradient'][:8]}"
        return f"{first['kind']}, {hashes} of norm {norm:.4g}{noise}"


def _alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    if (a["weights"], a["shapes"]) != (b["weights"], b["shapes"]):
        return False
    if a["gradient"] == b["gradient"]:
        return True
    largest = max((abs(x) for x in a["samples"]), default=0.0)
    return math.isclose(a["norm"], b["norm"], rel_tol=ROUNDING) and all(
        math.isclose(x, y, rel_tol=ROUNDING, abs_tol=ROUNDING * largest)
        for x, y in zip(a["samples"], b["samples"], strict=True)
    )


def pair_note(beginnings: Sequence[Beginning], by_arguments: Sequence[bool]) -> str:
    """Return what is to be said of one seed's runs, in a sentence without its end.

    Args:
        beginnings: of the runs, the baseline's first.
        by_arguments: whether each adds arguments to the command, which may change how it begins.
    """
    baseline, *others = beginnings
    if not all(b.optimizers for b in beginnings):
        return UNSEEN
    differ = [by_arguments[0] or own for b, own in zip(others, by_arguments[1:], strict=True) if not b.alike(baseline)]
    if not differ:
        return PAIRED
    return ARGUMENTS if all(differ) else UNSEEDED
