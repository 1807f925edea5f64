"""Every random choice of a replica, keyed by (study seed, trial seed, purpose): no choice depends on a neighbour."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

INIT, BATCHES, DROPOUT, NOISE = "init", "batches", "dropout", "noise"
WEIGHT_NOISE = "weight noise"


def derive_seed(study_seed: int, seed: int, purpose: str) -> int:
    """Return a 63-bit seed for one purpose of one trial; different purposes and trials share no stream.

    Args:
        study_seed: seed of the whole study.
        seed: seed of the trial; trials that differ in the arm alone share it, and so every choice.
        purpose: what is drawn, such as "init", "batches", "dropout", "noise".
    """
    digest = hashlib.blake2b(f"{study_seed}/{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with torch's CPU generator seeded, and put the generator back afterwards.

    Ordinary modules draw their initial weights from the global generator. This makes a user's
    constructor a function of the seed alone without touching the user's own stream.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def undrawn(device: torch.device, error: Exception) -> Iterator[None]:
    """Run a block, and raise `error` if it drew from torch's global generators; the CPU's is put back."""

    def states() -> list[Tensor]:
        return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])

    before = states()
    yield
    if not all(map(torch.equal, before, states())):
        torch.set_rng_state(before[0])
        raise error


def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """Return the order of `n` examples in one epoch: int64 [n], a pure function of its arguments."""
    generator = torch.Generator().manual_seed(derive_seed(seed, epoch, "permutation"))
    return torch.randperm(n, generator=generator)
