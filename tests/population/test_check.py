"""The check of an experiment passes a good one and gives each fault its one clear error."""

import itertools

import pytest
import torch
from support.toys import Net, Regression, net_experiment, plain
from torch import nn

from gradnoise.population import PopulationError, check_experiment


def test_a_good_experiment():
    notes = check_experiment(Regression())
    assert notes["loss runs by"] == notes["evaluate runs by"] == "vmap"
    assert len(notes["mean"].split(", ")) == 3 and "nan" not in notes["size"]


def test_dropout_batch_norm_and_a_configuration():
    seen = []

    class Watched(Regression):
        def batch(self, seed, t, config):
            seen.append(config.width)
            return super().batch(seed, t, config)

    gains = []
    check_experiment(
        Watched(lambda config: gains.append(config.gain) or Net(config.gain, config.width)),
        {"gain": 2.0, "width": 6, "dropout": 0.3},
    )
    assert set(seen) == {6} and set(gains) == {2.0}


def test_a_configuration_with_a_typo():
    with pytest.raises(PopulationError, match="regression has no setting 'gian'; did you mean 'gain'"):
        check_experiment(net_experiment(), {"gian": 2.0})


def test_an_experiment_that_vmap_cannot_run_says_why():
    class Deciding(Regression):
        def loss(self, model, batch, config):
            loss = super().loss(model, batch, config)
            return loss if loss.item() > 0 else -loss

    notes = check_experiment(Deciding())
    assert "item" in notes["loss runs by"] and notes["evaluate runs by"] == "vmap"


def test_the_users_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    check_experiment(net_experiment())
    assert torch.equal(torch.randn(3), expected)


# Faults


class ImpureBatch(Regression):
    counter = itertools.count()

    def batch(self, seed, t, config):
        x, y = super().batch(seed, t, config)
        return x + next(self.counter), y


class TextBatch(Regression):
    def batch(self, seed, t, config):
        return [*super().batch(seed, t, config), "a label"]


class NanLoss(Regression):
    def loss(self, model, batch, config):
        return super().loss(model, batch, config) * torch.nan


class LateNan(Regression):
    """Diverges at the third update."""

    def batch(self, seed, t, config):
        x, y = super().batch(seed, t, config)
        return (x * torch.nan if t == 2 else x), y


class VectorLoss(Regression):
    def loss(self, model, batch, config):
        x, y = batch
        return (model(x) - y) ** 2


class TakenMetric(Regression):
    def evaluate(self, model, held_out, config):
        return {"size": model(held_out).mean(), "train_loss": model(held_out).mean()}


class VectorMetric(Regression):
    def evaluate(self, model, held_out, config):
        return super().evaluate(model, held_out, config) | {"both": torch.ones(2)}


class NoMetric(Regression):
    def evaluate(self, model, held_out, config):
        return {}


class TextMetric(Regression):
    """A metric for the eye."""

    def evaluate(self, model, held_out, config):
        return {"first": f"{super().evaluate(model, held_out, config)['mean']}"}


class TensorMetric(Regression):
    def evaluate(self, model, held_out, config):
        return super().evaluate(model, held_out, config)["mean"]


class NanMetric(Regression):
    def evaluate(self, model, held_out, config):
        return super().evaluate(model, held_out, config) | {"ratio": torch.zeros(()) / 0}


class Forgetful(nn.Module):
    """A layer that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = plain(), nn.Linear(2, 2)

    def forward(self, x):
        return self.used(x)


class Mixing(Regression):
    """Keeps state outside the model: what other replicas did in between changes the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def batch(self, seed, t, config):
        self.calls += 1
        return super().batch(seed, t, config)

    def loss(self, model, batch, config):
        return super().loss(model, batch, config) * (1 + self.calls)


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        (ImpureBatch(), "regression.batch returned different data for the same seed and update; draw with a generator"),
        (TextBatch(), "regression.batch returned a str; a batch holds tensors only"),
        (NanLoss(), "not finite within 3 updates at lr = 0.01; try a smaller lr"),
        (LateNan(), "not finite within 3 updates"),
        (VectorLoss(), r"regression.loss returned shape \(6,\); a loss is a scalar"),
        (VectorMetric(), r"regression.evaluate: metric 'both' has shape \(2,\); metrics are tensors of shape \(\)"),
        (TextMetric(), "metric 'first' has type str; metrics are tensors"),
        (NoMetric(), "regression.evaluate returned an empty dict; return a dict of scalar tensors"),
        (TakenMetric(), "regression.evaluate: metric 'train_loss' has the name of a measure of training"),
        (TensorMetric(), "regression.evaluate returned a Tensor; return a dict of scalar tensors"),
        (NanMetric(), "metric 'ratio' is not finite"),
        (Regression(lambda config: Forgetful()), "parameter 'unused.weight' has no part in the loss; freeze it"),
        (Regression(lambda config: "no module"), "regression.model returned str, not an nn.Module"),
        (Regression(lambda config: nn.Flatten(0)), "the model has no trainable parameters"),
        (Mixing(), "another path through its Python code"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Regression) else "",
)
def test_a_fault(experiment, message):
    with pytest.raises(PopulationError, match=message):
        check_experiment(experiment)


def test_too_large_a_learning_rate():
    with pytest.raises(PopulationError, match="at lr = 1e\\+200; try a smaller lr"):
        check_experiment(Regression(), lr=1e200, steps=4)
