"""A replica's run does not depend on who trains beside it."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toys import (
    MIXED,
    Config,
    all_with,
    assert_close,
    assert_same,
    changed,
    net_experiment,
    only,
    parameters_of,
    trajectories,
)

from gradnoise.noise.schedule import Annealed
from gradnoise.population import SGD, AdaGrad, Adam, Population, RMSProp, checkpoint

STEPS = 20
#: Optimizer, and whether the step is recorded and replayed (recording takes most of a second).
MODES = [
    (SGD(), False),
    (SGD(momentum=0.9), True),
    (AdaGrad(), False),
    (RMSProp(alpha=0.9, momentum=0.5), False),
    (Adam(), False),
]
modes = pytest.mark.parametrize(("optimizer", "trace"), MODES, ids=lambda x: type(x).__name__)


def build(chosen=range(7), *, runs=MIXED, poison=None, optimizer=None, trace=False, dtype=torch.float64):
    """A population of some of the seven."""
    if not isinstance(optimizer, SGD | None):  # these move every weight by about lr whatever the gradient
        runs = [changed(r, lr=r.training.lr / 10) for r in runs]
    if optimizer is not None:
        runs = all_with(runs, optimizer=optimizer)
    experiment = net_experiment(poison=poison or {})
    return Population(experiment, only(runs, chosen), trace=trace, dtype=dtype)


@pytest.fixture(scope="module", params=MODES, ids=lambda mode: type(mode[0]).__name__)
def together(request):
    """Optimizer and mode, and the trajectories of all seven in one population."""
    options = dict(zip(("optimizer", "trace"), request.param, strict=True))
    return options, trajectories(build(**options), STEPS)


def test_alone(together):
    options, expected = together
    chosen = [1, 4] if options["trace"] else range(7)
    alone = {i: trajectories(build([i], **options), STEPS)[0] for i in chosen}
    assert_close(alone, {i: expected[i] for i in chosen})


def test_replicas_do_differ(together):
    # Otherwise the other tests here would show nothing.
    _, paths = together
    ends = torch.stack([path[-1] for path in paths.values()])
    assert torch.pdist(ends).min() > 1e-3


def test_in_chunks_and_in_another_order(together):
    options, expected = together
    chunks = [[4, 0, 5]] if options["trace"] else [[6, 2], [4, 0, 5], [3, 1]]
    for chunk in chunks:
        paths = trajectories(build(chunk, **options), STEPS)
        assert_close({chunk[i]: path for i, path in paths.items()}, {i: expected[i] for i in chunk})


def test_after_neighbours_left(together):
    # One diverges in update 8, one is taken out after update 15; the others do not notice.
    options, expected = together
    population = build(poison={3: 8}, **options)
    paths = trajectories(population, 15)
    assert population.alive == [0, 1, 2, 3, 4, 6] and population.diverged == {5: 8}
    population.select([0, 2, 3, 4, 5])
    rest = trajectories(population, STEPS - 15)
    assert rest.keys() == {0, 2, 3, 4, 6}
    assert_close({i: torch.cat([paths[i], rest[i]]) for i in rest}, {i: expected[i] for i in rest})
    # Up to and including the update in which the neighbour's gradient was nan, not one bit is different.
    assert_same({i: paths[i][:9] for i in rest}, {i: expected[i][:9] for i in rest})
    assert_same({5: paths[5]}, {5: expected[5][:8]})


def test_replayed_is_interpreted():
    a, b = (trajectories(build(optimizer=SGD(momentum=0.9), trace=trace), STEPS) for trace in (True, False))
    assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@modes
def test_resumed_is_the_same_bit_for_bit(optimizer, trace, dtype, tmp_path):
    options = {"optimizer": optimizer, "trace": trace, "dtype": dtype, "poison": {3: 4}}
    straight, resumed = build(**options), build(**options)
    trajectories(straight, 9)
    checkpoint.save(tmp_path, 9, straight.state_dict())
    expected = trajectories(straight, 6)

    resumed.load_state_dict(checkpoint.load(tmp_path, 9))
    assert resumed.t == 9 and resumed.alive == [0, 1, 2, 3, 4, 6] and resumed.diverged == {5: 4}
    assert_same(trajectories(resumed, 6), expected)
    assert_same(resumed.modules.fixed, straight.modules.fixed)
    assert_same(resumed.telemetry(), straight.telemetry())
    assert_same(resumed.evaluate(), straight.evaluate())


@settings(max_examples=6, deadline=None)
@given(order=st.permutations(range(7)), cuts=st.sets(st.integers(1, 6), max_size=3), stop=st.integers(0, 10))
def test_any_partition_stopped_anywhere(order, cuts, stop):
    optimizer = SGD(momentum=0.5)
    expected = {i: path[-1] for i, path in trajectories(build(optimizer=optimizer), 10).items()}
    found = {}
    for a, b in itertools.pairwise([0, *sorted(cuts), 7]):
        chunk = order[a:b]
        before, after = (build(chunk, optimizer=optimizer) for _ in range(2))
        trajectories(before, stop)
        after.load_state_dict(before.state_dict())
        trajectories(after, 10 - stop)
        found |= {chunk[i]: theta for i, theta in parameters_of(after).items()}
    assert_close(found, expected)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.7},
        {"noise": Annealed(1.0)},
        {"clip": 1e-3},
        {"seed": 99},
        {"config": Config(gain=9.0)},
        {"dropout": 0.7},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_neighbours_settings_change_no_bit(change):
    other = [*MIXED[:5], changed(MIXED[5], **change), MIXED[6]]
    mine, theirs = (trajectories(build(runs=runs, dtype=torch.float32), 8) for runs in (MIXED, other))
    assert not torch.equal(mine.pop(5), theirs.pop(5))
    assert_same(mine, theirs)


def test_looking_changes_nothing():
    quiet, watched = (build(trace=True, dtype=torch.float32) for _ in range(2))
    expected = trajectories(quiet, 6)
    found = []
    for _ in range(6):
        watched.evaluate()
        watched.telemetry()
        watched.reset_telemetry()
        watched.state_dict()
        watched.step()
        found.append(watched.modules.theta.clone())
    assert_same(dict(enumerate(torch.stack(found, 1))), expected)


def test_metrics_and_telemetry_are_a_replicas_own():
    population = build()
    trajectories(population, 5)
    metrics = population.evaluate() | population.telemetry()
    assert metrics.keys() == {"mean", "size", "train_loss", "gradient_norm", "clipped", "noise_norm"}
    for i in range(7):
        single = build([i])
        trajectories(single, 5)
        for name, value in (single.evaluate() | single.telemetry()).items():
            assert value.shape == (1,)
            assert value[0].item() == pytest.approx(metrics[name][i].item(), rel=1e-11), (i, name)


def test_a_pair_differs_in_the_noise_alone():
    # Same seed: initial weights, minibatches and masks agree, so that the first update differs by lr * noise.
    runs = [changed(MIXED[0], noise=noise) for noise in (Annealed(0.04), None)]
    with_noise, without = (build([i], runs=runs) for i in range(2))
    assert torch.equal(with_noise.modules.theta, without.modules.theta)
    with_noise.step()
    without.step()
    z = (without.modules.theta - with_noise.modules.theta) / (0.05 * 0.2)
    assert z.numel() == 66 and abs(z.mean()) < 0.5 and 0.7 < z.std() < 1.3


@pytest.mark.parametrize("clip_per", ["replica", "tensor"])
def test_eta_0_is_no_noise_bit_for_bit(clip_per):
    silent, none = (all_with(MIXED, noise=noise, clip_per=clip_per) for noise in (Annealed(0.0), None))
    a, b = (trajectories(Population(net_experiment(), runs, trace=False), 8) for runs in (silent, none))
    assert_same(a, b)


def test_two_populations_may_share_an_experiment():
    experiment = net_experiment()
    dtypes = torch.float64, torch.float32
    populations = [Population(experiment, MIXED[:2], dtype=dtype, trace=False) for dtype in dtypes]
    for _ in range(3):
        for population in populations:
            population.step()
            population.evaluate()
    assert [p.evaluate()["mean"].dtype for p in populations] == [torch.float64, torch.float32]
    assert torch.allclose(populations[0].modules.theta.float(), populations[1].modules.theta, atol=1e-5)
