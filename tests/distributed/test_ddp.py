"""DistributedDataParallel: any number of ranks ends where one process does."""

import pytest
import torch
import torch.distributed as dist
from support.exact import SCHEDULE, UPDATES, Model, alone, naive, noisy, rank_and_size, same, sgd, share, train, weights
from support.ranks import on_ranks
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

every_size = pytest.mark.parametrize("size", [1, 2, 4])
several = pytest.mark.parametrize("size", [2, 4])


def trained_by(**options):
    model = DistributedDataParallel(Model(), **options)
    optimizer = sgd(model)
    noisy(optimizer, model)
    train(model, optimizer)
    return weights(model)


@on_ranks(1, 2, 4)
def trained():
    return trained_by()


@every_size
def test_every_rank_ends_where_one_process_does(ranks, size):
    expected = weights(alone())
    assert all(same(mine, expected) for mine in ranks(trained, size))


@on_ranks(1, 2, 4)
def trained_in_buckets():
    """Train with gradients that are views of the buffers that are reduced."""
    return trained_by(gradient_as_bucket_view=True, static_graph=True)


@every_size
def test_gradients_may_be_views_of_buckets(ranks, size):
    expected = weights(alone())
    assert all(same(mine, expected) for mine in ranks(trained_in_buckets, size))


@on_ranks(1, 2, 4)
def accumulated():
    """Train with two micro-batches per update; the first is not reduced."""
    model = DistributedDataParallel(Model())
    optimizer = sgd(model)
    noise = noisy(optimizer, model)
    for k in range(UPDATES):
        optimizer.zero_grad()
        one, two = share(k).chunk(2)
        with model.no_sync():
            (model(one) / 2).backward()
        (model(two) / 2).backward()
        optimizer.step()
    return weights(model), noise.step


@every_size
def test_accumulation_without_sync_gets_noise_once_per_update(ranks, size):
    expected = weights(alone())
    for mine, updates in ranks(accumulated, size):
        assert same(mine, expected)
        assert updates == UPDATES


class Wrapper(nn.Module):
    """A model that has itself a part named "module"."""

    def __init__(self):
        super().__init__()
        self.module = Model()

    def forward(self, x):
        return self.module(x)


@on_ranks(1, 2, 4)
def names():
    """Return the noise of the first update on bare models and on the same in DistributedDataParallel."""
    seen = []
    for make in (Model, Wrapper):
        for model in (make(), DistributedDataParallel(make())):
            optimizer = sgd(model)
            noisy(optimizer, model)
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            optimizer.step()
            seen.append([p.grad for p in model.parameters()])
    return seen


@every_size
def test_what_ddp_puts_before_names_is_ignored(ranks, size):
    for first, *others in ranks(names, size):
        assert all(noise.count_nonzero() == noise.numel() for noise in first)
        for other in others:
            assert all(map(torch.equal, first, other))


@on_ranks(2, 4)
def curved():
    """Train an ordinary network, whose rounding depends on the order of sums, with our hook and the naive one."""
    outcome = {}
    for hook in (noisy, naive):
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        model = DistributedDataParallel(net)  # which gives all ranks the weights of rank 0
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        hook(optimizer, model)
        before = torch.get_rng_state()
        for _ in range(UPDATES):
            optimizer.zero_grad()
            model(torch.linspace(-1, 1, 12).view(4, 3) + dist.get_rank()).square().mean().backward()
            optimizer.step()
        outcome[hook.__name__] = weights(model), torch.equal(before, torch.get_rng_state())
    return outcome


@several
def test_ranks_never_drift_apart(ranks, size):
    first, *others = [outcome["noisy"][0] for outcome in ranks(curved, size)]
    assert all(same(mine, first) for mine in others)


@several
def test_under_a_naive_hook_ranks_drift_apart(ranks, size):
    first, *others = [outcome["naive"][0] for outcome in ranks(curved, size)]
    assert not any(same(mine, first) for mine in others)


@several
def test_global_generators_of_all_ranks_are_not_touched(ranks, size):
    assert all(outcome["noisy"][1] for outcome in ranks(curved, size))
    assert not any(outcome["naive"][1] for outcome in ranks(curved, size))


@on_ranks(1, 2, 4)
def zero_redundancy():
    """Train where each rank updates some parameters; the second half of the updates starts from a checkpoint."""

    def fresh():
        optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.5, momentum=0.5)
        return optimizer, noisy(optimizer, model)

    rank, size = rank_and_size()
    model = DistributedDataParallel(Model())
    optimizer, noise = fresh()
    train(model, optimizer, UPDATES // 2)
    noise.detach()
    state = None
    for to in range(size):
        optimizer.consolidate_state_dict(to)
        if to == rank:
            state = optimizer.state_dict()
    resumed, noise = fresh()
    resumed.load_state_dict(state)
    train(model, resumed, UPDATES - UPDATES // 2, first=UPDATES // 2)
    return weights(model), noise.step, noise.sigma


@every_size
def test_zero_redundancy_optimizer_trains_and_resumes_the_same(ranks, size):
    expected = weights(alone())
    for mine, step, sigma in ranks(zero_redundancy, size):
        assert same(mine, expected)
        assert step == UPDATES
        assert sigma == SCHEDULE(UPDATES) ** 0.5
