"""Noise that is alike on ranks that hold different parameters, or differs where they hold the same, is warned of."""

import os
import warnings

import torch
import torch.distributed as dist
from support.ranks import on_ranks
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from gradnoise import Annealed, Fixed, Relative, attach

SCHEDULE = Annealed(1e-6)


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


class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        for k, p in enumerate(self.parameters()):
            torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(k))


def trained(
    updates=4, schedule=SCHEDULE, before=None, late=-1, pauses=(), attached=True, sharded=False, rename=False, **options
):
    """What is warned of while ranks train a network together, each with arguments of its own."""
    model = Net()
    if sharded:
        fully_shard(model)
    else:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if attached:
            names = [(name.replace("0.w", "x.w") if rename else name, p) for name, p in model.named_parameters()]
            noise = attach(optimizer, schedule, **{"seed": 0, "named_parameters": names, **options})
        if before is not None:
            before(optimizer)
        for k in range(updates):
            optimizer.zero_grad()
            model(torch.randn(5, 4)).square().sum().backward()
            if k == late:
                at(40)(optimizer)
            if k in pauses:
                with noise.paused():
                    optimizer.step()
            else:
                optimizer.step()
            dist.barrier()
    return [str(w.message) for w in caught if "noise" in str(w.message)]


def at(t):
    """As who loads a checkpoint has it."""

    def load(optimizer):
        state = optimizer.state_dict()
        for group in state["param_groups"]:
            group["gradnoise_t"] = t
        optimizer.load_state_dict(state)

    return load


def quieter(optimizer):
    optimizer.param_groups[0]["noise_eta"] = 1e-8


def no_bias(name):
    return not name.endswith("bias")


#: Arguments of rank 0 and rank 1, and what is said on rank 0.
UNLIKE = {
    "another clock": ({"before": at(1000)}, {}, "t is 1000 here and 0 there"),
    "another clock of shards": ({"before": at(7), "sharded": True}, {"sharded": True}, "t is 7 here and 0 there"),
    "eta": ({"schedule": Annealed(4e-6)}, {}, "sigma is 0.002 here and 0.001 there, at t = 0 in group 0"),
    "eta of shards": (
        {"schedule": Annealed(4e-6), "sharded": True},
        {"sharded": True},
        "sigma is 0.002 here and 0.001 there, at t = 0 in group 0",
    ),
    "gamma": ({"schedule": Annealed(1e-6, gamma=0.0)}, {}, "sigma is 0.001 here and 0.000826"),
    "relative": ({"schedule": Relative(1e-3)}, {"schedule": Relative(2e-3)}, "sigma is 0.001 here and 0.002 there"),
    "an option of a group": ({"before": quieter}, {}, "sigma is 0.0001 here and 0.001 there"),
    "an end": ({"schedule": Annealed(1e-6, until=2)}, {}, "sigma is 0 here and 0.000739"),
    "where": ({"where": no_bias}, {}, "'0.bias' gets noise there alone"),
    "where of shards": ({"sharded": True}, {"where": no_bias, "sharded": True}, "'0.bias' gets noise here alone"),
    "where and seed": ({"where": no_bias}, {"seed": 1}, "the seed or the names are not the same"),
    "one name": ({"rename": True}, {}, "the seed or the names are not the same"),
    "anti_pgd": ({"anti_pgd": True}, {}, "anti_pgd is True here and False there"),
    "rows": ({"rows": "all"}, {}, "rows is 'all' here and 'present' there"),
    "on": ({"on": "weights"}, {}, "on is 'weights' here and 'gradients' there"),
    "on weights, another clock": (
        {"on": "weights", "before": at(5)},
        {"on": "weights"},
        "t is 5 here and 0 there",
    ),
    "a pause": ({"pauses": (3,), "updates": 8}, {"updates": 8}, "paused updates is 1 here and 0 there"),
    "a clock, later": ({"updates": 20, "late": 9}, {"updates": 20}, "t is 47 here and 16 there"),
}


@on_ranks(2)
def unlike():
    return {name: trained(**arguments[dist.get_rank()]) for name, arguments in UNLIKE.items()}


ALIKE = {
    "DDP": {},
    "FSDP2": {"sharded": True},
    "pauses, a clock, an option": {"pauses": (1, 4), "before": at(9), "updates": 18},
    "an end at a share": {"schedule": Annealed(1e-6, until=0.5), "before": quieter},
    "where": {"where": no_bias},
    "anti_pgd": {"anti_pgd": True},
    "relative": {"schedule": Relative(1e-3)},
    "weights": {"on": "weights"},
}


@on_ranks(2)
def alike():
    """And where only one rank looks."""
    said = {name: trained(**arguments) for name, arguments in ALIKE.items()}
    return said | {"warn on rank 0": trained(warn=dist.get_rank() == 0)}


@on_ranks(2)
def slow():
    """Ranks on their own, of which one makes its updates when the other one is done."""
    p = torch.nn.Parameter(torch.full((20,), 1.0 + dist.get_rank()))
    optimizer = torch.optim.SGD([p], lr=1e-3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attach(optimizer, Fixed(1e-3), seed=dist.get_rank())
        dist.barrier()
        for rank in range(2):
            for _ in range(6 if rank == dist.get_rank() else 0):
                p.grad = torch.ones(20)
                optimizer.step()
            dist.barrier()
    return [str(w.message) for w in caught]


@on_ranks(2)
def spare():
    """One rank has an optimizer more, which it never uses."""
    if dist.get_rank() == 0:
        attach(torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1), Fixed(1.0), seed=0)
    return trained(updates=6), trained(before=at(dist.get_rank()))


@on_ranks(2)
def one_without():
    """The last one: from now on the ranks count their optimizers differently."""
    return trained(attached=dist.get_rank() == 0, updates=6)


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


def test_ranks_of_one_model_whose_noise_differs(ranks):
    first, second = ranks(unlike, 2)
    for name, (_, _, what) in UNLIKE.items():
        assert len(first[name]) == len(second[name]) == 1, name
        expected = f"rank 1 trains the same parameters with other noise, so that the ranks drift apart: {what}"
        assert expected in first[name][0], first[name]
        assert "rank 0 trains the same parameters with other noise" in second[name][0]


def test_ranks_of_one_model_whose_noise_is_alike(ranks):
    for said in ranks(alike, 2):
        assert {name: messages for name, messages in said.items() if messages} == {}


def test_a_rank_that_is_slow_is_no_doubt(ranks):
    assert ranks(slow, 2) == [[], []]


def test_an_optimizer_that_one_rank_never_uses(ranks):
    for alike, unlike in ranks(spare, 2):
        assert alike == [] and len(unlike) == 1 and "t is" in unlike[0]


def test_a_rank_without_noise(ranks):
    first, second = ranks(one_without, 2)
    assert len(first) == 1 and second == []
    assert "rank 1 has not attached noise to an optimizer by the fourth update of this one" in first[0]
