"""Parameter groups of a population are those of torch.optim."""

import pytest
import torch
from support.toys import Regression, assert_close, changed, plain, replica, trajectories
from torch import nn

from gradnoise.noise.schedule import Annealed
from gradnoise.population import L2, SGD, Adam, AdamW, Group, Groups, Population, PopulationError, Training
from gradnoise.population.randomness import seeded
from gradnoise.study.canonical import canonical, restore

DECAYED = Groups((Group("*bias", AdamW(weight_decay=0.0)),), rest=AdamW(weight_decay=0.3))
MIXED = Groups([Group(("0.weight",), SGD(0.9), lr=3.0), Group("0.*", L2(SGD(), 0.1))], rest=Adam(0.5))  # type: ignore


def torchs(model: nn.Module, groups: Groups, lr: float) -> list[torch.optim.Optimizer]:
    named = dict(model.named_parameters())
    if groups is DECAYED:
        split = [[p for n, p in named.items() if n.endswith("bias") is bias] for bias in (True, False)]
        decays = [{"params": p, "weight_decay": d} for p, d in zip(split, (0.0, 0.3), strict=True)]
        return [torch.optim.AdamW(decays, lr=lr)]
    return [
        torch.optim.SGD([named.pop("0.weight")], lr=3 * lr, momentum=0.9),
        torch.optim.SGD([named.pop("0.bias")], lr=lr, weight_decay=0.1),
        torch.optim.Adam(named.values(), lr=lr, betas=(0.5, 0.999)),
    ]


@pytest.mark.parametrize("groups", [DECAYED, MIXED])
def test_groups_train_as_those_of_torch(groups):
    runs = [replica(seed, lr=lr, optimizer=groups) for seed, lr in ((0, 0.05), (1, 0.02))]
    experiment = Regression()
    paths = trajectories(Population(experiment, runs, dtype=torch.float64), 6)
    for i, run in enumerate(runs):
        with seeded(run.seed_for("init")):
            model = plain().double()
        optimizers = torchs(model, groups, run.training.rate(0))
        for t in range(6):
            loss = experiment.loss(model, experiment.batch(run.seed_for("batches"), t, None), None)  # type: ignore
            model.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            theta = torch.cat([p.detach().flatten() for p in model.parameters()])
            assert torch.allclose(paths[i][t], theta, rtol=1e-10, atol=1e-12)


def test_one_rule_for_all_is_that_rule_with_clip_and_noise():
    run = replica(0, lr=0.05, clip=0.5, noise=Annealed(0.1), optimizer=Adam())
    grouped = changed(run, optimizer=Groups((Group("2.*", Adam()),), rest=Adam()))
    one, other = (trajectories(Population(Regression(), [r], dtype=torch.float64), 5) for r in (run, grouped))
    assert_close(one, other)


def test_a_checkpoint_goes_on():
    run = replica(0, lr=0.05, optimizer=MIXED)
    whole, first, second = (Population(Regression(), [run]) for _ in range(3))
    for _ in range(4):
        whole.step()
    for _ in range(2):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.step()
    assert torch.equal(whole.modules.theta, second.modules.theta)


def test_a_pattern_without_a_parameter():
    run = replica(0, optimizer=Groups((Group("0.wieght", SGD()),), rest=SGD()))
    message = r"a group of parameters names '0.wieght', .*0.weight, 0.bias, .*did you mean '0.weight'"
    with pytest.raises(PopulationError, match=message):
        Population(Regression(), [run])
    with pytest.raises(ValueError, match=r"lr = 0 of a group is not a finite number > 0"):
        Group("*", SGD(), lr=0)


def test_a_configuration_keeps_groups():
    config = {"optimizer": MIXED}
    assert restore(canonical(config)) == config
    assert Training(optimizer=MIXED).optimizer is MIXED
    assert Groups((Group("*bias", "sgd"),), rest=torch.optim.AdamW) == Groups((Group("*bias", SGD()),), AdamW())  # type: ignore
