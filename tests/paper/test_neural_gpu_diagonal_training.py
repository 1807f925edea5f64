"""Training diagonal Neural GPUs: their update rule, learning rate, saturation cost, populations, noise, the study."""

import copy

import pytest
import torch

from gradnoise import Annealed, Relative
from gradnoise.paper import load_system
from gradnoise.paper.neural_gpu import BoundedAdaMax, DiagonalConfig, DiagonalExperiment
from gradnoise.paper.neural_gpu.diagonal import experiment as module
from gradnoise.paper.neural_gpu.diagonal.course import AllLengths
from gradnoise.paper.neural_gpu.diagonal.scales import rate
from gradnoise.paper.neural_gpu.tasks import ONE, PAD, ZERO
from gradnoise.population import Draws, Population, PopulationError, Replica, check_experiment

EXPERIMENT = DiagonalExperiment()
TINY = {"lengths": (3, 5), "shorter": 0.2, "tests": (5, 7), "samples": 16, "maps": 5, "batch_size": 4, "window": 2}
TRAINED = TINY | {"lr": 0.01, "optimizer": BoundedAdaMax()}


def population(*settings, dtype=torch.float64, base=TRAINED) -> Population:
    replicas = [Replica.of(EXPERIMENT, s.get("seed", 0), base | {k: v for k, v in s.items() if k != "seed"})
                for s in settings]  # fmt: skip
    return Population(EXPERIMENT, replicas, dtype=dtype)


def train(*settings, steps=6, **options) -> Population:
    p = population(*settings, **options)
    for _ in range(steps):
        p.step()
    return p


# --- the update rule --------------------------------------------------------------------------------------


def test_the_rule_by_hand():
    rule, theta = BoundedAdaMax(half=2.0), torch.tensor([[1.0, -2.0], [0.5, 0.0]], dtype=torch.float64)
    gradients = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lr = torch.tensor([[0.1], [0.01]], dtype=torch.float64)
    mine, state = theta.clone(), rule.init(theta)
    m, v = torch.zeros_like(theta), torch.zeros_like(theta)
    for t, gradient in enumerate(gradients):
        g = gradient.clone()
        rule.before_noise(g, state, torch.tensor(t))
        bound = 1.2 * v + 1e-4
        clipped = torch.where(gradient > bound, bound, torch.where(gradient < -bound, -bound, gradient))
        assert torch.equal(g, clipped)
        noisy = clipped + 0.01  # what comes after the cut
        rule.update(mine, noisy.clone(), state, lr, torch.tensor(t))
        beta2 = 1 - max(5e-4, 0.01 * 0.5 ** (t / 2))
        m, v = 0.9 * m + 0.1 * noisy, torch.maximum(beta2 * v, noisy.abs())
        theta = theta - lr * m / (v + 1e-8)
        torch.testing.assert_close(mine, theta, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("options", [{"beta1": 1.0}, {"half": 0.0}, {"slowest": 0.5}, {"growth": -1.0}])
def test_rules_that_are_refused(options):
    with pytest.raises(PopulationError, match=r"beta1 is in \[0, 1\)|are >= 0"):
        BoundedAdaMax(**options)


def test_noise_comes_after_the_cut():
    """The cut of the first update is 1e-4: without noise nothing exceeds it, and noise is not cut to it."""
    silent, noisy = (train({"noise": x}, steps=1)._live.optimizer["v"] for x in (None, Annealed(1.0)))
    assert silent.max().item() == pytest.approx(1e-4) and noisy.median() > 0.1


def test_relative_noise_is_relative_to_the_cut_gradient():
    p = train({"noise": Relative(1.0)}, steps=1)
    most = 1e-4 * p.modules.theta.shape[1] ** 0.5  # of the cut gradient
    assert 0 < p.telemetry()["noise_norm"].item() <= most * (1 + 1e-6) < p.telemetry()["gradient_norm"].item()


# --- the course -------------------------------------------------------------------------------------------


def windows(nats: list[float], costs=None, **options) -> list[dict[str, float]]:
    """Return the state after each window with these cross entropies."""
    config, course = DiagonalConfig(window=2, lr=0.01, **options), AllLengths()
    state, found = {name: x[None] for name, x in course.start(config).items()}, []
    for i, x in enumerate(nats):
        for k in range(2):
            cost = torch.tensor([1.0 if costs is None else costs[i]])
            seen = {"nats": torch.tensor([x]), "cost": cost, "wrong": torch.tensor([0.25])}
            state = course.after(state, seen, torch.tensor(2 * i + k), config)
        found.append({name: x[0].tolist() for name, x in state.items()})
    return found


def test_the_learning_rate_falls_where_two_windows_bring_nothing():
    found = windows([3.0, 2.0, 2.5, 2.1, 2.2, 1.0, 1.1, 0.9, 0.9, 0.9])
    assert [s["factor"] for s in found] == pytest.approx([1, 1, 1, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.49])
    assert found[0]["error"] == 0.25 and found[3]["entropy"] == pytest.approx(2.1)
    assert windows([1.0] * 40)[-1]["factor"] == pytest.approx(1 / 60)


def test_the_weight_of_the_saturation_cost():
    """w <- w lr (cross entropy) / (w cost), within [1e-20, 1e-3]."""
    found = windows([2.0, 2.0, 1.0, 0.5], costs=[1.0, 100.0, 0.0, 1e30], saturation=1e-3)
    assert [s["weight"] for s in found] == pytest.approx([1e-3, 2e-4, 1e-3, 1e-20])


def test_problems_of_every_length_in_every_update():
    config = DiagonalConfig(lengths=(5, 8, 3), shorter=0.5, batch_size=200)
    state = {"rate": torch.tensor([0.1, 0.2])}
    made = AllLengths().batch(Draws([4, 5], 7), state, config)
    assert made["tokens"].shape == made["targets"].shape == (2, 19, 200)
    for start, n, most in ((0, 8, 7), (9, 5, 5), (15, 3, 3)):
        lengths = (made["targets"][:, start : start + n] != PAD).sum(1)
        assert lengths.max() == most and (lengths.min() == 3) and (lengths % 2 == 1).all()
        share = (lengths == most).double().mean().item()
        assert share > 0.5 and (share < 0.9 or n == 3)
    alone = AllLengths().batch(Draws([5], 7), {"rate": torch.tensor([0.2])}, config)
    assert all(torch.equal(alone[name][0], x[1]) for name, x in made.items())


# --- populations ------------------------------------------------------------------------------------------


def test_the_experiment_is_sound():
    notes = check_experiment(EXPERIMENT, TRAINED, steps=5)
    assert notes["loss runs by"] == notes["evaluate runs by"] == "vmap"


MIXED = (
    {"seed": 0},
    {"seed": 0, "noise": Relative(1.0)},
    {"seed": 1, "lr": 0.02, "keep": 1.0},
    {"seed": 2, "keep": 0.5, "init_weight": 1.5, "noise": Annealed(0.01)},
)


def test_a_replica_alone_trains_as_in_company_bit_for_bit():
    together = train(*MIXED, dtype=torch.float32)
    for p, settings in enumerate(MIXED):
        assert torch.equal(train(settings, dtype=torch.float32).modules.theta[0], together.modules.theta[p])


def test_what_runs_on_a_gpu_trains_the_same(monkeypatch):
    expected = train(*MIXED[:3]).modules.theta
    monkeypatch.setattr(module, "compiled", module.defined)
    torch.testing.assert_close(train(*MIXED[:3]).modules.theta, expected, rtol=1e-9, atol=1e-11)


def test_noise_of_eta_zero_is_no_noise_and_other_noise_is_applied():
    """After one update only signs differ: the first step of AdaMax has the same length everywhere."""
    first, other = train({}, {"noise": Relative(1.0)}, steps=1, dtype=torch.float32).modules.theta
    assert (first != other).double().mean() > 0.1
    silent, zero, strong, faint = train(
        *({"noise": x} for x in (None, Relative(0.0), Relative(1.0), Relative(0.1))), steps=3, dtype=torch.float32
    ).modules.theta
    assert torch.equal(silent, zero)
    assert (silent != strong).double().mean() > 0.9 and (silent != faint).double().mean() > 0.9


def test_resumed_is_uninterrupted_bit_for_bit():
    whole, half = train(*MIXED, steps=7, dtype=torch.float32), train(*MIXED, steps=3, dtype=torch.float32)
    saved = copy.deepcopy(half.state_dict())
    again = population(*MIXED, dtype=torch.float32)
    again.load_state_dict(saved)
    for _ in range(4):
        again.step()
    assert torch.equal(again.modules.theta, whole.modules.theta)


def test_a_zero_behind_the_answer_counts_as_nothing():
    targets = torch.tensor([[ONE, ZERO, ONE, PAD, PAD]])
    answers = torch.tensor([[ONE, ZERO, ONE, ZERO, PAD], [ZERO, ZERO, ONE, ONE, ZERO]])
    assert EXPERIMENT.compared(answers, targets).tolist() == [
        [ONE, ZERO, ONE, PAD, PAD],
        [ZERO, ZERO, ONE, ONE, PAD],
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "bmull"}, "no task 'bmull'.*did you mean 'bmul'"),
        ({"lengths": ()}, "give different lengths"),
        ({"lengths": (5, 5)}, "give different lengths"),
        ({"lengths": (2, 5)}, "of bmul 3 or more"),
        ({"tests": (6,)}, "tests = "),
        ({"maps": 2}, "at least 3"),
        ({"batch_size": 0}, "at least 1"),
        ({"shorter": 1.5}, r"outside \[0, 1\]"),
        ({"keep": 0.0}, r"outside \(0, 1\]"),
        ({"init_weight": 0.0}, "finite and > 0"),
        ({"saturation": -1.0}, "finite and >= 0"),
    ],
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(PopulationError, match=message):
        DiagonalConfig(**options)


def test_the_learning_rate_is_that_of_the_engine_unless_it_is_no_number():
    replica = Replica.of(EXPERIMENT, 0, TRAINED)
    assert replica.training.lr == replica.config.lr == 0.01
    assert Replica.of(EXPERIMENT, 0, TINY).training.lr == DiagonalConfig().lr
    with pytest.raises(PopulationError, match=r"lr is <function .* must be a number"):
        Replica.of(EXPERIMENT, 0, TINY | {"lr": lambda t: 0.1})


def test_a_network_learns_to_copy_and_copies_longer_strings():
    """Guessing is wrong in 50 % of the digits."""
    config = {"task": "id", "lengths": (3, 6), "shorter": 0.0, "tests": (6, 21), "samples": 32, "maps": 12,
              "batch_size": 8, "lr": 0.04, "optimizer": BoundedAdaMax()}  # fmt: skip
    metrics = train({}, base=config, steps=150, dtype=torch.float32).evaluate()
    assert metrics["error_6"].item() < 2 and metrics["error"].item() < 10


# --- the study --------------------------------------------------------------------------------------------


def test_the_grid_of_the_study():
    made = load_system("neural-gpu").study("paper", study="diagonal")
    cells = {s.label: s.values for s in made.settings}
    assert len(cells) == 27 and made.settings[0].label == "defaults" and not made.claims
    assert {n: sorted({v[n] for v in cells.values()}) for n in ("lr", "keep", "init_weight")} == {
        "lr": [0.005, 0.01, 0.02], "keep": [0.85, 0.9, 0.95], "init_weight": pytest.approx([0.667, 1, 1.5], abs=1e-3),
    }  # fmt: skip
    assert cells["lr 0.02, keep 0.95"]["maps"] == 48 and rate(96) == 0.005
    assert [a.values.get("noise") for a in made.arms] == [None, Relative(1.0), Relative(0.1)]
    assert made.settings[0].values["tests"] == (17, 81, 33) and made.settings[0].values["lengths"] == (5, 7, 11, 13, 17)
