"""What tests of several frameworks share."""

import os
from unittest import mock

import pytest
import torch


@pytest.fixture
def process_group():
    """Take back what Lightning leaves behind in the process."""
    with mock.patch.dict(os.environ):
        yield
    torch.distributed.destroy_process_group()
