"""A study whose runs would not be pairs, or that would be slow, says so before anything is trained."""

import random

import numpy as np
import pytest
import torch
from support.small import Toy, small
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradnoise.population import Population, PopulationError, Replica, Training
from gradnoise.population.fallbacks import SlowOperation
from gradnoise.population.purity import states
from gradnoise.study import Options, Store, dry_run, run_study

OPTIONS = Options(workers=1, chunk=8)
X = torch.linspace(-1.0, 1.0, 80).view(20, 4)


class TorchGlobal(Toy):
    def batch(self, seed, t, config):
        x = torch.randn(5, 4)
        return x, x.sum(1)


class NumpyGlobal(Toy):
    def batch(self, seed, t, config):
        x, y = super().batch(seed, t, config)
        return x + float(np.random.rand()), y


class PythonGlobal(Toy):
    def batch(self, seed, t, config):
        x, y = super().batch(seed, t, config)
        return x[torch.tensor([random.randrange(5) for _ in range(5)])], y


class Shuffled(Toy):
    """The usual loop over a DataLoader."""

    def __init__(self) -> None:
        super().__init__()
        self.loader = DataLoader(TensorDataset(X, X.sum(1)), batch_size=5, shuffle=True)
        self.iterator = iter(self.loader)

    def batch(self, seed, t, config):
        try:
            return tuple(next(self.iterator))
        except StopIteration:
            self.iterator = iter(self.loader)
            return tuple(next(self.iterator))


class Unshuffled(Shuffled):
    """No random number at all: which minibatch comes depends on who asked before."""

    def __init__(self) -> None:
        super().__init__()
        self.loader = DataLoader(TensorDataset(X, X.sum(1)), batch_size=5)
        self.iterator = iter(self.loader)


class OwnGenerator(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(0)

    def batch(self, seed, t, config):
        x = torch.tensor(self.rng.normal(size=(5, 4)))
        return x, x.sum(1)


class NewOrderEachEpoch(OwnGenerator):
    """Pure within an epoch, and another order whenever one begins."""

    epoch = -1

    def batch(self, seed, t, config):
        if t // 4 != self.epoch:
            self.epoch, self.order = t // 4, torch.tensor(self.rng.permutation(20))
        rows = self.order[5 * (t % 4) : 5 * (t % 4) + 5]
        return X[rows], X[rows].sum(1)


class HeldOut(Toy):
    def held_out(self, config):
        return torch.randn(5, 4)


class Weights(Toy):
    def model(self, config):
        model = super().model(config)
        with torch.no_grad():
            model[0].weight.add_(torch.tensor(np.random.default_rng().normal()))
        return model


class Remembers(Toy):
    """A mean over all that was seen, which lies outside of the model."""

    seen = 1.0

    def loss(self, model, batch, config):
        self.seen += 1.0
        return super().loss(model, batch, config) * self.seen


class Evaluations(Toy):
    """A mean over all evaluations, kept in the experiment."""

    def evaluate(self, model, held_out, config):
        self.asked = getattr(self, "asked", 0) + 1
        found = super().evaluate(model, held_out, config)
        return found | {"error": found["error"] / self.asked}


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        (TorchGlobal, "toy.batch draws from the global random numbers of torch"),
        (NumpyGlobal, "toy.batch draws from the global random numbers of numpy"),
        (PythonGlobal, "toy.batch draws from the global random numbers of random"),
        (Shuffled, "toy.batch "),
        (Unshuffled, "different data.*DataLoader"),
        (OwnGenerator, "different data for the same seed and update"),
        (NewOrderEachEpoch, "different data for the same seed and update"),
        (HeldOut, "toy.held_out returned different data when called again"),
        (Weights, "toy.model returned different weights for the same seed"),
        (
            Evaluations,
            r"toy.evaluate returned error = .* for a model of which it returned .* before; it keeps a counter",
        ),
        (Remembers, "the loss mixes replicas or keeps state outside the model"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_is_no_function_of_its_seed_is_refused(tmp_path, experiment, message):
    with pytest.raises(PopulationError, match=message):
        run_study(small(experiment()), tmp_path, options=OPTIONS)
    with Store(tmp_path) as store:
        assert not store.counts(), "nothing was trained"


def test_global_random_numbers_that_are_seeded_each_time_are_pure(tmp_path):
    class Seeded(Toy):
        def batch(self, seed, t, config):
            torch.manual_seed((seed + t) % 2**32)
            np.random.seed((seed + t) % 2**32)
            x = torch.randn(5, 4) + float(np.random.rand())
            return x, x.sum(1)

    assert len(run_study(small(Seeded()), tmp_path, options=OPTIONS).trials) == 8


def test_weights_from_any_global_generator_belong_to_the_replica():
    class Mixed(Toy):
        def model(self, config):
            model = super().model(config)
            with torch.no_grad():
                model[0].bias.fill_(np.random.rand() + random.random())
            return model

    before = states()
    one, two = (Population(Mixed(), [Replica(s, Training()) for s in seeds]).modules.theta for seeds in ((0, 1), (1,)))
    assert torch.equal(one[1], two[0]) and not torch.equal(one[0], one[1])
    assert states() == before


class Late(Toy):
    """Draws at the end of an epoch alone."""

    def batch(self, seed, t, config):
        x, y = super().batch(seed, t, config)
        return (x[torch.randperm(5)], y) if t == 7 else (x, y)


def test_a_draw_that_comes_later_is_found_when_it_comes(tmp_path):
    with pytest.raises(PopulationError, match="draws from the global random numbers of torch"):
        run_study(small(Late()), tmp_path, options=OPTIONS)


# Speed


class Deciding(Toy):
    def loss(self, model, batch, config):
        loss = super().loss(model, batch, config)
        return loss if loss.item() > 0 else -loss


class Chooses(Toy):
    """Runs in one program as long as all replicas share the minibatch."""

    def loss(self, model, batch, config):
        x, y = batch
        rows = torch.nonzero(x[:, 0] < 9.0).flatten()
        return super().loss(model, (x[rows], y[rows]), config)


class Attention(Toy):
    def model(self, config):
        return nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 1)])

    def loss(self, model, batch, config):
        x, y = batch
        q = model[0](x)[None, None]
        attended = nn.functional.scaled_dot_product_attention(q, q, q)[0, 0]
        return (model[1](attended).squeeze(-1) - y).square().mean()

    def evaluate(self, model, held_out, config):
        return {"error": model[1](model[0](held_out)).square().mean()}


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        (Deciding(), "toy: loss runs replica by replica, not as one program, which is slow: vmap cannot run it"),
        (Chooses(), "toy: loss runs replica by replica, not as one program, which is slow: vmap cannot run it"),
        (Attention(), "toy: loss is slower than it might be: vmap has no rule for aten::_scaled_dot_product"),
    ],
    ids=["a loop", "a loop where minibatches differ", "a loop within vmap"],
)
def test_a_study_says_what_makes_it_slow(tmp_path, experiment, said):
    asked = small(experiment, seeds=6)  # enough to decide, of which nothing is said
    (note,) = dry_run(asked, tmp_path, OPTIONS).notes
    assert note.startswith(said)
    run_study(asked, tmp_path, options=OPTIONS)
    with Store(tmp_path, readonly=True) as store:
        assert [e.sentence for e in store.events()] == [note]
    run_study(asked, tmp_path, options=OPTIONS)
    with Store(tmp_path, readonly=True) as store:
        assert len(store.events()) == 1, "it is said once in the report"
    assert dry_run(small(seeds=6), tmp_path / "other", OPTIONS).notes == ()


def test_a_population_warns_once_of_an_operation_that_vmap_runs_in_a_loop():
    with pytest.warns(
        SlowOperation, match="^loss is slower than it might be: vmap has no rule for aten::_scaled"
    ) as said:
        population = Population(Attention(), [Replica(s, Training()) for s in range(2)])
        for _ in range(3):
            population.step()
    assert len(said) == 1
