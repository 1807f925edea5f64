"""Pairs are proved: what weights and gradients were at the first update, in both arms and under every seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradnoise.study.description import INDEPENDENT

#: Largest relative difference of gradients that only the order of summation sets apart.
ROUNDING = 1e-4

PAIRED = "Pairing of {arms} is proved: runs of one seed began with the same weights and the same first gradient"
UNSEEDED = f"The script is not seeded: runs of {{arms}} with one seed began with {{how}}, and are {INDEPENDENT}"
ARGUMENTS = (
    "Runs of {arms} with one seed began with {how}, as arguments of the arm or a lack of seeds make it: no more than"
    " the seed is shared"
)
UNSEEN = (
    "Pairing of {arms} is taken on trust: no update of a torch optimizer was seen, so that nothing shows that runs of"
    " one seed share what they should"
)
ALONE = "Pairing of {arms} is taken on trust: no run of the baseline with the same seed was there to compare with"
SAME_NUMBERS = (
    "Runs told the same numbers as those of another seed, in every arm: unless that is chance, something that draws"
    " does not heed the seed, and they count twice"
)
ALWAYS_ALIKE = (
    "Runs of other seeds began alike, or told the same numbers: the script starts the same way whatever the seed, and"
    " verdicts speak of that one start alone"
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

        Only the optimizers that both have are compared: one that starts later may not be there yet. Where one with
        noise has moved before, the first gradients of those after it may differ: the networks of a GAN see each other.
        """
        both = list(self._beside(other))
        return bool(both) and all(_alike(a, b, moved) for a, b, moved in both)

    def _beside(self, other: Beginning) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], bool]]:
        """Yield the optimizers that both have, in the order of their first steps, and whether noise came before."""
        moved = False
        for a, b in zip(self.optimizers, other.optimizers, strict=False):
            yield a, b, moved
            moved = moved or "schedule" in a or "schedule" in b

    def difference(self, other: Beginning) -> str:
        """Say how two runs that are not alike began differently."""
        for a, b, moved in self._beside(other):
            if a["shapes"] != b["shapes"]:
                return "weights of other shapes"
            if a["weights"] != b["weights"]:
                return "other weights"
            if not _alike(a, b, moved):
                return "the same weights but another first gradient (data or dropout)"
        return "another number of optimizers"

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


def _alike(a: Mapping[str, Any], b: Mapping[str, Any], moved: bool) -> bool:
    if (a["weights"], a["shapes"]) != (b["weights"], b["shapes"]):
        return False
    if moved or a["gradient"] == b["gradient"]:
        return True
    largest = max((abs(x) for x in a["samples"]), default=0.0)
    return math.isclose(a["norm"], b["norm"], rel_tol=ROUNDING) and all(
        math.isclose(x, y, rel_tol=ROUNDING, abs_tol=ROUNDING * largest)
        for x, y in zip(a["samples"], b["samples"], strict=True)
    )


@dataclass(frozen=True)
class Run:
    """A run as the proof of its pair sees it.

    Args:
        arm: its name.
        beginning: how it began.
        by_arguments: whether the arm adds arguments to the command, which may change how it begins.
    """

    arm: str
    beginning: Beginning
    by_arguments: bool


def pair_notes(baseline: str, beginning: Beginning | None, others: Sequence[Run]) -> list[str]:
    """Return what is to be said of one seed's runs, sentences without their ends; arms alike share one.

    Args:
        baseline: name of the arm.
        beginning: of its run; None where it has none.
        others: the runs of the other arms.
    """
    said: dict[str, list[str]] = {}
    for other in others:
        said.setdefault(ALONE if beginning is None else _pair_note(beginning, other), []).append(other.arm)
    return [note.replace("{arms}", f"{', '.join(arms)} and {baseline}") for note, arms in said.items()]


def _pair_note(a: Beginning, other: Run) -> str:
    b = other.beginning
    if not (a.optimizers and b.optimizers):
        return UNSEEN
    if len(a.optimizers) == len(b.optimizers) and a.alike(b):
        return PAIRED
    return (ARGUMENTS if other.by_arguments else UNSEEDED).replace("{how}", b.difference(a))


def ignores_seed(seed: int, other: int, beginning: Beginning) -> str:
    """Return what to say of a script of which runs with two seeds began alike, without its end."""
    return (
        f"the script ignores its seed: runs with seed {other} and seed {seed} began with the same weights and the same"
        f" first gradient ({beginning.sentence}), so that more seeds would tell nothing more. See to it that the seed"
        " reaches the script's generators, as in torch.manual_seed(seed); or say --no-seed if that cannot be"
    )
