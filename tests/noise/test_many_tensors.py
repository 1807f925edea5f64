"""Many whole tensors in one call: the bits of each on its own, and the sum of their squares."""

import gc
import math
import weakref

import pytest
import torch
from torch import nn

from gradnoise import Fixed, attach
from gradnoise.noise.gaussian import Part, add_parts_, add_whole_, is_plain, normal, reference, square_sum

SIZES = (0, 1, 3, 256, 255, 70_000, 5, 256, 1024, 1025, 66_000, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [SIZES, (7,), (256,) * 300, (3000, 2)], ids=["mixed", "one", "many", "two"])
def test_each_tensor_gets_the_bits_that_it_gets_alone(dtype, sizes):
    keys = tuple(2**64 - 1 - 7 * i for i in range(len(sizes)))
    together, apart, slow = ([torch.linspace(-1, 1, n, dtype=dtype) for n in sizes] for _ in range(3))
    versions = [x._version for x in together]
    add_whole_(together, keys, t=5, sigma=0.3, scale=torch.tensor(1.7, dtype=torch.float64))
    for x, y, key in zip(apart, slow, keys, strict=True):
        add_parts_([Part(x, key)], t=5, sigma=0.3, scale=torch.tensor(1.7, dtype=torch.float64))
        # the product is rounded once, as the kernels do
        reference.add_parts_([Part(y, key)], 5, 1.0, torch.tensor(0.3 * 1.7, dtype=torch.float64))
    assert all(map(torch.equal, together, apart)) and all(map(torch.equal, together, slow))
    assert all(x._version > v for x, v, n in zip(together, versions, sizes, strict=True) if n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_sum_of_squares(dtype):
    tensors = [torch.randn(n, generator=torch.Generator().manual_seed(n)).to(dtype) for n in SIZES]
    expected = math.fsum(float(x) ** 2 for t in tensors for x in t.double())
    total = square_sum(tensors)
    assert total.dtype == torch.float64 and float(total) == pytest.approx(expected, rel=1e-12)
    assert float(square_sum([t[::2] for t in tensors])) == pytest.approx(
        math.fsum(float(x) ** 2 for t in tensors for x in t[::2].double()), rel=1e-12
    )


def test_which_tensors_are_plain():
    plain = [torch.zeros(3), torch.zeros(2, 2)]
    assert is_plain(plain)
    others = (
        torch.zeros(4, 4)[::2, ::2], torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(3).to_sparse(), torch.zeros(3, device="meta"), torch.zeros(3, dtype=torch.complex64), None,
    )  # fmt: skip
    for other in others:
        assert not is_plain([*plain, other])
        assert other is None or is_plain([other]) == (other.dtype == torch.float64)


def test_a_sigma_out_of_range():
    with pytest.raises(ValueError, match="sigma must be finite and >= 0, got -1"):
        add_whole_([torch.zeros(3)], (1,), t=0, sigma=-1.0)


# --- tensors that are found where they lay ----------------------------------------------------------------


def check_added(tensors, before, keys, t):
    for x, old, key in zip(tensors, before, keys, strict=True):
        assert torch.equal(x, old + normal(key, t, x.numel()).view(x.shape))


CHANGES = ["nothing", "one", "data", "shape", "strides", "all", "order", "shorter", "seen otherwise"]


@pytest.mark.parametrize("change", CHANGES)
def test_tensors_that_come_again_get_their_noise_whatever_became_of_them(change):
    keys = tuple(range(100, 150))
    tensors = [torch.zeros(4, 4) for _ in keys]
    for t in range(3):
        assert add_whole_(tensors, keys, t=t, sigma=1.0)
    with torch.no_grad():
        if change == "one":
            tensors[7] = torch.zeros(4, 4)
        if change == "data":
            tensors[7].data = torch.zeros(4, 4)
        if change == "shape":
            tensors[7].data = torch.zeros(3)
        if change == "strides":
            tensors[7].data = torch.zeros(4, 4).t()[:2]
        if change == "shorter":  # where it lay
            tensors[7].data = tensors[7].data[:2]
        if change == "seen otherwise":
            tensors[7].data = tensors[7].data.view(2, 8)
        if change == "all":
            tensors = [torch.zeros(5) for _ in keys]
        if change == "order":
            tensors.reverse()
    before = [x.clone() for x in tensors]
    if change == "strides":
        assert not add_whole_(tensors, keys, t=3, sigma=1.0)
        return
    for t in range(3, 6):
        assert add_whole_(tensors, keys, t=t, sigma=1.0)
        check_added(tensors, before, keys, t)
        before = [x.clone() for x in tensors]


@pytest.mark.parametrize("change", ["turned", "another type", "every other"])
def test_tensors_that_come_again_in_another_form_are_looked_at_again(change):
    keys = tuple(range(200, 250))
    tensors = [torch.zeros(4, 4) for _ in keys]
    for t in range(3):
        assert add_whole_(tensors, keys, t=t, sigma=1.0)
    if change == "turned":
        tensors[7].t_()
    if change == "another type":
        tensors[7].data = tensors[7].data.view(torch.int32)
    if change == "every other":
        tensors[7].data = torch.as_strided(tensors[7].data, (4, 2), (4, 2))
    before = [x.clone() for x in tensors]
    assert not add_whole_(tensors, keys, t=3, sigma=1.0) and all(map(torch.equal, tensors, before))


def test_nothing_is_written_past_a_gradient_that_was_cut_where_it_lay():
    parameters = [nn.Parameter(torch.zeros(64)) for _ in range(40)]
    storages = [torch.zeros(64) for _ in parameters]
    optimizer = torch.optim.SGD(parameters, lr=1e-9)
    noise = attach(optimizer, Fixed(1.0), seed=0, warn=False)
    for p, storage in zip(parameters, storages, strict=True):
        p.grad = storage.view(64)
    for _ in range(3):
        optimizer.step()
    for p, storage in zip(parameters, storages, strict=True):
        storage.zero_()
        p.data, p.grad.data = p.data[:32], storage[:32]
    optimizer.step()
    for i, storage in enumerate(storages):
        assert torch.equal(storage[:32], noise.replay(f"0.{i}", 3)) and not storage[32:].any()


def test_tensors_are_not_kept_alive():
    keys = tuple(range(50))
    tensors = [torch.zeros(4) for _ in keys]
    for t in range(3):
        add_whole_(tensors, keys, t=t, sigma=1.0)
    gone = weakref.ref(tensors[3])
    del tensors
    gc.collect()
    assert gone() is None
