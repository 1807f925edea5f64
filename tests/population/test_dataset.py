"""Minibatches of a data set that is read by index are a function of (seed, t), its random transforms too."""

import pytest
import torch
from support.toys import FEATURES, Regression, assert_close, replica, trajectories

from gradnoise.population import Loaded, Minibatches, Population

X = torch.randn(20, FEATURES, generator=torch.Generator().manual_seed(0))
Y = X.sum(1)


class Pictures(torch.utils.data.Dataset):
    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, float]:
        return X[i] + self.noise * torch.randn(FEATURES), Y[i].item()


@pytest.mark.parametrize("t", [0, 2, 7])
def test_the_examples_are_those_of_minibatches(t):
    x, y = Loaded(Pictures(), 6)(5, t)
    same_x, same_y = Minibatches((X, Y), 6)(5, t)
    assert torch.equal(x, same_x) and torch.allclose(y.float(), same_y)


def test_random_transforms_are_a_function_of_seed_and_update():
    loaded, state = Loaded(Pictures(1.0), 6), torch.get_rng_state()
    first, again, later, other = loaded(5, 0)[0], loaded(5, 0)[0], loaded(5, 1)[0], loaded(6, 0)[0]
    assert torch.equal(first, again) and torch.equal(torch.get_rng_state(), state)
    assert len({str(x.tolist()) for x in (first, later, other)}) == 3


def test_a_replica_reads_what_it_would_alone():
    class Read(Regression):
        pictures = Pictures(0.1)

        def batch(self, seed, t, config):
            return Loaded(self.pictures, 6)(seed, t)

    runs = [replica(0, lr=0.05), replica(1, lr=0.1)]
    together = trajectories(Population(Read(), runs, dtype=torch.float64), 5)
    for i, run in enumerate(runs):
        assert_close({i: together[i]}, {i: trajectories(Population(Read(), [run], dtype=torch.float64), 5)[0]})


def test_a_minibatch_that_does_not_fit():
    with pytest.raises(ValueError, match=r"minibatch size 21 is not in 1..20, the number of examples"):
        Loaded(Pictures(), 21)
