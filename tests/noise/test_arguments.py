"""What the functions of the streams refuse, each with a sentence that says why; and the forms in which t may come."""

import math

import numpy as np
import pytest
import torch

from gradnoise.noise.gaussian import add_, add_rows_, bernoulli_rows_, normal, word_rows

GOOD = {"offsets": [0, 2, 4], "keys": [[1, 2], [3, 4]], "t": [0, 1], "sigma": [1.0, 1.0]}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"offsets": [0, 2, 5]}, "offsets must rise from 0 to 4"),
        ({"offsets": [0, 3, 2, 4]}, "offsets must rise"),
        ({"offsets": []}, "offsets must have shape"),
        ({"keys": [[1, 2]]}, r"keys must have shape \[2, 2\], got \[1, 2\]"),
        ({"keys": [[1, 2], [3, -4]]}, "keys must not be negative, got -4"),
        ({"keys": [[1, 2], [3, 0.5]]}, "keys must be integers"),
        ({"t": [0, -1]}, "t must not be negative, got -1"),
        ({"t": torch.ones(2)}, "t must be integers"),
        ({"sigma": [1.0, -0.5]}, "sigma must be finite and >= 0, got -0.5"),
        ({"sigma": [math.nan, 1.0]}, "sigma must be finite and >= 0, got nan"),
    ],
)
def test_bad_arguments_are_named(change, message):
    x = torch.zeros(2, 4)
    with pytest.raises(ValueError, match=message):
        add_rows_(x, **(GOOD | change))
    assert x.count_nonzero() == 0


@pytest.mark.parametrize(
    "x, message",
    [
        (torch.zeros(4, 2).t(), "rows of x must be contiguous"),
        (torch.zeros(4).expand(2, 4), "must not overlap"),
        (torch.zeros(2, 4, dtype=torch.bfloat16), "matrix of float32 or float64, got torch.bfloat16"),
        (torch.zeros(8), "must be a matrix"),
    ],
)
def test_unusable_matrices_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        add_rows_(x, **GOOD)


def test_tensor_arguments_are_checked():
    with pytest.raises(ValueError, match="got 1 tensors and 2 keys"):
        add_([torch.zeros(2)], keys=[1, 2], t=0, sigma=1.0)
    with pytest.raises(ValueError, match="noise goes onto real floating-point tensors"):
        add_([torch.zeros(2, dtype=torch.int64)], keys=[1], t=0, sigma=1.0)
    with pytest.raises(ValueError, match="t must be an integer >= 0, got -1"):
        normal(0, -1, 3)


@pytest.mark.parametrize("t", [7, np.int64(7), np.array(7), torch.tensor(7), torch.tensor([7, 7]), [7, 7]])
def test_one_step_stands_for_all_rows(t):
    x, y, masks, other = (torch.zeros(2, 9) for _ in range(4))
    keys = [[1], [2]]
    add_rows_(x, offsets=[0, 9], keys=keys, t=t, sigma=[1.0, 2.0])
    add_rows_(y, offsets=[0, 9], keys=keys, t=np.array([7, 7]), sigma=[1.0, 2.0])
    bernoulli_rows_(masks, keys=[1, 2], t=t, keep=[0.5, 0.5])
    bernoulli_rows_(other, keys=[1, 2], t=np.array([7, 7]), keep=[0.5, 0.5])
    assert torch.equal(x, y) and torch.equal(masks, other)
    assert torch.equal(word_rows([1, 2], t, 9), word_rows([1, 2], 7, 9))


def test_keys_are_never_shared_silently():
    with pytest.raises(ValueError, match=r"keys must have shape \[2\], got \[\]"):
        bernoulli_rows_(torch.zeros(2, 4), keys=torch.tensor(5), t=0, keep=[0.5, 0.5])
