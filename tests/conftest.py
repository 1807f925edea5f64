"""What all tests share: one math thread, so that they are quick beside others and sum in one order."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_math_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
