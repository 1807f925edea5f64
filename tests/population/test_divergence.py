"""A replica that diverges leaves; its neighbours do not notice."""

import math

import pytest
import torch
from support.toys import MIXED, Regression, assert_same, net_experiment, parameters_of, trajectories

from gradnoise.noise.schedule import Annealed, Fixed
from gradnoise.population import Adam, Population, Replica

RUNS = (
    Replica(0, lr=0.05),
    Replica(1, lr=0.1, noise=Annealed(0.1)),
    Replica(2, lr=0.02, clip=0.5),
    Replica(1, lr=0.02, noise=Fixed(0.1)),
)


def population(runs=RUNS, *, poison=None, **options) -> Population:
    return Population(Regression(poison=poison or {}), runs, **({"trace": False} | options))


def test_it_is_recorded_at_its_step_and_leaves():
    engine = population(poison={2: 3})
    paths = trajectories(engine, 6)
    assert engine.diverged == {2: 3} and engine.alive == [0, 1, 3] and engine.t == 6
    assert {i: len(path) for i, path in paths.items()} == {0: 6, 1: 6, 2: 3, 3: 6}
    assert engine.rows.theta.shape[0] == len(engine.sigma()) == len(engine.telemetry()["train_loss"]) == 3
    assert engine.evaluate()["mean"].shape == (3,)


@pytest.mark.parametrize("trace", [False, True])
def test_no_other_bit_changes_in_that_update(trace):
    poisoned, healthy = (population(poison=poison, trace=trace) for poison in ({2: 3}, {}))
    broken, whole = trajectories(poisoned, 4), trajectories(healthy, 4)
    assert len(broken[2]) == 3
    assert_same({i: path[:3] for i, path in broken.items()}, {i: path[:3] for i, path in whole.items()})
    assert_same({i: broken[i] for i in (0, 1, 3)}, {i: whole[i] for i in (0, 1, 3)})


def test_those_of_one_seed_leave_together():
    engine = population(poison={1: 2})
    trajectories(engine, 4)
    assert engine.diverged == {1: 2, 3: 2} and engine.alive == [0, 2]


def test_a_learning_rate_far_too_large():
    # With lr 1e25 the squares of the second update overflow float32.
    runs = [RUNS[0], Replica(5, lr=1e25), RUNS[1], Replica(6, lr=1e25)]
    engine = Population(net_experiment(), runs, trace=False)
    trajectories(engine, 8)
    assert engine.diverged.keys() == {1, 3} and engine.alive == [0, 2]
    assert all(1 <= step < 8 for step in engine.diverged.values())
    assert torch.isfinite(engine.rows.theta).all() and len(engine.masks.masks[0]) == 2


def test_optimizer_state_and_buffers_leave_with_it():
    engine = Population(net_experiment(poison={2: 1}), MIXED, optimizer=Adam(), trace=False)
    trajectories(engine, 1)
    state = {name: x.clone() for name, x in engine.state.items()}
    engine.select(torch.tensor([0, 1, 2, 3, 5, 6]))
    for name, x in engine.state.items():
        assert torch.equal(x, state[name][[0, 1, 2, 3, 5, 6]])
    engine.step()
    per_row = *engine.state.values(), *engine.rows.fixed.values(), engine.lr, engine.limit
    assert {len(x) for x in per_row} == {6}


def test_weights_that_overflow_in_an_update_are_found_by_the_evaluation():
    engine = population([RUNS[0], Replica(5, lr=3e38, noise=Fixed(10.0)), RUNS[1]])
    engine.step()
    assert engine.alive == [0, 1, 2] and not torch.isfinite(engine.rows.theta[1]).all()
    metrics = engine.evaluate()
    assert engine.diverged == {1: 1} and engine.alive == [0, 2]
    assert torch.isfinite(metrics["mean"]).all() and metrics["mean"].shape == (2,)


def test_looking_or_not_it_diverges_at_the_same_step():
    runs = [RUNS[0], Replica(5, lr=3e38, noise=Fixed(10.0))]
    watched, quiet = population(runs), population(runs)
    for _ in range(3):
        watched.step()
        watched.evaluate()
        quiet.step()
    assert watched.diverged == quiet.diverged == {1: 1}
    assert torch.equal(watched.rows.theta, quiet.rows.theta)


def test_telemetry_of_those_who_stay_goes_on():
    poisoned, healthy = population(poison={2: 3}), population()
    trajectories(poisoned, 4)
    trajectories(healthy, 4)
    for name, x in poisoned.telemetry().items():
        assert torch.equal(x, healthy.telemetry()[name][[0, 1, 3]]), name


@pytest.mark.parametrize("trace", [False, True])
def test_when_all_diverge_the_population_ends(trace):
    engine = population(poison={0: 1, 1: 2, 2: 2}, trace=trace)
    trajectories(engine, 2)
    assert engine.alive == [1, 2, 3]
    engine.step()
    assert engine.alive == [] and engine.diverged == {0: 1, 1: 2, 2: 2, 3: 2} and engine.t == 2
    engine.step()  # nothing is left to do
    assert engine.t == 2 and engine.evaluate() == {} and engine.rows.theta.shape[0] == 0
    assert all(x.tolist() == [] for x in engine.telemetry().values())


def test_an_ended_population_can_be_saved_and_restored():
    engine, again = (population(poison={0: 1, 1: 1, 2: 1}) for _ in range(2))
    trajectories(engine, 2)
    again.load_state_dict(engine.state_dict())
    assert again.alive == [] and again.diverged == engine.diverged and again.t == 1
    again.step()
    assert again.evaluate() == {}


def test_a_gradient_can_break_while_the_loss_is_finite():
    class Root(Regression):
        def loss(self, model, batch):
            return (model(batch[0]) * 0).abs().sqrt().mean()  # its slope at 0 is infinite, times 0 is nan

    engine = Population(Root(), RUNS[:1], trace=False)
    engine.step()
    assert engine.diverged == {0: 0} and engine.alive == []


def test_select_keeps_what_it_says():
    engine = population()
    engine.step()
    before = parameters_of(engine)
    engine.select(torch.tensor([3, 0]))
    assert engine.alive == [3, 0] and engine.diverged == {}
    assert_same(parameters_of(engine), {i: before[i] for i in (3, 0)})
    assert engine.lr.flatten().tolist() == pytest.approx([0.02, 0.05])
    assert engine.limit.tolist() == [math.inf, math.inf]
