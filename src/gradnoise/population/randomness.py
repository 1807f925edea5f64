"""Every random choice of a replica, keyed by (study seed, trial seed, purpose): no choice depends on a neighbour."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

INIT, BATCHES, DROPOUT, NOISE = "init", "batches", "dropout", "noise"
WEIGHT_NOISE = "weight noise"
#: Random numbers that a model or loss draws while it is trained, and while it is evaluated.
LOSS_DRAWS, EVALUATION_DRAWS = "draws of the loss", "draws of the evaluation"


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
def kept_generators() -> Iterator[None]:
    """Run a block, and put the global generators of torch (on the CPU), numpy and Python back as they were."""
    numpy, python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            np.random.set_state(numpy)
            random.setstate(python)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with the global generators of torch (on the CPU), numpy and Python seeded, and put them back.

    Ordinary modules draw their initial weights from a global generator. This makes a user's
    constructor a function of the seed alone without touching the user's own stream.
    """
    with kept_generators():
        _seed_torch(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield


def _seed_torch(seed: int) -> None:
    """Seed torch's generators; `torch.manual_seed` takes most of its time to prepare for devices that come later."""
    accelerator = getattr(torch, "accelerator", None)  # torch 2.6 and newer tell of a device of any kind
    if accelerator is None or accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def seeded_for(key: int, t: int, device: torch.device) -> Iterator[Callable[[], bool]]:
    """Run a block of update t with the global generators seeded by a replica's key, and put them back afterwards.

    Yields:
        What says after the block whether it drew from torch's generators.
    """

    def states() -> list[bytes]:
        mine = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
        return [x.numpy().tobytes() for x in mine]

    after: list[bytes] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), seeded(derive_seed(key, t, "draws")):
        before = states()
        yield lambda: before != after
        after += states()


def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """Return the order of `n` examples in one epoch: int64 [n], a pure function of its arguments."""
    generator = torch.Generator().manual_seed(derive_seed(seed, epoch, "permutation"))
    return torch.randperm(n, generator=generator)
