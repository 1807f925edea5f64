"""FSDP2 (fully_shard): however parameters are cut, noise and training are those of the whole."""

import math
import warnings

import pytest
import torch
import torch.distributed as dist
from support.exact import (
    SCHEDULE,
    SEED,
    SHAPES,
    UPDATES,
    Model,
    alone,
    gradients,
    naive,
    noisy,
    same,
    sgd,
    share,
    train,
    weights,
)
from support.ranks import on_ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from gradnoise import Annealed, Fixed, Relative, attach

every_size = pytest.mark.parametrize("size", [1, 2, 4])


def columns(p):
    """Shard along the last dimension; FSDP2 cuts other dimensions than the first into equal pieces only."""
    return Shard(1) if p.dim() > 1 and p.shape[1] % dist.get_world_size() == 0 else None


def hybrid():
    """Shard so that half of the ranks have a copy of what the other half has."""
    size = dist.get_world_size()
    return init_device_mesh("cpu", (math.gcd(2, size), max(size // 2, 1)), mesh_dim_names=("copies", "shards"))


WAYS = {
    "rows": lambda: {},
    "columns": lambda: {"shard_placement_fn": columns},
    "bfloat16": lambda: {"mp_policy": MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32)},
    "hybrid": lambda: {"mesh": hybrid()},
}
every_way = pytest.mark.parametrize("way", WAYS)


def sharded(way="rows"):
    model, how = Model(), WAYS[way]()
    for piece in model.pieces.values():
        fully_shard(piece, **how)
    return fully_shard(model, **how)


@on_ranks(1, 2, 4)
def trained():
    """Return for each way of sharding gradients and weights after the last update, and shapes of this rank's pieces."""
    outcome = {}
    for way in WAYS:
        model = sharded(way)
        optimizer = sgd(model)
        noisy(optimizer, model)
        train(model, optimizer)
        pieces = {name: tuple(p.to_local().shape) for name, p in model.named_parameters()}
        outcome[way] = gradients(model), weights(model), pieces
    return outcome


@every_way
@every_size
def test_noisy_gradients_and_weights_are_those_of_the_whole_model(ranks, size, way):
    model = alone()
    for outcome in ranks(trained, size):
        assert same(outcome[way][0], gradients(model))
        assert same(outcome[way][1], weights(model))


def test_pieces_are_uneven_and_some_are_empty(ranks):
    """Check that the test above is about such pieces."""
    rows = [outcome["rows"][2] for outcome in ranks(trained, 4)]
    assert [pieces["pieces.uneven.weight"] for pieces in rows] == [(2, 3), (2, 3), (1, 3), (0, 3)]
    assert [pieces["pieces.scarce.weight"] for pieces in rows] == [(1, 8), (0, 8), (0, 8), (0, 8)]
    columns = [outcome["columns"][2] for outcome in ranks(trained, 4)]
    assert [pieces["pieces.cube.weight"] for pieces in columns] == [(6, 1, 2)] * 4


@on_ranks(1, 2, 4)
def trained_naively():
    torch.manual_seed(0)  # on all ranks: otherwise even copies of a parameter would differ
    model = sharded()
    optimizer = sgd(model)
    naive(optimizer, model)
    train(model, optimizer, 1)
    return gradients(model)


def test_a_naive_hook_adds_other_noise_on_each_number_of_ranks(ranks):
    one, two, four = (ranks(trained_naively, size)[0] for size in (1, 2, 4))
    for name in SHAPES:
        if name != "scarce":
            key = f"pieces.{name}.weight"
            assert not torch.equal(one[key], two[key])
            assert not torch.equal(one[key], four[key])


def test_a_naive_hook_gives_all_pieces_the_same_noise(ranks):
    """Look at what a naive hook does: rows repeat."""
    model = Model()
    model(share(0)).backward()
    noise = ranks(trained_naively, 4)[0]["pieces.even.weight"] - model.pieces["even"].weight.grad
    rounding = {"rtol": 0, "atol": 1e-5}
    assert torch.allclose(noise[:2], noise[2:4], **rounding)
    assert torch.allclose(noise[:2], noise[6:], **rounding)


@on_ranks(1, 2, 4)
def accumulated():
    """Train with two micro-batches per update; the first is not reduced."""
    model = sharded()
    optimizer = sgd(model)
    noise = noisy(optimizer, model)
    for k in range(UPDATES):
        optimizer.zero_grad()
        for last, x in enumerate(share(k).chunk(2)):
            model.set_requires_gradient_sync(bool(last))
            (model(x) / 2).backward()
        optimizer.step()
    return weights(model), noise.step


@every_size
def test_accumulation_without_sync_gets_noise_once_per_update(ranks, size):
    expected = weights(alone())
    for mine, updates in ranks(accumulated, size):
        assert same(mine, expected)
        assert updates == UPDATES


@on_ranks(1, 2, 4)
def clipped():
    model = sharded()
    optimizer = sgd(model)
    noise = noisy(optimizer, model)
    model(share(0)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    before = gradients(model)
    optimizer.step()
    return before, gradients(model), {name: noise.replay(name, 0) for name in before}


def norm(tensors):
    return math.sqrt(sum(float(x.square().sum()) for x in tensors.values()))


@every_size
def test_noise_comes_after_the_clip(ranks, size):
    for before, after, noise in ranks(clipped, size):
        assert norm(before) == pytest.approx(1e-3, rel=1e-3)
        assert norm(after) > 5
        assert same(after, {name: g + noise[name] for name, g in before.items()})


@on_ranks(1, 2, 4)
def diagnosed():
    model = sharded()
    optimizer = sgd(model)
    noise = noisy(optimizer, model)
    train(model, optimizer, 2)
    optimizer.zero_grad()
    model(share(2)).backward()
    before = gradients(model)
    found = noise.diagnostics()
    return found, same(before, gradients(model))


@every_size
def test_diagnostics_are_those_of_the_whole_model_on_every_rank(ranks, size):
    model = Model()
    optimizer = sgd(model)
    noise = noisy(optimizer, model)
    train(model, optimizer, 2)
    optimizer.zero_grad()
    model(share(2)).backward()
    (expected,) = noise.diagnostics()
    for (mine,), untouched in ranks(diagnosed, size):
        assert untouched
        assert (mine.group, mine.t, mine.sigma) == (0, 2, SCHEDULE(2) ** 0.5)
        assert mine.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-6)
        assert mine.noise_norm == pytest.approx(expected.noise_norm, rel=1e-6)


def relative_run(model):
    """Train with noise relative to the gradient, in two groups, until it is under a share; return what there is."""
    pieces = list(model.parameters())
    optimizer = torch.optim.SGD([{"params": pieces[:2]}, {"params": pieces[2:], "noise_rho": 2.0}], lr=0.1)
    noise = attach(optimizer, Relative(0.5, until=0.4), seed=SEED, named_parameters=model.named_parameters())
    other = torch.optim.SGD(model.parameters(), lr=0.0)
    ending = attach(other, Annealed(0.3, until=0.5), seed=SEED, named_parameters=model.named_parameters(), warn=False)
    told = []
    for k in range(UPDATES):
        model.zero_grad()
        model(share(k)).backward()
        told += [(d.sigma, d.ended) for d in (*noise.diagnostics(), *ending.diagnostics())]
        optimizer.step()
        other.step()
    return told, weights(model), gradients(model)


@on_ranks(1, 2, 4)
def relative():
    return {way: relative_run(sharded(way)) for way in WAYS}


@every_way
@every_size
def test_noise_relative_to_the_gradient_is_that_of_the_whole_model(ranks, size, way):
    told, end, last = relative_run(Model())
    for outcome in ranks(relative, size):
        mine = outcome[way]
        assert mine[0] == told
        assert same(mine[1], end) and same(mine[2], last)


@on_ranks(2, 4)
def tensor_parallel():
    """Train with FSDP2 over tensor parallelism: both cut the first layer's rows, on 4 ranks with a _StridedShard."""
    size = dist.get_world_size()
    mesh = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("data", "tensor"))
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Tanh())
    parallelize_module(net, mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(net, mesh=mesh["data"])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    noise = noisy(optimizer, net)
    net(torch.linspace(-1, 1, 20).view(5, 4) + mesh["data"].get_local_rank()).sum().backward()
    before = gradients(net)
    optimizer.step()
    noise = {name: noise.replay(name, 0) for name in before}
    return before, gradients(net), noise, [type(x).__name__ for x in net[0].weight.placements]


@pytest.mark.parametrize("size", [2, 4])
def test_tensor_parallel_models_get_the_noise_of_the_whole(ranks, size):
    for before, after, noise, _ in ranks(tensor_parallel, size):
        assert same(after, {name: g + noise[name] for name, g in before.items()})
    assert ranks(tensor_parallel, 4)[0][3] == ["_StridedShard", "Shard"]


@on_ranks(1, 2)
def fsdp1():
    """Return what attach says to FSDP1, with parameters of the original shapes and with flat ones."""
    messages = []
    for original in (True, False):
        model = FullyShardedDataParallel(Model(), use_orig_params=original, device_id=torch.device("cpu"))
        try:
            attach(sgd(model), Fixed(1.0), seed=0, named_parameters=model.named_parameters())
        except NotImplementedError as error:
            messages.append(str(error))
    return messages


@pytest.mark.parametrize("size", [1, 2])
def test_fsdp1_is_refused(ranks, size):
    for messages in ranks(fsdp1, size):
        assert len(messages) == 2
        for message in messages:
            assert "FSDP1" in message
            assert "use torch.distributed.fsdp.fully_shard (FSDP2)" in message


@on_ranks(2)
def refilled():
    """Return what is said where a hook after the noise fills gradients with what they were before it."""
    model = sharded()
    optimizer = sgd(model)
    optimizer.register_step_pre_hook(lambda *_: kept.update({p: p.grad.clone() for p in model.parameters()}))
    kept = {}
    noisy(optimizer, model)
    optimizer.register_step_pre_hook(lambda *_: [p.grad.copy_(kept[p]) for p in model.parameters()] and None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(model, optimizer, 3)
    return [str(one.message) for one in said if "as it was before the noise" in str(one.message)]


def test_noise_that_is_lost_on_shards(ranks):
    for said in ranks(refilled, 2):
        assert len(said) == 1
