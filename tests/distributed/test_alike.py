"""Noise that is alike on ranks that hold different parameters, or differs where they hold the same, is warned of."""

import os
import warnings

import torch
import torch.distributed as dist
from support.ranks import on_ranks

from gradnoise import Fixed, attach


def said(first, seed=0, **options):
    """What is warned of in four updates of a parameter that begins with `first`."""
    p = torch.nn.Parameter(torch.full((20,), float(first)))
    optimizer = torch.optim.SGD([p], lr=1e-3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attach(optimizer, Fixed(1e-3), seed=seed, **options)
        for _ in range(4):
            p.grad = torch.ones(20)
            optimizer.step()
            dist.barrier()
    return [str(w.message) for w in caught]


@on_ranks(2)
def partitions():
    """As DeepSpeed's ZeRO makes them: each rank has its own piece of all parameters in a row."""
    return said(dist.get_rank())


@on_ranks(2)
def partitions_with_a_seed_each():
    return said(dist.get_rank(), seed=dist.get_rank())


@on_ranks(2)
def partitions_unwarned():
    return said(dist.get_rank(), warn=False)


@on_ranks(2)
def copies():
    return said(1.0)


@on_ranks(2)
def copies_with_a_seed_each():
    return said(1.0, seed=os.getpid())


@on_ranks(2)
def stages():
    """As a pipeline has them: the same local names for other layers."""
    p = torch.nn.Parameter(torch.full((20,), float(dist.get_rank())))
    optimizer = torch.optim.SGD([p], lr=1e-3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attach(optimizer, Fixed(1e-3), seed=0, named_parameters=[("layers.0.weight", p)])
        for _ in range(4):
            p.grad = torch.ones(20)
            optimizer.step()
            dist.barrier()
    return [str(w.message) for w in caught]


def test_ranks_with_the_same_noise_on_other_parameters(ranks):
    for scenario, name in ((partitions, "0.0"), (stages, "layers.0.weight")):
        for rank, messages in enumerate(ranks(scenario, 2)):
            assert len(messages) == 1
            assert f"rank {1 - rank} adds the same noise to '{name}' as this rank" in messages[0]


def test_ranks_with_other_noise_on_the_same_parameters(ranks):
    for rank, messages in enumerate(ranks(copies_with_a_seed_each, 2)):
        assert len(messages) == 1
        assert f"rank {1 - rank} trains the same parameters with other noise" in messages[0]


def test_what_is_right_is_not_mentioned(ranks):
    for scenario in (partitions_with_a_seed_each, partitions_unwarned, copies):
        assert ranks(scenario, 2) == [[], []]
