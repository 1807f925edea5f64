"""Update rules that clip gradients by their own state: after the clipping of `Training`, before the noise."""

from dataclasses import dataclass

import pytest
import torch
from support.toys import Regression, replica

from gradnoise import Annealed, Relative
from gradnoise.population import L2, SGD, Group, Groups, Population
from gradnoise.population.optimizers import before_noise_of

BOUND = 0.03


@dataclass(frozen=True)
class Bounded(SGD):
    """SGD on gradients that are cut to +-0.03 before their noise is added."""

    def before_noise(self, g, state, t):
        g.clamp_(-BOUND, BOUND)


def moved(noise=None, optimizer=None, clip=None) -> torch.Tensor:
    """Return the gradient that reached the optimizer in the first update, with its noise [N]."""
    run = replica(0, lr=1.0, noise=noise, optimizer=optimizer or SGD(), clip=clip)
    population = Population(Regression(), [run], dtype=torch.float64)
    before = population.modules.theta.clone()
    population.step()
    return (before - population.modules.theta)[0]


@pytest.mark.parametrize("clip", [None, 0.2])
def test_the_rules_own_clip_comes_between_clip_and_noise(clip):
    plain, noise = moved(clip=clip), moved(Annealed(1.0), clip=clip) - moved(clip=clip)
    assert plain.abs().max() > BOUND and noise.abs().max() > 1
    cut = plain.clamp(-BOUND, BOUND)
    torch.testing.assert_close(moved(optimizer=Bounded(), clip=clip), cut, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(moved(Annealed(1.0), Bounded(), clip), cut + noise, rtol=1e-9, atol=1e-12)


def test_relative_noise_is_relative_to_what_the_rule_leaves():
    cut, unit = moved(optimizer=Bounded()), moved(Annealed(1.0)) - moved()
    found = moved(Relative(0.5), Bounded()) - cut
    sigma = 0.5 * cut.to(torch.float32).norm().double() / len(cut) ** 0.5
    torch.testing.assert_close(found, sigma * unit, rtol=1e-6, atol=1e-9)


def test_weight_decay_and_groups_keep_it():
    plain, cut = moved(), moved(optimizer=Bounded())
    torch.testing.assert_close(moved(optimizer=L2(Bounded(), 0.0)), cut, rtol=1e-9, atol=1e-12)
    grouped = moved(optimizer=Groups((Group(("2.*",), Bounded()),), rest=SGD()))
    names = Population(Regression(), [replica(0)]).modules.names
    offsets = Population(Regression(), [replica(0)]).modules.offsets
    first = offsets[next(i for i, name in enumerate(names) if name.startswith("2."))]
    expected = torch.cat([plain[:first], cut[first:]])
    assert not torch.allclose(plain[first:], cut[first:])
    torch.testing.assert_close(grouped, expected, rtol=1e-9, atol=1e-12)


def test_rules_without_one_have_none():
    groups = Groups((Group(("2.*",), SGD(0.9)),), rest=SGD())
    assert [before_noise_of(rule) for rule in (SGD(), L2(SGD(), 0.1), groups.bound(("0.w", "2.w"), (0, 1, 2)))] == [
        None
    ] * 3
