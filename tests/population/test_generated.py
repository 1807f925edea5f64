"""Data made on the fly, state of a replica beside its weights, skipped updates and early ends."""

from dataclasses import dataclass, field

import pytest
import torch
from scipy import stats
from torch import nn

from gradnoise.noise.schedule import Annealed
from gradnoise.population import Adam, Draws, Experiment, Population, Replica

BATCH = 8


@dataclass
class Growing(Experiment):
    """Linear regression whose inputs grow whenever the running loss is low: a curriculum in small.

    `poison` holds (lowest t, highest t, level): minibatches of replicas at this level or above are nan there.
    """

    poison: tuple[int, int, float] = (0, -1, 0.0)
    goal: float = -1.0
    name: str = "growing"
    patience = 3
    watched = ("level",)
    confirmed: list = field(default_factory=list)

    def model(self, config):
        return nn.Linear(3, 1)

    def state(self, config):
        return {"level": torch.tensor(config.get("level", 1.0)), "low": torch.tensor(0)}

    def generate(self, draws, state, config):
        x = state["level"][:, None, None] * (2 * draws.uniform("x", BATCH, 3) - 1)
        first, last, level = self.poison
        bad = (state["level"] >= level) & (first <= draws.t <= last)
        return {"x": torch.where(bad[:, None, None], torch.nan, x), "y": x.sum(-1)}

    def loss(self, model, batch):
        error = (model(batch["x"])[..., 0] - batch["y"]).square().mean()
        return error, {"error": error}

    def updated(self, state, report, t):
        rises = report["error"] < 0.5
        return {"level": torch.where(rises, state["level"] * 1.1, state["level"]), "low": state["low"] + rises}

    def evaluate(self, model):
        return {"distance": (model.weight - 1).square().sum()}

    def finished(self, metrics):
        return metrics["distance"] < self.goal

    def confirm(self, model):
        self.confirmed.append(1)
        return {"distance": (model.weight - 1).square().sum() + model.bias.square().sum(), "seen": model.weight.sum()}


def replicas(count=4):
    return [
        Replica(i // 2, 0.05, noise=Annealed(0.1) if i % 2 else None, config={"level": 1.0 + i}) for i in range(count)
    ]


def population(members=None, experiment=None, dtype=torch.float64):
    return Population(experiment or Growing(), members or replicas(), optimizer=Adam(), dtype=dtype)


def train(engine, steps):
    for _ in range(steps):
        engine.step()
    return engine


def test_a_replica_alone_and_in_a_population():
    together = train(population(), 40)
    for i, replica in enumerate(replicas()):
        alone = train(population([replica]), 40)
        torch.testing.assert_close(alone.rows.theta[0], together.rows.theta[i], rtol=0, atol=1e-12)
        for name, x in together.own.items():
            torch.testing.assert_close(alone.own[name][0], x[i])
    assert (together.own["low"] > 0).all(), "the curriculum must have moved"


def test_resumed_is_uninterrupted():
    whole, first = train(population(), 30), train(population(), 17)
    second = population()
    second.load_state_dict({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in first.state_dict().items()})
    train(second, 13)
    assert torch.equal(second.rows.theta, whole.rows.theta)
    assert all(torch.equal(second.own[n], x) for n, x in whole.own.items())


def test_telemetry_shows_watched_state_and_skipped_updates():
    engine = train(population(), 5)
    found = engine.telemetry()
    assert torch.equal(found["level"], engine.own["level"])
    assert found["skipped"].tolist() == [0, 0, 0, 0]


def test_a_non_finite_update_changes_nothing_of_its_replica_alone():
    engine, healthy = population(experiment=Growing(poison=(5, 6, 4.0))), population()
    train(engine, 5), train(healthy, 5)
    before = [x[3].clone() for x in (engine.rows.theta, *engine.state.values(), *engine.own.values())]
    train(engine, 2), train(healthy, 2)
    after = [x[3] for x in (engine.rows.theta, *engine.state.values(), *engine.own.values())]
    assert all(map(torch.equal, before, after))
    assert torch.equal(engine.rows.theta[:3], healthy.rows.theta[:3])
    assert engine.telemetry()["skipped"].tolist() == [0, 0, 0, 2]
    train(engine, 5)
    assert engine.alive == [0, 1, 2, 3]
    assert torch.isfinite(engine.rows.theta).all()
    assert not torch.equal(engine.rows.theta[3], before[0])


def test_patience_ends():
    engine, healthy = population(experiment=Growing(poison=(5, 99, 4.0))), population()
    train(engine, 12), train(healthy, 12)
    assert engine.diverged == {3: 7}
    assert torch.equal(engine.rows.theta, healthy.rows.theta[:3])


def test_finished_replicas_leave_and_others_do_not_notice():
    engine, healthy = population(), population()
    train(engine, 20), train(healthy, 20)
    metrics = {"distance": torch.tensor([0.0, 9.0, 0.0, 9.0])}
    engine.experiment.goal = 1.0
    stay = engine.retire(metrics)
    assert stay.tolist() == [1, 3]
    assert engine.alive == [1, 3]
    assert engine.finished == {0: 20, 2: 20}
    train(engine, 10), train(healthy, 10)
    torch.testing.assert_close(engine.rows.theta, healthy.rows.theta[[1, 3]], rtol=0, atol=1e-12)


def test_early_stop_can_be_declined():
    members = [Replica(0, 0.1, early_stop=False), Replica(1, 0.1)]
    engine = population(members, Growing(goal=9.0))
    engine.retire({"distance": torch.zeros(2)})
    assert engine.alive == [0]


def test_only_those_that_look_finished_are_asked_to_confirm():
    engine = train(population(), 3)
    plain = engine.evaluate()["distance"]
    assert not engine.experiment.confirmed
    engine.experiment.goal = plain.sort().values[1].item() + 1e-9  # two look finished
    found = engine.evaluate()
    asked = plain < engine.experiment.goal
    assert torch.isnan(found["seen"]).tolist() == (~asked).tolist()
    assert torch.equal(found["distance"][~asked], plain[~asked])
    assert (found["distance"][asked] > plain[asked]).all()


def test_draws_are_rows_of_their_seeds():
    draws = Draws([5, 9, 5], t=3)
    x = draws.uniform("a", 2, 7)
    assert x.shape == (3, 2, 7)
    assert torch.equal(x[0], x[2])
    assert not torch.equal(x[0], x[1])
    assert torch.equal(x[1], Draws([9], t=3).uniform("a", 2, 7)[0])
    for other in (Draws([5], t=4).uniform("a", 2, 7), Draws([5], t=3).uniform("b", 2, 7)):
        assert not torch.equal(x[0], other[0])


def test_draws_follow_their_laws():
    draws = Draws([1], t=0)
    assert stats.kstest(draws.uniform("u", 20_000)[0].numpy(), "uniform").pvalue > 1e-4
    assert stats.chisquare(draws.integers("i", 7, 20_000)[0].bincount(minlength=7).numpy()).pvalue > 1e-4
    orders = draws.permutations("p", 3, 6000)[0]
    assert torch.equal(orders.sort(-1).values, torch.arange(3).expand(6000, 3))
    assert stats.chisquare((orders @ torch.tensor([9, 3, 1])).unique(return_counts=True)[1].numpy()).pvalue > 1e-4


def test_an_experiment_without_data():
    class Empty(Growing):
        generate = Experiment.generate

    with pytest.raises(NotImplementedError, match="needs a method `batch` or `generate`"):
        population(experiment=Empty()).step()
