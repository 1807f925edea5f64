"""Gradients of every dtype, shape and layout: the noise belongs to an element of the parameter."""

import math

import pytest
import torch
from support.loop import SCHEDULE, SEED, added, flat, noise_of, promised
from torch import nn

from gradnoise import Fixed, add_gradient_noise_, attach
from gradnoise.noise.gaussian.parts import SLAB

REAL = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def step(*parameters, sigma=1.0, **options):
    """Make one noisy step."""
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    attach(optimizer, Fixed(sigma), seed=SEED, **options)
    optimizer.step()


def parameter(gradient):
    p = nn.Parameter(torch.zeros(gradient.shape, dtype=gradient.dtype))
    p.grad = gradient
    return p


# --- dtypes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", REAL)
def test_every_dtype_gets_the_same_noise_rounded_once(dtype):
    gradient = torch.linspace(-3, 3, 350, dtype=torch.float64).view(50, 7).to(dtype)
    p = parameter(gradient.clone())
    step(p, sigma=0.3)
    assert torch.equal(p.grad, added(gradient, noise_of("0.0", 0, 0.3, (50, 7), dtype)))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_complex_number_is_two_elements_of_half_the_variance(dtype):
    gradient = torch.randn(50, 7, dtype=dtype, generator=torch.Generator().manual_seed(0))
    p = parameter(gradient.clone())
    step(p, sigma=0.3)
    assert torch.equal(p.grad, gradient + noise_of("0.0", 0, 0.3, (50, 7), dtype))


def test_real_and_imaginary_part_are_independent():
    """Bound correlations of values and of squares by 5 standard errors: a false alarm in 2e-6 of the seeds."""
    n = 200_000
    p = parameter(torch.zeros(n, dtype=torch.complex128))
    step(p)
    a, b = p.grad.real, p.grad.imag
    for x, y in ((a, b), (a**2, b**2)):
        assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) * n**0.5 < 5
    for x in (a, b):
        assert x.square().mean().item() == pytest.approx(0.5, rel=5 * (2 / n) ** 0.5)


def test_a_conjugate_view_gets_the_same_noise():
    """Use a parameter conjugated: autograd then leaves a conjugate view as its gradient."""
    p = nn.Parameter(torch.ones(5, dtype=torch.complex64))
    (p.conj() * torch.arange(5) * 1j).real.sum().backward()
    clean = p.grad.resolve_conj().clone()
    assert p.grad.is_conj()
    step(p)
    assert torch.equal(p.grad.resolve_conj(), clean + promised("0.0", 0, p))


def test_integers_get_no_gradient_and_no_noise():
    """Cover buffers that count, and integer parameters that an optimizer may list."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    count = nn.Parameter(torch.arange(3), requires_grad=False)
    optimizer = torch.optim.SGD([*model.parameters(), count], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    model(torch.randn(8, 3, generator=torch.Generator().manual_seed(0))).sum().backward()
    optimizer.step()
    assert count.tolist() == [0, 1, 2] and model[1].num_batches_tracked == 1


# --- shapes and strides -------------------------------------------------------------------------------

LAYOUTS = {
    "0-dim": lambda: torch.zeros(()),
    "transposed": lambda: torch.zeros(7, 5).t(),
    "channels last": lambda: torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "every other": lambda: torch.zeros(40)[::2],
    "the imaginary parts": lambda: torch.zeros(6, dtype=torch.complex64).conj().imag,
    "permuted": lambda: torch.zeros(3, 4, 5).permute(2, 0, 1),
}


@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
def test_elements_are_counted_in_row_major_order(make):
    p = parameter(make())
    strides = p.grad.stride()
    step(p)
    assert torch.equal(p.grad, noise_of("0.0", 0, 1.0, p.shape)) and p.grad.stride() == strides


@pytest.mark.parametrize("dtype", REAL)
def test_larger_than_the_slabs_it_is_cut_into(dtype):
    shape = (3, 5, 100, 100)  # channels last, and no multiple of a slab
    assert math.prod(shape) > 2 * SLAB
    p = nn.Parameter(torch.zeros(shape, dtype=dtype).to(memory_format=torch.channels_last))
    p.grad = torch.zeros_like(p)
    assert not p.grad.is_contiguous()
    step(p)
    assert torch.equal(p.grad, promised("0.0", 0, p).to(dtype))


def test_an_empty_gradient_is_skipped():
    empty, p = flat((0, 3), (5,))
    step(empty, p)
    assert torch.equal(p.grad, noise_of("0.1", 0, 1.0, (5,)))


def test_an_expanded_gradient_is_refused():
    """Expand a gradient: its elements share memory, and one number cannot hold several noises."""
    p = nn.Parameter(torch.zeros(4, 3))
    p.grad = torch.zeros(4, 1).expand(4, 3)
    with pytest.raises(RuntimeError, match="refers to a single memory location"):
        step(p)
    assert p.grad.count_nonzero() == 0


def test_thousands_of_small_tensors():
    shapes = [(i % 7, 3) for i in range(3000)]
    parameters = flat(*shapes)
    step(*parameters, named_parameters=[(f"p{i}", p) for i, p in enumerate(parameters)])
    for i in range(0, 3000, 7):
        assert parameters[i].grad.numel() == 0
    for i in (1, 2, 1500, 2999):
        assert torch.equal(parameters[i].grad, promised(f"p{i}", 0, parameters[i]))
    drawn = torch.cat([p.grad.flatten() for p in parameters])
    assert drawn.std().item() == pytest.approx(1.0, rel=5 / (2 * len(drawn)) ** 0.5)
    assert len(drawn.unique()) > 0.99 * len(drawn)


# --- parameters that are not there, or more than once --------------------------------------------------


def test_a_frozen_parameter_is_skipped_and_joins_in_when_it_thaws():
    a, b = flat((5,), (5,))
    optimizer = torch.optim.SGD([a, b], lr=1.0)
    attach(optimizer, SCHEDULE, seed=SEED)
    for t in range(3):
        b.requires_grad_(t == 2)
        optimizer.zero_grad()
        (0 * a + 0 * b).sum().backward()
        optimizer.step()
        assert torch.equal(a.grad, promised("0.0", t, a))
        if t < 2:
            assert b.grad is None and b.count_nonzero() == 0
    assert torch.equal(b.grad, promised("0.1", 2, b))


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate parameters")
def test_a_parameter_that_is_listed_twice_gets_noise_once():
    (p,) = flat((5,))
    step(p, p)
    assert torch.equal(p.grad, noise_of("0.0", 0, 1.0, (5,)))


def test_a_parameter_in_two_groups_is_refused_by_torch():
    (p,) = flat((5,))
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        torch.optim.SGD([{"params": [p]}, {"params": [p]}], lr=1.0)


def test_a_tied_parameter_gets_noise_once_under_its_first_name():
    (p,) = flat((5,))
    step(p, named_parameters=[("encoder", p), ("decoder", p)])
    assert torch.equal(p.grad, noise_of("encoder", 0, 1.0, (5,)))
    p.grad.zero_()
    add_gradient_noise_([("encoder", p), ("decoder", p)], Fixed(1.0), t=0, seed=SEED)
    assert torch.equal(p.grad, noise_of("encoder", 0, 1.0, (5,)))


def test_embeddings_tied_to_the_output():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.out = nn.Linear(4, 7, bias=False)
            self.out.weight = self.embed.weight

    model = Tied()
    model.embed.weight.grad = torch.zeros(7, 4)
    step(*model.parameters(), named_parameters=model.named_parameters(remove_duplicate=False))
    assert torch.equal(model.out.weight.grad, promised("embed.weight", 0, model.out.weight))
