"""A replica that diverges ends there, and leaves when it is looked at; its neighbours do not notice."""

import pytest
import torch
from support.toys import (
    MIXED,
    Net,
    Regression,
    all_with,
    assert_close,
    assert_same,
    net_experiment,
    parameters_of,
    replica,
    trajectories,
)

from gradnoise.noise.schedule import Annealed, Fixed
from gradnoise.population import Adam, Population

RUNS = (
    replica(0, lr=0.05),
    replica(1, lr=0.1, noise=Annealed(0.1)),
    replica(2, lr=0.02, clip=0.5),
    replica(1, lr=0.02, noise=Fixed(0.1)),
)


def population(runs=RUNS, *, poison=None, **options) -> Population:
    return Population(Regression(poison=poison or {}), runs, **({"trace": False} | options))


def test_it_is_recorded_at_its_step_and_leaves():
    engine = population(poison={2: 3})
    paths = trajectories(engine, 6)
    assert engine.diverged == {2: 3} and engine.alive == [0, 1, 3] and engine.t == 6
    assert {i: len(path) for i, path in paths.items()} == {0: 6, 1: 6, 2: 3, 3: 6}
    assert {len(x) for x in (engine.modules.theta, *engine.telemetry().values())} == {3}
    assert engine.evaluate()["mean"].shape == (3,)


def test_its_row_stays_until_it_is_looked_at():
    engine, watched = (population(poison={2: 3}) for _ in range(2))
    for _ in range(6):
        engine.step()
        watched.step()
        watched.settle()
    assert engine.alive == [0, 1, 2, 3] and engine.diverged == {} and len(engine.modules.theta) == 4
    engine.settle()
    assert engine.alive == [0, 1, 3] and engine.diverged == watched.diverged == {2: 3} and engine.t == 6
    assert_same(parameters_of(engine), parameters_of(watched))
    assert_same(engine.telemetry(), watched.telemetry())


@pytest.mark.parametrize("look", ["evaluate", "state_dict", "settle"])
def test_what_looks_at_it(look):
    engine = population(poison={2: 0})
    engine.step()
    getattr(engine, look)()
    assert engine.alive == [0, 1, 3] and engine.diverged == {2: 0}


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("look_every", [1, 7])
def test_no_other_bit_changes_whenever_it_leaves(trace, look_every):
    """As long as its row is there; later the others' sums may be rounded in another order."""
    poisoned, healthy = (population(poison=poison, trace=trace) for poison in ({2: 3}, {}))
    for t in range(7):
        poisoned.step()
        healthy.step()
        if (t + 1) % look_every == 0:
            poisoned.settle()
        assert torch.equal(poisoned.modules.theta[[0, 1, -1]], healthy.modules.theta[[0, 1, 3]]), t


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
    runs = [RUNS[0], replica(5, lr=1e25), RUNS[1], replica(6, lr=1e25)]
    engine = Population(net_experiment(), runs, trace=False)
    trajectories(engine, 8)
    assert engine.diverged.keys() == {1, 3} and engine.alive == [0, 2]
    assert all(1 <= step < 8 for step in engine.diverged.values())
    assert torch.isfinite(engine.modules.theta).all() and len(masks_of(engine)[0]) == 2


def masks_of(engine: Population) -> list[torch.Tensor]:
    assert engine._masks is not None
    return engine._masks.masks


def test_optimizer_state_and_buffers_leave_with_it():
    engine = Population(net_experiment(poison={3: 1}), all_with(MIXED, optimizer=Adam()), trace=False)
    trajectories(engine, 1)
    state = {name: x.clone() for name, x in engine.state_dict()["optimizer"].items()}
    engine.select([0, 1, 2, 3, 5, 6])
    for name, x in engine.state_dict()["optimizer"].items():
        assert torch.equal(x, state[name][[0, 1, 2, 3, 5, 6]])
    engine.step()
    engine.settle()  # the sixth diverged in this update
    assert engine.diverged == {5: 1}
    per_row = *engine.state_dict()["optimizer"].values(), *engine.modules.fixed.values(), *masks_of(engine)
    assert {len(x) for x in per_row} == {5}


def test_weights_that_overflow_in_an_update_are_found_by_the_evaluation():
    engine = population([RUNS[0], replica(5, lr=3e38, noise=Fixed(10.0)), RUNS[1]])
    engine.step()
    assert engine.alive == [0, 1, 2] and not torch.isfinite(engine.modules.theta[1]).all()
    metrics = engine.evaluate()
    assert engine.diverged == {1: 1} and engine.alive == [0, 2]
    assert torch.isfinite(metrics["mean"]).all() and metrics["mean"].shape == (2,)


def test_looking_or_not_it_diverges_at_the_same_step():
    runs = [RUNS[0], replica(5, lr=3e38, noise=Fixed(10.0))]
    watched, quiet = population(runs), population(runs)
    for _ in range(3):
        watched.step()
        watched.evaluate()
        quiet.step()
    quiet.settle()
    assert watched.diverged == quiet.diverged == {1: 1}
    assert torch.equal(watched.modules.theta, quiet.modules.theta)


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
    engine.settle()
    assert engine.alive == [] and engine.diverged == {0: 1, 1: 2, 2: 2, 3: 2} and engine.t == 3
    engine.step()  # nothing is left to do
    assert engine.t == 3 and engine.evaluate() == {} and engine.modules.theta.shape[0] == 0
    assert all(x.tolist() == [] for x in engine.telemetry().values())


def test_an_ended_population_can_be_saved_and_restored():
    engine, again = (population(poison={0: 1, 1: 1, 2: 1}) for _ in range(2))
    trajectories(engine, 2)
    again.load_state_dict(engine.state_dict())
    assert again.alive == [] and again.diverged == engine.diverged and again.t == 2
    again.step()
    assert again.evaluate() == {}


def test_a_gradient_can_break_while_the_loss_is_finite():
    class Root(Regression):
        def loss(self, model, batch, config):
            return (model(batch[0]) * 0).abs().sqrt().mean()  # its slope at 0 is infinite, times 0 is nan

    engine = Population(Root(), RUNS[:1], trace=False)
    engine.step()
    engine.settle()
    assert engine.diverged == {0: 0} and engine.alive == []


def test_select_keeps_what_it_says():
    engine = population()
    engine.step()
    before = parameters_of(engine)
    engine.select([3, 0])
    assert engine.alive == [3, 0] and engine.diverged == {}
    assert_same(parameters_of(engine), {i: before[i] for i in (3, 0)})
    theta = engine.modules.theta.clone()
    engine.step()
    assert len(theta) == len(engine.modules.theta) == 2 and not torch.equal(theta, engine.modules.theta)
    rows = engine._parts[0].tables.at(1)
    assert rows.at(rows.lr, engine._live.t).tolist() == pytest.approx([0.02, 0.05]) and rows.limit is None


class Picky(Regression):
    """A loss that refuses weights that are nan, as decompositions of matrices do."""

    def loss(self, model, batch, config):
        w = model[0].weight
        return super().loss(model, batch, config) + 0 * torch.linalg.eigvalsh(w @ w.T).sum()


def test_a_loss_that_refuses_nan_goes_on_without_the_row_that_has_ended():
    runs = [replica(0, lr=0.1), replica(1, lr=0.1)]
    together = Population(Picky(poison={1: 2}), runs, dtype=torch.float64, trace=False)
    alone = Population(Picky(), runs[:1], dtype=torch.float64, trace=False)
    for _ in range(6):
        together.step()
        alone.step()
    assert together.alive == [0] and together.diverged == {1: 2} and together.t == 6
    assert_close(parameters_of(together), parameters_of(alone))


class Patient(Regression):
    patience = 3


def test_an_update_that_is_skipped_leaves_no_trace_in_buffers():
    experiment = Patient(build=lambda config: Net(), poison={1: 1})
    population = Population(experiment, [replica(0, lr=0.05), replica(1, lr=0.05)], dtype=torch.float64)
    population.step()
    before = {name: x.clone() for name, x in population.modules.fixed.items()}
    population.step()
    for name, x in population.modules.fixed.items():
        assert torch.equal(x[1], before[name][1]) and torch.isfinite(x.double()).all(), name
        assert name.endswith("num_batches_tracked") or not torch.equal(x[0], before[name][0]), name
    assert population.evaluate().keys() >= {"mean"} and not population.diverged
