"""Training memory networks: populations, the two stages, learning rates, noise, and what they learn."""

import dataclasses

import pytest
import torch

from gradnoise import Annealed, Fixed
from gradnoise.data.babi import load_babi
from gradnoise.paper import load_system
from gradnoise.paper.memory_network import JOINT, Halving, MemoryNetworkExperiment
from gradnoise.population import Population, Replica, Training
from gradnoise.study import StudyError

Config = MemoryNetworkExperiment.Config
CONFIG = Config(task=1, dim=8, hops=2)


@pytest.fixture(scope="module")
def experiment() -> MemoryNetworkExperiment:
    return MemoryNetworkExperiment(load_babi("generated"))


def replica(seed=0, lr=0.01, noise=None, **config) -> Replica:
    training = Training(lr=lr, noise=noise, clip=40.0, clip_per="tensor")
    return Replica(seed, training, dataclasses.replace(CONFIG, **config))


def train(experiment, replicas, steps, dtype=torch.float64, **options) -> Population:
    options = {"trace": False} | options  # for a few updates, recording takes longer than they do
    population = Population(experiment, replicas, dtype=dtype, **options)
    for _ in range(steps):
        population.step()
    return population


# --- populations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [1, JOINT])
def test_a_replica_alone_trains_as_in_a_population_of_seven(experiment, task):
    """Seeds have minibatches of different lengths, so that in company the lists of words are padded further."""
    rate = Halving(0.01, 1, 3)
    mixed = [replica(s, rate if s % 2 else 0.005, Annealed(0.1) if s % 3 else None, task=task) for s in (0, 1, 2, 3)]
    mixed += [replica(s, 0.02, Fixed(0.01), task=task) for s in (0, 1, 4)]
    together = train(experiment, mixed, 5)
    for p in (0, 3, 6):
        alone = train(experiment, [mixed[p]], 5)
        torch.testing.assert_close(alone.modules.theta[0], together.modules.theta[p], rtol=1e-9, atol=1e-11)


def test_minibatches_of_other_seeds_have_other_lengths(experiment):
    batches = [experiment.batch(seed, 0, dataclasses.replace(CONFIG, task=JOINT)) for seed in range(8)]
    lengths = {b.word.numel() for b in batches}
    assert len(lengths) > 1
    stacked = experiment.stack(batches)
    assert stacked.word.shape == (8, max(lengths)) and stacked.weight.shape == (8, 2, max(lengths))


def test_minibatches_are_pure_functions_of_seed_and_update(experiment):
    later = [experiment.batch(5, t, CONFIG) for t in range(40)]
    again = [experiment.batch(5, t, CONFIG) for t in reversed(range(40))][::-1]
    assert all(torch.equal(a, b) for one, two in zip(later, again, strict=True) for a, b in zip(one, two, strict=True))
    assert not torch.equal(later[0].answer, later[1].answer) or not torch.equal(later[0].word, later[1].word)


def test_no_variance_is_bitwise_no_noise(experiment):
    quiet = train(experiment, [replica(), replica(noise=Annealed(0.0))], 10, torch.float32)
    assert torch.equal(*quiet.modules.theta)


def test_noise_reaches_every_table_once(experiment):
    """From zero weights nothing has a gradient but the noise, so theta is minus lr times one draw per entry."""
    population = Population(experiment, [replica(lr=1.0, noise=Fixed(0.5))], dtype=torch.float64)
    population.modules.theta.zero_()
    population.step()
    views = population.modules.views(population.modules.theta)
    assert [v.shape[1:] for v in views] == [views[0].shape[1:]] * 3
    for view in views:
        assert view.std().item() == pytest.approx(0.5, rel=0.15)
    assert len({v.sum().item() for v in views}) == 3


def test_clipping_is_table_by_table(experiment):
    """With a tiny threshold, every table moves by exactly lr times the threshold."""
    tiny = Replica(0, Training(lr=0.5, clip=1e-3, clip_per="tensor"), CONFIG)
    population = Population(experiment, [tiny], dtype=torch.float64)
    before = [v.clone() for v in population.modules.views(population.modules.theta)]
    population.step()
    after = population.modules.views(population.modules.theta)
    moved = [(b - a).norm().item() for a, b in zip(before, after, strict=True)]
    assert moved == pytest.approx([0.5e-3] * 3)


def test_resumed_is_bitwise_uninterrupted(experiment):
    replicas = [replica(s, Halving(0.01, 1, 3), Annealed(0.1), linear_epochs=0) for s in (0, 1)]
    whole = train(experiment, replicas, 6, torch.float32)
    first = train(experiment, replicas, 4, torch.float32)
    second = train(experiment, replicas, 0, torch.float32)
    second.load_state_dict(first.state_dict())
    second.step(), second.step()
    assert torch.equal(whole.modules.theta, second.modules.theta)
    assert torch.equal(*(p.telemetry()["running_train_error"] for p in (whole, second)))


# --- stages and learning rates ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        # one-stage, by task: 28 updates an epoch, halved before epochs 25, 50, 75, 100, then held
        (Halving(0.01, 25, 28, until=100), {0: 0, 671: 0, 672: 1, 1371: 1, 1372: 2, 2771: 3, 2772: 4, 5599: 4}),
        # two-stage, by task: 20 linear epochs first, not counted
        (Halving(0.005, 25, 28, 20, until=100), {0: 0, 559: 0, 560 + 671: 0, 560 + 672: 1, 560 + 2772: 4, 6159: 4}),
        # one-stage, jointly: halved every 15 epochs of 562 updates to the end
        (Halving(0.01, 15, 562), {0: 0, 14 * 562 - 1: 0, 14 * 562: 1, 29 * 562: 2, 194 * 562: 13, 112_399: 13}),
        # two-stage, jointly
        (Halving(0.005, 15, 562, 30), {29 * 562: 0, 44 * 562 - 1: 0, 44 * 562: 1, 129_259: 13}),
    ],
)
def test_learning_rates_at_the_borders(rate, expected):
    assert {t: rate(t) for t in expected} == {t: rate.lr / 2**k for t, k in expected.items()}


def test_the_engine_takes_the_rate_of_the_update(experiment):
    """A schedule that halves at update 3 equals two runs of fixed rates, one after the other."""
    scheduled = train(experiment, [replica(lr=Halving(0.01, 2, 3))], 6)
    fixed = train(experiment, [replica(lr=0.01)], 3)
    slower = train(experiment, [replica(lr=0.005)], 0)
    slower.modules.theta.copy_(fixed.modules.theta)
    slower.skip(3)
    for _ in range(3):
        slower.step()
    assert torch.equal(scheduled.modules.theta, slower.modules.theta)


def test_a_rate_must_stay_positive(experiment):
    with pytest.raises(ValueError, match="at t = 2: a learning rate is a finite number > 0"):
        train(experiment, [replica(lr=lambda t: 0.01 * (2 - t))], 4)


def test_the_stages_differ_in_the_softmax_alone(experiment):
    """The linear stage is its own epochs long; weights carry over, and minibatches and noise go on."""
    epoch = experiment.epoch(1)
    assert epoch == 28
    config = dataclasses.replace(CONFIG, linear_epochs=2)
    flags = [bool(experiment.batch(0, t, config).linear) for t in range(3 * epoch)]
    assert flags == [True] * 2 * epoch + [False] * epoch
    two, one = experiment.batch(0, 5, config), experiment.batch(0, 5, CONFIG)
    assert all(torch.equal(a, b) for a, b in zip(two[:-1], one[:-1], strict=True))


def test_evaluation_sees_the_stage_of_the_last_update(experiment):
    population = train(experiment, [replica(linear_epochs=1)], 28, torch.float32)
    population.evaluate()
    assert population.modules.fixed["linear"].tolist() == [True]
    population.step()
    assert population.modules.fixed["linear"].tolist() == [False]


# --- metrics and learning ---------------------------------------------------------------------------


def test_metrics_count_every_question(experiment):
    population = train(experiment, [replica(task=JOINT, hops=1)], 5, torch.float32)
    metrics = population.evaluate() | population.telemetry()
    found = {name: value.item() for name, value in metrics.items()}
    by_task = [found[f"test_error_{task}"] for task in (1, 2, 5, 6, 15)]
    assert found["test_error"] == pytest.approx(sum(by_task) / 5, abs=1e-3)
    assert found["train_cross_entropy"] > 0 and 0 < found["running_train_error"] <= 100


def test_two_stage_training_learns_task_1_and_15(experiment):
    for task in (1, 15):
        config = {"task": task, "dim": 20, "hops": 3, "linear_epochs": 5}
        rate = Halving(0.005, 25, 28, 5)
        replicas = [replica(s, rate, **config) for s in range(3)]
        population = train(experiment, replicas, 28 * 20, torch.float32, trace=True)
        found = population.evaluate() | population.telemetry()
        assert found["test_error"].min() < 1.0, task
        assert found["running_train_error"].min() < 5.0


def test_no_metric_is_overwritten_by_what_the_engine_reports(experiment):
    population = train(experiment, [replica(hops=1)], 1, torch.float32)
    assert not population.evaluate().keys() & population.telemetry().keys()


def test_the_smoke_study_has_both_stages_and_pairs():
    study = load_system("memn2n").study("smoke")
    assert study.experiment.stand_in
    trials = list(study.trials())
    assert len(trials) == 2 * 2 * 2 and len({t.id for t in trials}) == 8
    steps = {t.row: t.config["steps"] for t in trials}
    assert steps == {"tasks-one": 3 * 28, "tasks-two": 4 * 28}


def test_the_paper_study_has_both_tables():
    study = load_system("memn2n").study("paper", "generated")
    trials = list(study.trials())
    joint = [t for t in trials if t.row.startswith("joint")]
    assert {t.row for t in trials} == {"joint-one", "joint-two", "tasks-one", "tasks-two"}
    assert {t.config["dim"] for t in joint} == {50} and {t.arm for t in joint} == {"none", "noise"}
    alone = study.with_rows(["tasks-one"]).with_arms(["noise"])
    assert {(t.row, t.arm) for t in alone.trials()} == {("tasks-one", "none"), ("tasks-one", "noise")}
    assert {t.id for t in alone.trials()} < {t.id for t in trials}


def test_an_unknown_row_gets_the_nearest_one():
    with pytest.raises(StudyError, match="did you mean 'tasks-one'"):
        load_system("memn2n").study("smoke").with_rows(["task-one"])
