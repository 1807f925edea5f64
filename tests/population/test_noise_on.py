"""Noise on a part of the coordinates: where the gradient is not zero, or on parameters that are named."""

import dataclasses
import itertools
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from gradnoise import Annealed, Fixed, Relative
from gradnoise.population import Experiment, Population, PopulationError, Replica, Training

WORDS, UNITS = 7, 3
USED = (1, 4)


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(WORDS, UNITS))
        self.weight = nn.Parameter(torch.randn(UNITS))


class Lookups(Experiment):
    """Fits a number to the words that occur; only two of the words ever do."""

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    name = "lookups"
    same_batches = True

    def model(self, config):
        return Embedded()

    def batch(self, seed, t, config):
        return torch.tensor(USED)

    def loss(self, model, batch, config):
        return (torch.index_select(model.table, 0, batch) @ model.weight - 1).square().sum()

    def evaluate(self, model, held_out, config):
        return {"size": model.table.square().mean()}


def trained(*settings: Training, steps=3, seeds=None) -> Population:
    seeds = [0] * len(settings) if seeds is None else seeds
    replicas = [Replica(seed, s) for seed, s in zip(seeds, settings, strict=True)]
    population = Population(Lookups(), replicas, dtype=torch.float64)
    for _ in range(steps):
        population.step()
    return population


def test_words_that_do_not_occur_keep_their_rows():
    start = trained(Training(lr=0.01), steps=0).modules.theta[0]
    noise = {"lr": 0.01, "noise": Annealed(0.1)}
    everywhere, present, none = trained(
        Training(**noise), Training(**noise, noise_on="nonzero"), Training(lr=0.01)
    ).modules.theta
    absent = torch.ones(len(start), dtype=torch.bool).view(-1)
    for word in USED:
        absent[word * UNITS : (word + 1) * UNITS] = False
    absent[WORDS * UNITS :] = False  # the weight always has a gradient
    assert torch.equal(present[absent], start[absent]) and torch.equal(none[absent], start[absent])
    assert (everywhere[absent] != start[absent]).all()
    assert (present[~absent] != none[~absent]).all()


@pytest.mark.parametrize("noise_first", [False, True])
def test_noise_where_there_is_a_gradient_is_the_same_noise(noise_first):
    """One update: the numbers drawn for a coordinate do not depend on which others get noise."""
    options = {"lr": 0.5, "noise": Fixed(0.3), "clip": 1e9, "noise_first": noise_first}
    start = trained(Training(), steps=0).modules.theta[0]
    everywhere, present = trained(Training(**options), Training(**options, noise_on="nonzero"), steps=1).modules.theta
    moved = present != start
    assert torch.equal(present[moved], everywhere[moved])
    assert moved.sum() == len(USED) * UNITS + UNITS


def test_a_neighbour_of_the_other_kind_changes_nothing():
    noisy = Training(lr=0.1, noise=Annealed(0.1), clip=0.5)
    sparse = Training(lr=0.1, noise=Annealed(0.1), clip=0.5, noise_on="nonzero")
    together = trained(noisy, sparse).modules.theta
    assert torch.equal(together[0], trained(noisy).modules.theta[0])
    assert torch.equal(together[1], trained(sparse).modules.theta[0])


def test_without_noise_it_says_nothing():
    assert torch.equal(
        trained(Training(lr=0.1, noise_on="nonzero")).modules.theta, trained(Training(lr=0.1)).modules.theta
    )


def test_a_checkpoint_of_the_other_kind_is_refused():
    settings = {"lr": 0.1, "noise": Annealed(0.1)}
    saved = trained(Training(**settings)).state_dict()
    with pytest.raises(PopulationError, match="noise_on nonzero"):
        trained(Training(**settings, noise_on="nonzero")).load_state_dict(saved)
    assert "noise_on" not in saved["replicas"][0]


# --- by name --------------------------------------------------------------------------------------------

NOISE = {"lr": 0.5, "noise": Fixed(0.3), "clip": 1e9}
TABLE = slice(0, WORDS * UNITS)
WEIGHT = slice(WORDS * UNITS, None)


@pytest.mark.parametrize("noise_first", [False, True])
@pytest.mark.parametrize(
    ("patterns", "noisy", "quiet"),
    [
        (("table",), TABLE, WEIGHT),
        (("!table",), WEIGHT, TABLE),
        (("*", "!w*"), TABLE, WEIGHT),
        (["weig*"], WEIGHT, TABLE),
    ],
)
def test_parameters_that_are_named_get_the_noise_that_they_would_have_anyway(patterns, noisy, quiet, noise_first):
    options = {**NOISE, "noise_first": noise_first}
    everywhere, chosen, none = trained(
        Training(**options), Training(**options, noise_on=patterns), Training(lr=0.5, clip=1e9), steps=1
    ).modules.theta
    assert torch.equal(chosen[noisy], everywhere[noisy]) and torch.equal(chosen[quiet], none[quiet])
    assert (chosen[noisy] != none[noisy]).all()


def test_the_clip_sees_all_parameters_whoever_gets_noise():
    options = {"lr": 0.5, "clip": 1e-3}
    none, chosen = trained(
        Training(**options), Training(**options, noise=Fixed(0.3), noise_on=("weight",)), steps=1
    ).modules.theta
    assert torch.equal(none[TABLE], chosen[TABLE])


@pytest.mark.parametrize("noise", [Annealed(0.1), Relative(0.3)])
@pytest.mark.parametrize("anti_pgd", [False, True])
def test_a_replica_with_noise_by_name_alone_is_the_same_among_others(noise, anti_pgd):
    several = [
        Training(lr=0.1, noise=noise, noise_on=on, clip=0.5, anti_pgd=anti_pgd and on != "nonzero")
        for on in ("all", ("table",), "nonzero", ("!table",))
    ]
    together = trained(*several).modules.theta
    assert all(torch.equal(together[i], trained(one).modules.theta[0]) for i, one in enumerate(several))
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(together, 2))


def test_relative_noise_by_name_has_the_norm_that_is_asked_for():
    """rho times the norm of the gradient of what gets it, as with `attach(where=)`."""
    noise = {"noise": Relative(0.5, gamma=0.0), "noise_on": ("table",)}
    start, none, noisy = (
        trained(*[Training(lr=1.0, **more)] * 200, steps=steps, seeds=range(200)).modules.theta
        for steps, more in ((0, {}), (1, {}), (1, noise))
    )
    ratio = (noisy - none).norm(dim=1) / (start - none)[:, TABLE].norm(dim=1)
    assert ratio.square().mean().sqrt().item() == pytest.approx(0.5, rel=0.05)


def test_noise_on_the_weights_is_not_chosen_by_name():
    options = {"lr": 0.1, "weight_noise": Fixed(0.1)}
    assert torch.equal(*trained(Training(**options), Training(**options, noise_on=("table",)), steps=2).modules.theta)


def test_resumed_with_noise_by_name():
    settings = [Training(lr=0.1, noise=Annealed(0.1), noise_on=("table",)), Training(lr=0.1, noise=Annealed(0.1))]
    saved = trained(*settings, steps=2).state_dict()
    resumed = trained(*settings, steps=0)
    resumed.load_state_dict(saved)
    resumed.step()
    assert torch.equal(resumed.modules.theta, trained(*settings, steps=3).modules.theta)
    other = trained(dataclasses.replace(settings[0], noise_on=("weight",)), settings[1], steps=0)
    with pytest.raises(PopulationError, match="noise_on"):
        other.load_state_dict(saved)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("tabel",), "no parameter is called so; did you mean 'table'.*; there are table, weight"),
        (("!tabel",), "'!tabel', and no parameter is called so; did you mean 'table'"),
        (("!*",), "leaves no parameter with noise"),
        (("table", "!table"), "leaves no parameter with noise"),
    ],
)
def test_patterns_that_name_nothing_are_refused(patterns, message):
    with pytest.raises(PopulationError, match=message):
        trained(Training(noise=Annealed(0.1), noise_on=patterns))


@pytest.mark.parametrize("patterns", [(), ("",), ("!",), ("table", "")])
def test_no_pattern_and_empty_ones_are_refused(patterns):
    with pytest.raises(PopulationError, match="at least one pattern of parameters' names"):
        Training(noise_on=patterns)


def test_other_names_are_refused():
    with pytest.raises(
        PopulationError, match=r"noise_on = 'non-zero': allowed are 'all' and 'nonzero', and patterns.*; did you mean"
    ):
        Training(noise_on="non-zero")
