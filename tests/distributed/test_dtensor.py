"""Plain DTensors: noise is addressed by an element's place in the whole, wherever it lies."""

import itertools

import pytest
import torch
import torch.distributed as dist
from support.exact import full
from support.ranks import on_ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

from gradnoise import Fixed, add_gradient_noise_, attach

SEED = 5
every_size = pytest.mark.parametrize("size", [1, 2, 4])

R, S0, S1, S2 = Replicate(), Shard(0), Shard(1), Shard(2)
BOTH = [pair for pair in itertools.product((S0, S1, R), repeat=2) if pair != (R, R)]
STRIDED = [
    (_StridedShard(0, split_factor=2), S0),
    (_StridedShard(0, split_factor=2), R),
    (R, _StridedShard(0, split_factor=2)),
    (R, _StridedShard(1, split_factor=4)),
    (S0, _StridedShard(0, split_factor=2)),
    (S0, _StridedShard(1, split_factor=2)),
]
CASES = [
    *[((n,), (p,), torch.float32) for n, p in [(7, S0), (1, S0), (0, S0), (7, R)]],
    *[(shape, (p,), torch.float32) for shape in [(8, 4), (5, 7), (2, 3), (3, 0)] for p in (S0, S1, R)],
    *[((5, 3, 6), (p,), torch.float32) for p in (S0, S1, S2)],
    *[((5, 7), (p,), dtype) for p in (S0, S1) for dtype in (torch.float64, torch.bfloat16, torch.complex64)],
    *[((300, 400), (p,), dtype) for p in (S0, S1) for dtype in (torch.float32, torch.bfloat16)],  # in several slabs
    ((), (R,), torch.float32),
    *[((5, 7), pair, torch.float32) for pair in BOTH],
    *[((3, 5, 6), pair, torch.float32) for pair in ((S2, S0), (S1, S2))],
    *[((8, 16), pair, torch.float32) for pair in STRIDED],
]


def label(case):
    shape, placements, dtype = case
    return f"{list(shape)}-{'-'.join(map(str, placements))}-{str(dtype).removeprefix('torch.')}"


def mesh_for(placements):
    size = dist.get_world_size()
    return init_device_mesh("cpu", (size,) if len(placements) == 1 else (2, size // 2) if size > 1 else (1, 1))


def parameter(shape, placements, dtype=torch.float32):
    """Return a DTensor with a gradient that is 0."""
    mesh = mesh_for(placements)
    p, gradient = (distribute_tensor(torch.zeros(shape, dtype=dtype), mesh, placements) for _ in range(2))
    p = nn.Parameter(p)
    p.grad = gradient
    return p


def step(p):
    """Return the noise of the first update, by the optimizer and as it should be."""
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    return full(p.grad), noise.replay("0.0", 0).to(p.dtype)


@on_ranks(1, 2, 4)
def every_case():
    return [step(parameter(*case)) for case in CASES]


@every_size
@pytest.mark.parametrize("i", range(len(CASES)), ids=map(label, CASES))
def test_noise_is_that_of_the_whole(ranks, size, i):
    for outcome in ranks(every_case, size):
        added, expected = outcome[i]
        assert torch.equal(added, expected)
        assert added.count_nonzero() == added.numel()


@on_ranks(1, 2, 4)
def odd_cases():
    outcome = {}

    p = parameter((3, 5), (S1,))
    p.grad = parameter((5, 3), (S0,)).grad.t()
    outcome["transposed"] = step(p)

    p = parameter((4, 3), (R,))
    half = DTensor.from_local(torch.zeros(4, 3), mesh_for((R,)), [Partial()])
    p.grad = half.redistribute(placements=[R], async_op=True)  # still under way when noise comes
    outcome["asynchronous"] = step(p)

    p = parameter((4, 3), (S0,))
    add_gradient_noise_([("w", p)], Fixed(1.0), t=7, seed=SEED)
    whole = nn.Parameter(torch.zeros(4, 3))
    whole.grad = torch.zeros(4, 3)
    add_gradient_noise_([("w", whole)], Fixed(1.0), t=7, seed=SEED)
    outcome["without an optimizer"] = full(p.grad), whole.grad
    return outcome


@every_size
@pytest.mark.parametrize("case", ["transposed", "asynchronous", "without an optimizer"])
def test_noise_is_that_of_the_whole_in_odd_cases(ranks, size, case):
    for outcome in ranks(odd_cases, size):
        added, expected = outcome[case]
        assert torch.equal(added, expected)
        assert added.count_nonzero() == added.numel()


@on_ranks(1, 2, 4)
def not_reduced():
    """Return what is said to gradients that ranks have yet to add up."""
    p = parameter((4, 3), (R,))
    p.grad = DTensor.from_local(torch.ones(4, 3), mesh_for((R,)), [Partial()])
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    try:
        optimizer.step()
    except NotImplementedError as error:
        return str(error), noise.step


@every_size
def test_gradients_that_are_not_reduced_are_refused(ranks, size):
    for message, steps in ranks(not_reduced, size):
        assert message == (
            "the gradient of '0.0' is a DTensor that is not reduced yet (placements (Partial(sum),));"
            " redistribute it before the step"
        )
        assert steps == 0
