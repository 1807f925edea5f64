"""Rows that are scaled and get noise in one pass: the bits of two passes, whatever the backend."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.streams import same_bits

from gradnoise.noise.gaussian import add_rows_, reference, threads


@given(data=st.data())
def test_one_pass_equals_two(data):
    rows, gap = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 3))
    lengths = data.draw(st.lists(st.one_of(st.integers(0, 9), st.integers(0, 1500)), min_size=1, max_size=4))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    numbers = st.sampled_from([1.0, 0.0, 0.37, -2.5, 1e-30, math.inf])
    scale = torch.tensor(data.draw(st.lists(numbers, min_size=rows, max_size=rows)), dtype=dtype)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    offsets, n = np.cumsum([0, *lengths]), sum(lengths)
    arguments = {
        "offsets": offsets,
        "keys": rng.integers(0, 2**64, (rows, len(lengths)), dtype=np.uint64),
        "t": rng.integers(0, 2**63, rows).astype(np.uint64),
        "sigma": rng.choice([0.0, 1e-50, 1e-3, 1.0, 30.0], rows),
    }
    memory = torch.from_numpy(rng.normal(size=rows * (n + gap))).to(dtype)
    one, two, slow = (memory.clone() for _ in range(3))
    view = (rows, n), (n + gap, 1)
    add_rows_(one.as_strided(*view), **arguments, scale=scale)
    two.as_strided(*view).mul_(scale[:, None])
    add_rows_(two.as_strided(*view), **arguments)
    keys, t = (torch.from_numpy(arguments[name].view(np.int64)) for name in ("keys", "t"))
    sigma = torch.from_numpy(arguments["sigma"])
    reference.add_rows_(slow.as_strided(*view), offsets, keys, t, sigma, scale)
    assert same_bits(one, two) and same_bits(one, slow)


def test_scale_1_and_sigma_0_leave_every_bit():
    x = torch.tensor([[-0.0, math.nan, math.inf, 1e-45]] * 3)
    before = x.clone()
    scale = torch.tensor([1.0, 2.0, 1.0])
    add_rows_(x, offsets=[0, 4], keys=[[1], [2], [3]], t=[0] * 3, sigma=[0.0, 0.0, 1.0], scale=scale)
    assert same_bits(x[0], before[0]) and same_bits(x[1], 2 * before[1])
    assert not torch.equal(x[2], before[2])


def test_a_zero_keeps_its_sign_when_it_is_scaled():
    x = torch.full((1, 5), -0.0)
    add_rows_(x, offsets=[0, 5], keys=[[1]], t=[0], sigma=[0.0], scale=torch.tensor([0.5]))
    assert x.signbit().all()


@pytest.mark.parametrize("chunk", [1999, 333, 61])
def test_threads_change_no_bit(chunk, monkeypatch):
    arguments = {
        "offsets": [0, 1, 1203, 2000],
        "keys": np.arange(9, dtype=np.uint64).reshape(3, 3),
        "t": [1, 2, 3],
        "sigma": [1.0, 0.0, 2.0],
        "scale": torch.tensor([0.5, 0.3, 1.0]),
    }
    x = torch.linspace(-1, 1, 6000).view(3, 2000)
    whole = x.clone()
    add_rows_(whole, **arguments)
    monkeypatch.setattr(threads, "CHUNK", chunk)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    add_rows_(x, **arguments)
    assert torch.equal(x, whole)


@pytest.mark.parametrize(
    "scale", [torch.ones(3), torch.ones(2, 1), torch.ones(2, dtype=torch.float64), torch.ones(2, device="meta")]
)
def test_a_scale_of_another_shape_or_kind_is_refused(scale):
    x = torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"scale must be torch.float32 of shape \[2\] on cpu, as x is, got"):
        add_rows_(x, offsets=[0, 4], keys=[[1], [2]], t=[0, 0], sigma=[1.0, 1.0], scale=scale)
    assert x.count_nonzero() == 0
