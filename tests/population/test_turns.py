"""Networks that are updated in turns train as in a plain loop with an optimizer and a noise clock each."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.gans import Gan
from support.toys import assert_close, assert_same, trajectories
from torch import nn

from gradnoise import attach
from gradnoise.noise.schedule import Annealed
from gradnoise.population import (
    SGD,
    Adam,
    Experiment,
    Group,
    Groups,
    Population,
    PopulationError,
    Replica,
    Steps,
    Turn,
    check_experiment,
)
from gradnoise.population.probe import probe
from gradnoise.population.randomness import seeded
from gradnoise.population.turns import Round

ADAM = Adam(beta1=0.5)
TORCHS = {"d": (torch.optim.Adam, {"betas": (0.5, 0.999)}), "g": (torch.optim.SGD, {"momentum": 0.9})}
OWN = {
    "optimizer": {"d": ADAM, "g": SGD(0.9)},
    "lr": {"d": 0.02, "g": Steps(0.05, at=(2,))},
    "clip": {"d": 0.3},
    "noise": {"d": Annealed(0.01), "g": Annealed(0.3)},
}
SETTINGS = {
    "all the same": {"optimizer": SGD(0.9), "lr": 0.05, "noise": Annealed(0.1), "clip": 1.0},
    "each its own": OWN,
    "noise in one": {**OWN, "noise": {"g": Annealed(0.1)}},
}


class Mixed(Gan):
    """Weights in one turn, biases in the other: they do not lie side by side in the model."""

    turns = (Turn("d", ("*.weight",), updates=2), Turn("g", "*.bias"))


def run_of(seed: int, settings: dict, experiment: Experiment | None = None) -> Replica:
    return Replica.of(experiment or Gan(), seed, settings)


def of(value, turn: str):
    return value.get(turn) if isinstance(value, dict) else value


def in_a_loop(experiment: Experiment, run: Replica, settings: dict, steps: int) -> list[torch.Tensor]:
    with seeded(run.seed_for("init")):
        model = experiment.model(None).double()
    optimizers, schedulers, parameters = {}, {}, {}
    for turn in experiment.turns:
        named = [(n, p) for n, p in model.named_parameters() if turn.has(n)]
        parameters[turn.name] = [p for _, p in named]
        kind, own = (
            TORCHS[turn.name] if isinstance(settings["optimizer"], dict) else (torch.optim.SGD, {"momentum": 0.9})
        )
        optimizers[turn.name] = kind(parameters[turn.name], lr=1.0, **own)
        rate = of(settings["lr"], turn.name)
        schedulers[turn.name] = torch.optim.lr_scheduler.LambdaLR(
            optimizers[turn.name], rate if callable(rate) else lambda _, rate=rate: rate
        )
        if (schedule := of(settings["noise"], turn.name)) is not None:
            attach(optimizers[turn.name], schedule, seed=run.seed_for("noise"), named_parameters=named)
    path, order = [], [turn.name for turn in experiment.turns for _ in range(turn.updates)]
    for t in range(steps):
        turn = order[t % len(order)]
        model.zero_grad()
        batch = tuple(x.double() for x in experiment.batch(run.seed_for("batches"), t, None))
        experiment.loss(model, batch, None, turn).backward()
        if (limit := of(settings["clip"], turn)) is not None:
            norm = torch.cat([p.grad.flatten() for p in parameters[turn]]).norm()
            for p in parameters[turn]:
                p.grad.mul_(min(1.0, limit / norm))
        optimizers[turn].step()
        schedulers[turn].step()
        path.append({n: p.detach().clone() for n, p in model.named_parameters()})
    return path


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("kind", [Gan, Mixed])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_turns_train_as_a_loop_with_an_optimizer_each(settings, kind, trace):
    experiment, steps = kind(), 10
    runs = [run_of(seed, settings, experiment) for seed in range(3)]
    population = Population(experiment, runs, dtype=torch.float64, trace=trace)
    expected = [in_a_loop(experiment, run, settings, steps) for run in runs]
    for t in range(steps):
        population.step()
        for p in range(len(runs)):
            for name, x in population.modules.named_rows(p):
                assert torch.allclose(x, expected[p][t][name], rtol=1e-10, atol=1e-12), (t, name)


def test_the_settings_really_differ():
    """Noise in one turn leaves the other's first updates alone, and acts in its own."""
    with_noise, without = (
        Population(Gan(), [run_of(0, {**OWN, "noise": noise})], dtype=torch.float64)
        for noise in ({"g": Annealed(0.1)}, None)
    )
    same = []
    for _ in range(3):
        with_noise.step()
        without.step()
        same.append(torch.equal(with_noise.modules.theta, without.modules.theta))
    assert same == [True, True, False]


def test_a_replica_alone_trains_as_beside_others():
    runs = [run_of(seed, settings) for seed, settings in enumerate([OWN, {**OWN, "noise": None, "clip": None}])]
    together = trajectories(Population(Gan(), runs, dtype=torch.float64), 7)
    for i, run in enumerate(runs):
        assert_close({0: together[i]}, trajectories(Population(Gan(), [run], dtype=torch.float64), 7))


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_checkpoint_goes_on_in_the_middle_of_a_round(stop):
    runs = [run_of(seed, OWN) for seed in range(2)]
    whole, first, second = (Population(Gan(), runs) for _ in range(3))
    for _ in range(stop):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(stop):
        whole.step()
    assert_same(trajectories(whole, 5), trajectories(second, 5))
    for name, x in whole.telemetry().items():
        assert torch.equal(x, second.telemetry()[name]), name


def test_a_replica_that_ends_leaves_the_others_alone():
    settings = {**OWN, "clip": None}
    runs = [run_of(0, settings), run_of(1, {**settings, "lr": {"d": 1e150, "g": 1e150}}), run_of(2, settings)]
    population = Population(Gan(), runs)
    for _ in range(6):
        population.step()
    population.settle()
    assert population.alive == [0, 2]
    assert 1 <= population.diverged[1] < 6
    alone = Population(Gan(), [runs[2]])
    for _ in range(6):
        alone.step()
    assert torch.allclose(alone.modules.theta[0], population.modules.theta[1], rtol=1e-5, atol=1e-6)


def test_telemetry_tells_each_turn():
    population = Population(Gan(), [run_of(0, OWN)], dtype=torch.float64)
    losses = {"d": [], "g": []}
    for t in range(6):
        population.step()
        seen = population.telemetry()
        population.reset_telemetry()
        turn = "g" if t % 3 == 2 else "d"
        assert seen["train_loss"] == seen[f"train_loss_{turn}"] != 0
        assert seen[f"train_loss_{'d' if turn == 'g' else 'g'}"] == 0
        losses[turn].append(float(seen["train_loss"][0]))
    again = Population(Gan(), [run_of(0, OWN)], dtype=torch.float64)
    for _ in range(6):
        again.step()
    seen = {name: float(x[0]) for name, x in again.telemetry().items()}
    assert seen["train_loss_d"] == pytest.approx(sum(losses["d"]) / 4)
    assert seen["train_loss_g"] == pytest.approx(sum(losses["g"]) / 2)
    assert seen["train_loss"] == pytest.approx(sum(losses["d"] + losses["g"]) / 6)
    sizes = {"d": 8 * 3 + 9, "g": 6 * 4 + 14}
    assert seen["noise_norm_d"] == pytest.approx((0.01 / 4**0.55 * sizes["d"]) ** 0.5)  # the 4th of its own updates
    assert seen["noise_norm_g"] == pytest.approx((0.3 / 2**0.55 * sizes["g"]) ** 0.5)
    assert seen["noise_norm"] == pytest.approx((4 * seen["noise_norm_d"] + 2 * seen["noise_norm_g"]) / 6)


def test_the_whole_path_of_checks():
    assert check_experiment(Gan())["loss runs by"] == "vmap"
    more = Gan()
    more.turns = (Turn("d", updates=3), Turn("g"))
    one, other = (probe(experiment, {}, steps=20).readings for experiment in (Gan(), more))
    assert one["updates of turn d"] != other["updates of turn d"]
    assert {f"loss of minibatch {t}" for t in range(3)} <= one.keys()  # of every turn
    (note,) = probe(Gan(), {}, steps=20).notes
    assert note == "gan: runs of 20 updates end after 2 of the 3 updates of a round of turns"
    assert not probe(Gan(), {}, steps=21).notes


class Dropped(Gan):
    """Dropout, batch norm, and random numbers in the loss."""

    def model(self, config):
        model = super().model(config)
        model["g"].append(nn.BatchNorm1d(2))
        model["d"].insert(2, nn.Dropout(0.5))
        return model

    def loss(self, model, batch, config, turn):
        real, z = batch
        return super().loss(model, (real + 0.1 * torch.randn_like(real), z), config, turn)


def test_dropout_and_random_numbers_are_a_replicas_own():
    runs = [run_of(seed, OWN, Dropped()) for seed in range(2)]
    together = trajectories(Population(Dropped(), runs, dtype=torch.float64), 6)
    assert_close({0: together[1]}, trajectories(Population(Dropped(), runs[1:], dtype=torch.float64), 6))
    assert not torch.allclose(together[0], together[1])


def test_one_loss_for_all_turns_needs_no_name():
    class Alternating(Gan):
        def loss(self, model, batch, config):
            real, z = batch
            return (model["d"](model["g"](z)) - real.sum(1, keepdim=True)).square().mean()

    population = Population(Alternating(), [run_of(0, OWN)])
    before = dict(population.modules.named_rows(0))
    before = {n: x.clone() for n, x in before.items()}
    population.step()
    moved = {n for n, x in population.modules.named_rows(0) if not torch.equal(x, before[n])}
    assert moved == {n for n in before if n.startswith("d.")}


def test_groups_within_a_turn():
    grouped = Groups((Group("*bias", ADAM, lr=2.0),), rest=ADAM)
    population = Population(Gan(), [run_of(0, {**OWN, "optimizer": {"d": grouped, "g": SGD(0.9)}})])
    for _ in range(3):
        population.step()
    with pytest.raises(PopulationError, match=r"names 'g.\*', and the model has none of that name"):
        Population(Gan(), [run_of(0, {**OWN, "optimizer": Groups((Group("g.*", ADAM),), rest=ADAM)})])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 60))
def test_clocks_count_updates(updates, t):
    whole = Round.of(tuple(Turn(f"t{k}", updates=n) for k, n in enumerate(updates)))
    counts = [0] * len(updates)
    for s in range(t):
        counts[whole.at(s)] += 1
    assert [whole.done(k, t) for k in range(len(updates))] == counts


def turns(*given, loss=None) -> Experiment:
    experiment = Gan()
    experiment.turns = given
    return experiment


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: run_of(0, {"noise": {"x": None}}), "there is no turn 'x'; there are d, g"),
        (lambda: run_of(0, {"lr": {"d": 0.1}}), "says nothing of turn 'g'"),
        (lambda: run_of(0, {"optimizer": {"g": "adam"}}), "says nothing of turn 'd'"),
        (lambda: run_of(0, {"dropout": {"d": 0.1}}), "dropout"),
        (lambda: run_of(0, {"noise": [None, None]}), "are 2: a population updates all"),
        (lambda: Turn("not a name"), "is called 'not a name'"),
        (lambda: Turn("d", updates=0), "updates = 0"),
        (lambda: run_of(0, {}, turns(Turn("d"), Turn("d"))), "two turns are called 'd'"),
        (lambda: run_of(0, {}, turns("d", "g")), "give a tuple of turns"),
        (lambda: Population(turns(Turn("d")), [Replica(0)]), "'g.0.weight' is updated in no turn"),
        (lambda: Population(turns(Turn("d"), Turn("g", ("*",))), [Replica(0)]), "in the turns d and g"),
        (lambda: Population(turns(Turn("d"), Turn("g"), Turn("h")), [Replica(0)]), r"updates 'h.\*', and the model"),
        (lambda: Population(turns(), [Replica(0)]), "takes `turn`, and the experiment names no turns"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(make, words):
    with pytest.raises(PopulationError, match=words):
        make()


def test_turns_have_their_place_in_an_identity():
    one, other = run_of(0, OWN), run_of(0, {**OWN, "clip": {"d": 0.3, "g": 1.0}})
    assert one.identity != other.identity
    assert dataclasses.replace(one, turns={}).identity != one.identity


def test_patterns_that_leave_a_turn_without_its_noise_are_refused():
    names = [name for name, _ in Gan().model(None).named_parameters()]
    only = next(name for name in names if name.startswith("d."))
    settings = {**SETTINGS["each its own"], "noise_on": [only]}
    noisy = {"noise": {"d": Annealed(0.1)}}
    with pytest.raises(
        PopulationError, match=r"leaves no parameter of turn 'g' with noise; .* give the noise to 'd' alone"
    ):
        Population(Gan(), [run_of(0, settings | {"noise": Annealed(0.1)})])
    Population(Gan(), [run_of(0, settings | noisy)])
