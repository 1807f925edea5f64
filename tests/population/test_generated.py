"""Data made on the fly, state of a replica beside its weights, and skipped updates."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from scipy import stats
from support.toys import replica
from torch import nn

from gradnoise.noise.schedule import Annealed
from gradnoise.population import Adam, Course, Draws, Experiment, Population

BATCH = 8


@dataclass(frozen=True)
class Config:
    level: float = 1.0


class Rising(Course):
    """Inputs grow whenever the running loss is low: a curriculum in small.

    `poison` holds (lowest t, highest t, level): minibatches of replicas at this level or above are nan there.
    """

    generates = True

    def __init__(self, poison):
        self.poison = poison

    def start(self, config):
        return {"level": torch.tensor(config.level), "low": torch.tensor(0)}

    def batch(self, draws, state, config):
        x = state["level"][:, None, None] * (2 * draws.uniform("x", BATCH, 3) - 1)
        first, last, level = self.poison
        bad = (state["level"] >= level) & (first <= draws.t <= last)
        return {"x": torch.where(bad[:, None, None], torch.nan, x), "y": x.sum(-1)}

    def after(self, state, observed, t, config):
        rises = observed["error"] < 0.5
        return {"level": torch.where(rises, state["level"] * 1.1, state["level"]), "low": state["low"] + rises}

    def recorded(self, state):
        return {"level": state["level"]}


class Growing(Experiment):
    """Linear regression on inputs that grow."""

    name = "growing"
    Config: ClassVar[type] = Config
    replica_keys = frozenset({"level"})
    patience = 3

    def __init__(self, poison=(0, -1, 0.0)):
        self.course = Rising(poison)

    def model(self, config):
        return nn.Linear(3, 1)

    def loss(self, model, batch, config):
        made, state = batch
        assert state["level"].shape == ()
        error = (model(made["x"])[..., 0] - made["y"]).square().mean()
        return error, {"error": error}

    def evaluate(self, model, held_out, config):
        return {"distance": (model.weight - 1).square().sum()}


def replicas(count=4):
    return [
        replica(
            i // 2,
            lr=0.05,
            noise=Annealed(0.1) if i % 2 else None,
            optimizer=Adam(),
            config=Config(level=1.0 + i),
        )
        for i in range(count)
    ]


def population(members=None, experiment=None, dtype=torch.float64):
    return Population(experiment or Growing(), members or replicas(), dtype=dtype)


def course(engine):
    """The state of the course, [P, ...] each."""
    return engine.state_dict()["course"]


def train(engine, steps):
    for _ in range(steps):
        engine.step()
    return engine


def test_a_replica_alone_and_in_a_population():
    together = train(population(), 40)
    for i, member in enumerate(replicas()):
        alone = train(population([member]), 40)
        torch.testing.assert_close(alone.modules.theta[0], together.modules.theta[i], rtol=0, atol=1e-12)
        for name, x in course(together).items():
            torch.testing.assert_close(course(alone)[name][0], x[i])
    assert (course(together)["low"] > 0).all(), "the curriculum must have moved"


def test_resumed_is_uninterrupted():
    whole, first = train(population(), 30), train(population(), 17)
    second = population()
    second.load_state_dict({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in first.state_dict().items()})
    train(second, 13)
    assert torch.equal(second.modules.theta, whole.modules.theta)
    assert all(torch.equal(course(second)[n], x) for n, x in course(whole).items())


def test_telemetry_shows_recorded_state_and_skipped_updates():
    engine = train(population(), 5)
    found = engine.telemetry()
    assert torch.equal(found["level"], course(engine)["level"])
    assert found["skipped"].tolist() == [0, 0, 0, 0]


def everything(engine):
    """All tensors that an update may change, [P, ...] each."""
    state = engine.state_dict()
    return [state["theta"], *state["optimizer"].values(), *state["course"].values()]


def test_a_non_finite_update_changes_nothing_of_its_replica_alone():
    engine, healthy = population(experiment=Growing(poison=(5, 6, 4.0))), population()
    train(engine, 5), train(healthy, 5)
    before = [x[3].clone() for x in everything(engine)]
    train(engine, 2), train(healthy, 2)
    after = [x[3] for x in everything(engine)]
    assert all(map(torch.equal, before, after))
    assert torch.equal(engine.modules.theta[:3], healthy.modules.theta[:3])
    assert engine.telemetry()["skipped"].tolist() == [0, 0, 0, 2]
    train(engine, 5)
    assert engine.alive == [0, 1, 2, 3]
    assert torch.isfinite(engine.modules.theta).all()
    assert not torch.equal(engine.modules.theta[3], before[0])


def test_patience_ends():
    engine, healthy = population(experiment=Growing(poison=(5, 99, 4.0))), population()
    train(engine, 12), train(healthy, 12)
    engine.settle()
    assert engine.diverged == {3: 7}
    assert torch.equal(engine.modules.theta, healthy.modules.theta[:3])


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


def test_an_experiment_without_data():
    class Empty(Growing):
        course = None

        def __init__(self):
            pass

    with pytest.raises(NotImplementedError, match="Empty needs a method `batch`, or a course that generates"):
        population(experiment=Empty()).step()


def test_a_course_that_promises_data_and_makes_none():
    class Idle(Rising):
        batch = Course.batch

    experiment = Growing()
    experiment.course = Idle(())
    with pytest.raises(NotImplementedError, match="Idle says generates = True and has no method `batch`"):
        population(experiment=experiment).step()
