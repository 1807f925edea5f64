"""Where a block of a tensor lies in the whole, against brute force."""

import functools
import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnoise.noise.gradients import runs


@st.composite
def boxes(draw):
    """Draw the shape of a whole, and for each dimension a range of indices."""
    whole = tuple(draw(st.lists(st.integers(0, 5), min_size=0, max_size=4)))
    limits = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in whole]
    return whole, [torch.arange(low, high) for low, high in limits]


@st.composite
def blocks(draw):
    """Draw the shape of a whole, and for each dimension any of its indices."""
    whole = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    chosen = [sorted(draw(st.sets(st.integers(0, n - 1)))) for n in whole]
    return whole, [torch.tensor(c, dtype=torch.int64) for c in chosen]


def places(whole, indices):
    """Number the whole's elements, and take the block's: brute force."""
    numbers = torch.arange(math.prod(whole)).view(whole)
    return functools.reduce(lambda x, d: x.index_select(d, indices[d]), range(len(whole)), numbers).flatten()


def check(whole, indices):
    expected = places(whole, indices)
    first = runs(indices, whole)
    if first is None:
        assert torch.equal(expected, torch.arange(math.prod(whole)))
    elif expected.numel() == 0:
        assert first.numel() == 0
    else:
        length = expected.numel() // len(first)
        assert torch.equal((first[:, None] + torch.arange(length)).flatten(), expected)
    return first


@settings(deadline=None)
@given(boxes())
def test_runs_of_a_box_are_where_brute_force_finds_them(box):
    check(*box)


@settings(deadline=None)
@given(blocks())
def test_runs_of_scattered_indices_are_where_brute_force_finds_them(block):
    check(*block)


@settings(deadline=None)
@given(boxes())
def test_runs_of_a_box_are_as_long_as_they_can_be(box):
    """Check that two runs without a gap between them are one, unless there is a gap before a third."""
    whole, indices = box
    first = check(whole, indices)
    if first is not None and len(first) > 1:
        length = math.prod(map(len, indices)) // len(first)
        assert not (first[1:] - first[:-1] == length).all()


def test_rows_are_one_run_and_columns_one_per_row():
    assert runs([torch.tensor([2, 3]), torch.arange(4)], (6, 4)).tolist() == [8]
    assert runs([torch.arange(3), torch.tensor([1, 2])], (3, 4)).tolist() == [1, 5, 9]
