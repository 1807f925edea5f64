"""Noise only where a gradient is not zero: rows of an embedding that a minibatch does not use stay as they are."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from gradnoise import Annealed, Fixed
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


def trained(*settings: Training, steps=3) -> Population:
    population = Population(Lookups(), [Replica(0, s) for s in settings], dtype=torch.float64)
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


def test_other_names_are_refused():
    with pytest.raises(PopulationError, match=r"noise_on = 'non-zero': allowed are 'all' and 'nonzero'; did you mean"):
        Training(noise_on="non-zero")
