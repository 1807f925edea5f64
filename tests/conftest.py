"""What all tests share: one math thread, so that they are quick beside others and sum in one order."""

import multiprocessing

import hypothesis
import pytest
import torch

from gradnoise.noise.gaussian import word_rows

# A busy machine must not fail a test: hypothesis would otherwise give every example 200 ms.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

#: What processes of a fork server find imported; a test worker has one such server for all its tests.
PRELOAD = [
    "gradnoise.noise.gaussian.numba_backend",
    "gradnoise.paper.deep_mlp",
    "gradnoise.paper.memory_network",
    "gradnoise.paper.nram",
    "gradnoise.study",
    "torch._dynamo",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "torch.distributed.optim",
    "torch.distributed.tensor.parallel",
]
multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)


@pytest.fixture(autouse=True, scope="session")
def one_math_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def compiled_noise():
    """Have Numba draw from the first update on: without this, tests that are quick would see torch alone."""
    word_rows([0], 0, 1)
