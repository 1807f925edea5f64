"""Sparse gradients: the rows that are there get the noise that a dense gradient gets at these places."""

import pytest
import torch
from support.loop import SEED, noise_of
from torch import nn

from gradnoise import Fixed, add_gradient_noise_, attach

SHAPE = (10, 3)


def coo(indices, values, shape):
    return torch.sparse_coo_tensor(torch.tensor(indices), values, shape, check_invariants=True)


def step(gradient, cls=torch.optim.SGD, **options):
    """Make one noisy step; return the gradient that the optimizer saw, and the handle."""
    p = nn.Parameter(torch.zeros(gradient.shape, dtype=gradient.dtype))
    p.grad = gradient
    optimizer = cls([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("w", p)], **options)
    optimizer.step()
    return p.grad, noise


def test_the_rows_that_are_there_get_noise():
    gradient, _ = step(coo([[2, 7]], torch.ones(2, 3), SHAPE))
    expected = torch.zeros(SHAPE)
    expected[[2, 7]] = 1 + noise_of("w", 0, 1.0, SHAPE)[[2, 7]]
    assert gradient.is_sparse and gradient._nnz() == 2
    assert torch.equal(gradient.to_dense(), expected)


def test_on_request_all_rows_get_noise():
    gradient, _ = step(coo([[2, 7]], torch.ones(2, 3), SHAPE), rows="all")
    expected = noise_of("w", 0, 1.0, SHAPE)
    expected[[2, 7]] += 1
    assert gradient.is_sparse and torch.equal(gradient.to_dense(), expected)


def test_the_stateless_function_has_the_choice_as_well():
    p = nn.Parameter(torch.zeros(SHAPE))
    p.grad = coo([[2, 7]], torch.ones(2, 3), SHAPE)
    expected, _ = step(p.grad.clone(), rows="all")
    add_gradient_noise_([("w", p)], Fixed(1.0), t=0, seed=SEED, rows="all")
    assert torch.equal(p.grad.to_dense(), expected.to_dense())


def test_a_row_that_is_there_twice_gets_noise_once():
    """Repeat a row, as in an embedding's gradient where a token occurs twice."""
    table = nn.Embedding(*SHAPE, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("w", table.weight)])
    table(torch.tensor([4, 1, 4])).sum().backward()
    assert not table.weight.grad.is_coalesced()
    optimizer.step()
    expected = torch.zeros(SHAPE)
    expected[[1, 4]] = torch.tensor([[1.0], [2.0]]) + noise_of("w", 0, 1.0, SHAPE)[[1, 4]]
    assert torch.equal(table.weight.grad.to_dense(), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("dense_dims", [0, 1, 2])
def test_any_number_of_sparse_dimensions(dense_dims, dtype):
    shape = (4, 5, 2, 3)[: 2 + dense_dims]
    places = [0, 3, 3], [4, 0, 2]
    gradient, _ = step(coo(places, torch.zeros(3, *shape[2:], dtype=dtype), shape))
    expected, whole = torch.zeros(shape, dtype=dtype), noise_of("w", 0, 1.0, shape, dtype).to(dtype)
    expected[places] = whole[places]
    assert torch.equal(gradient.to_dense(), expected)


def test_an_empty_sparse_gradient():
    none = coo([[]], torch.zeros(0, 3), SHAPE)
    gradient, _ = step(none.clone())
    assert gradient._nnz() == 0
    gradient, _ = step(none, rows="all")
    assert torch.equal(gradient.to_dense(), noise_of("w", 0, 1.0, SHAPE))


def test_large_rows():
    """Take rows longer than the slabs that 16-bit numbers are cut into."""
    shape = (3, 70_000)
    gradient, _ = step(coo([[0, 2]], torch.zeros(2, 70_000, dtype=torch.bfloat16), shape))
    assert torch.equal(gradient.to_dense()[[0, 2]], noise_of("w", 0, 1.0, shape).bfloat16()[[0, 2]])


@pytest.mark.parametrize("rows", ["present", "all"])
def test_sparse_adam_updates_the_rows_that_got_noise(rows):
    _, noise = step(coo([[2, 7]], torch.ones(2, 3), SHAPE), cls=torch.optim.SparseAdam, rows=rows)
    touched = noise.optimizer.param_groups[0]["params"][0].abs().sum(dim=1).nonzero().flatten().tolist()
    assert touched == ([2, 7] if rows == "present" else list(range(10)))


@pytest.mark.filterwarnings("ignore:Sparse CSC tensor support is in beta state")
def test_other_sparse_layouts_are_refused():
    p = nn.Parameter(torch.eye(3).to_sparse_csc())
    p.grad = torch.eye(3).to_sparse_csc()
    optimizer = torch.optim.SGD([p], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("w", p)])
    with pytest.raises(NotImplementedError) as error:
        optimizer.step()
    assert str(error.value) == (
        "the gradient of 'w' is torch.float32 with layout torch.sparse_csc; noise goes onto real and complex"
        " floating-point gradients that are dense or sparse COO; leave this parameter out with `where`"
    )
