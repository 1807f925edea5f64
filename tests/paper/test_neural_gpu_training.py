"""Training Neural GPUs: lengths, pull and learning rate, populations, noise, errors, and what is learned."""

import copy
import math

import pytest
import torch

from gradnoise import Annealed, Relative
from gradnoise.paper.neural_gpu import EARLY, MARCH, Config, NeuralGPU, NeuralGPUExperiment
from gradnoise.paper.neural_gpu import experiment as module
from gradnoise.paper.neural_gpu.course import Lengths
from gradnoise.paper.neural_gpu.experiment import defined, errors
from gradnoise.paper.neural_gpu.tasks import ONE, PAD, ZERO
from gradnoise.population import SGD, Adam, Draws, Population, PopulationError, Replica, check_experiment

EXPERIMENT = NeuralGPUExperiment()
TINY = {"maps": 3, "height": 2, "sets": 2, "longest": 9, "tests": (9, 17), "samples": 16, "batch_size": 4, "window": 2}
TRAINED = TINY | {"lr": 0.01, "clip": 1.0, "optimizer": Adam()}


def population(*settings, dtype=torch.float64, base=TRAINED, **options) -> Population:
    replicas = [Replica.of(EXPERIMENT, s.get("seed", 0), base | {k: v for k, v in s.items() if k != "seed"})
                for s in settings]  # fmt: skip
    return Population(EXPERIMENT, replicas, dtype=dtype, **options)


def train(*settings, steps=6, **options) -> Population:
    p = population(*settings, **options)
    for _ in range(steps):
        p.step()
    return p


# --- the curriculum -------------------------------------------------------------------------------------


def windows(config: Config, shares: list[float], nats=None, drawn=3.0):
    """Yield the state after each window in which every minibatch had this share of wrong sequences."""
    course, t = Lengths(), 0
    state = {name: x[None] for name, x in course.start(config).items()}
    for i, share in enumerate(shares):
        for _ in range(config.chosen("window")):
            seen = {"drawn": torch.tensor([drawn]), "wrong": torch.tensor([share]), "spread": torch.zeros(1),
                    "nats": torch.tensor([1.0 if nats is None else nats[i]])}  # fmt: skip
            state = course.after(state, seen, torch.tensor(t), config)
            t += 1
        yield {name: x[0].tolist() for name, x in state.items()}


@pytest.mark.parametrize("profile", ["early", "march"])
def test_problems_become_longer_with_each_window_below_the_bound(profile):
    config = Config(profile=profile, window=3)
    bound = config.chosen("bound")
    found = list(windows(config, [1.0, bound, bound - 0.01, 0.0] + 40 * [0.0]))
    assert [s["limit"] for s in found[:4]] == [6, 6, 7, 8]
    assert [s["limit"] for s in found[-5:]] == [41] * 5
    assert found[0]["error"] == 1 and found[2]["error"] == pytest.approx(bound - 0.01)


def test_only_problems_up_to_the_limit_count():
    config = Config(window=2)
    assert next(windows(config, [0.0], drawn=7.0))["limit"] == 6  # none: no success
    assert next(windows(config, [0.0], drawn=6.0))["limit"] == 7


@pytest.mark.parametrize(("profile", "successes"), [("march", 30), ("early", 42)])
def test_the_pull_grows_until_copies_are_averaged(profile, successes):
    found = list(windows(Config(profile=profile, window=1), (successes + 2) * [0.0]))
    for k, state in enumerate(found[:successes], 1):
        assert state["pull"] == pytest.approx(5e-4 * 1.2**k, rel=1e-5) and state["average"] == 0
    assert [s["average"] for s in found[successes:]] == [1, 1]
    assert found[-1]["pull"] == found[successes - 1]["pull"]


def test_averaging_slows_learning_down():
    """In January always, in March only at an error below a third of the bound."""
    for profile, share, factors in (("early", 0.1, [1, 0.98]), ("march", 0.1, [1, 1]), ("march", 0.04, [1, 0.98])):
        start = Config(profile=profile, window=1, pull=1.0 if profile == "early" else 0.1, begin=41)
        found = list(windows(start, [1.0, share]))
        assert [s["factor"] for s in found] == pytest.approx(factors), profile


def test_the_learning_rate_falls_when_the_loss_is_above_that_of_three_windows():
    nats = [5.0, 4.0, 3.0, 6.0, 5.0, 5.5, 4.0, 5.4]
    found = list(windows(Config(window=1), len(nats) * [1.0], nats))
    assert [s["factor"] for s in found] == pytest.approx([1, 1, 1, 0.98, 0.98, 0.98, 0.98, 0.98])
    # a success lets three windows pass; in March it does so only below the longest problems
    nats, shares = [1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    for profile, begin, factor in (("early", 6, 1.0), ("early", 41, 1.0), ("march", 6, 1.0), ("march", 41, 0.98**3)):
        *_, last = windows(Config(profile=profile, window=1, begin=begin), shares, nats)
        assert last["factor"] == pytest.approx(factor), (profile, begin)


def test_lengths_are_drawn_as_published():
    config, course = Config(), Lengths()
    limits = torch.arange(6, 42).repeat(500).float()
    lengths = course.drawn(Draws(range(len(limits)), 0), {"limit": limits}, config)
    assert lengths.min() == 3 and lengths.max() == 41
    share = (lengths > limits).double()[limits == 6].mean()
    assert share.item() == pytest.approx(0.25 * 35 / 39, abs=0.05)
    last = lengths[limits == 41].double().mean().item()
    assert last > 22 + 2  # the mean of a uniform draw is 22; second draws make it larger


def test_a_length_depends_on_the_replica_alone():
    config = Config(batch_size=3)
    state = {"limit": torch.tensor([6.0, 20.0, 41.0]), "dropout": torch.full((3,), 0.2)}
    together = Lengths().batch(Draws([4, 5, 4], 7), state, config)
    for p, seed in enumerate((4, 5, 4)):
        alone = Lengths().batch(Draws([seed], 7), {k: x[p : p + 1] for k, x in state.items()}, config)
        assert all(torch.equal(alone[name][0], x[p]) for name, x in together.items())
    assert together["tokens"].shape == (3, 3, 41)


def test_dropout_falls_with_the_length_in_march_only():
    state = {"limit": torch.tensor([6.0] * 64), "dropout": torch.full((64,), 0.09)}
    made = Lengths().batch(Draws(range(64), 0), state, Config(profile="march"))
    torch.testing.assert_close(made["rate"], 0.09 * 8 / made["length"].clamp(min=8))
    assert (Lengths().batch(Draws(range(64), 0), state, Config())["rate"] == state["dropout"]).all()


# --- populations ------------------------------------------------------------------------------------------


def test_the_experiment_is_sound():
    notes = check_experiment(EXPERIMENT, TINY | {"optimizer": Adam()}, steps=5)
    assert notes["loss runs by"] == notes["evaluate runs by"] == "vmap"


MIXED = (
    {"seed": 0},
    {"seed": 0, "noise": Annealed(1.0)},
    {"seed": 1, "bound": 0.9, "pull_factor": 1.5, "pull": 0.05},
    {"seed": 2, "state_dropout": 0.0, "init_weight": 0.5},
)


@pytest.mark.parametrize("profile", ["early", "march"])
def test_a_replica_alone_trains_as_in_company_bit_for_bit(profile):
    own = [s | {"profile": profile} for s in MIXED]
    together = train(*own, steps=12, dtype=torch.float32)
    assert len(set(together.telemetry()["length_limit"].tolist())) > 1
    for p, settings in enumerate(own):
        alone = train(settings, steps=12, dtype=torch.float32).modules.theta[0]
        torch.testing.assert_close(alone, together.modules.theta[p], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("profile", ["early", "march"])
def test_padded_replicas_train_as_those_of_their_own_length(profile, monkeypatch):
    """What runs on a GPU, without reading a length on the host."""
    own = {"profile": profile}
    expected = train(own, own | {"seed": 1}, steps=4).modules.theta
    monkeypatch.setattr(module, "compiled", defined)
    padded = train(own, own | {"seed": 1}, steps=4).modules.theta
    torch.testing.assert_close(padded, expected, rtol=1e-9, atol=1e-11)


def test_one_update_by_hand():
    """Pull, clip, Adam, and the means in place of the copies, for one replica."""
    for averages in (False, True):
        p = population({"profile": "march", "window": 1, "clip": 0.3, "pull": 0.2 if averages else 0.01})
        model = EXPERIMENT.model(p.replicas[0].config).double()
        model.load_state_dict(dict(p.modules.named_rows(0)))
        made, _ = p._feed(0, p._live.course)
        one = {name: x[0] for name, x in made.items()}
        state = {name: x[0] for name, x in p._live.course.items()}
        loss, _ = EXPERIMENT.loss(model, (one, state), p.config)
        named = dict(model.named_parameters())
        gradients = torch.autograd.grad(loss, list(named.values()))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        with torch.no_grad():
            p._live.course["counted"].fill_(1e6)  # so that the window ends in a success
            p.step()
            for (name, x), g in zip(named.items(), gradients, strict=True):
                g = g * min(1.0, 0.3 / norm)
                x = x - 0.01 * g / (g.abs() + 1e-8)
                if averages and name in ("gates", "gate_bias", "candidate", "candidate_bias"):
                    x = x.mean(1, keepdim=True).expand_as(x)
                torch.testing.assert_close(dict(p.modules.named_rows(0))[name], x, rtol=1e-6, atol=1e-9)


def test_averaged_copies_are_equal():
    p = train({"pull": 2.0, "window": 3}, {"pull": 2.0, "window": 3, "seed": 1}, steps=2)
    p._live.course["counted"][0] = 1e6  # the first one's window ends in a success
    p.step()
    assert p._live.course["average"].tolist() == [1, 0]
    other = dict(p.modules.named_rows(1))["gates"]
    assert not torch.allclose(other[:, 0], other[:, 1], atol=1e-3)
    gates = dict(p.modules.named_rows(0))["gates"]
    torch.testing.assert_close(gates[:, 0], gates[:, 1], rtol=1e-12, atol=1e-14)


def test_the_learning_rate_is_that_of_the_course():
    """Adam's first step has the length of the learning rate in every coordinate."""
    p = population({"clip": None, "optimizer": Adam(eps=0.0)})
    before = p.modules.theta.clone()
    p._live.course["factor"].fill_(0.25)
    p.step()
    moved = (p.modules.theta - before).abs()
    assert moved[moved > 0].median().item() == pytest.approx(0.0025, rel=1e-6)


def test_noise_of_eta_zero_is_no_noise_and_other_noise_is_applied():
    """The authors' public program added its noise to a variable that nothing read: the updated weights must differ."""
    arms = [{"noise": noise, "optimizer": SGD()} for noise in (None, Annealed(0.0), Annealed(1.0), Annealed(1e-6))]
    silent, zero, noisy, faint = train(*arms, steps=1, dtype=torch.float32).modules.theta
    assert torch.equal(silent, zero)
    assert not torch.equal(silent, noisy) and not torch.equal(silent, faint)
    assert (silent != noisy).double().mean() > 0.99


def test_the_literal_noise_against_the_clipped_gradient():
    """The published numbers: 434 times the clip of March in the first update, 8,700 times that of January."""
    p = Population(EXPERIMENT, [Replica.of(EXPERIMENT, 0, {"noise": Annealed(1.0), "samples": 1, "tests": (3,)})])
    norm = p.telemetry()["noise_norm"].item()
    assert norm == pytest.approx(math.sqrt(188_260))
    assert norm / MARCH.clip == pytest.approx(434, abs=1) and norm / EARLY.clip == pytest.approx(8678, abs=5)
    assert Annealed(1.0)(999) ** 0.5 == pytest.approx(0.1496, abs=1e-4)


def test_gates_of_the_noise():
    """By the error e of the last window: e, sqrt(max(0, e - 0.02)), sqrt(20 e), and always 1."""
    errors = torch.tensor([1.0, 0.5, 0.01, 0.0])
    gates = {
        "none": [1, 1, 1, 1],
        "linear": [1, 0.5, 0.01, 0],
        "code": [0.98**0.5, 0.48**0.5, 0, 0],
        "early": [20**0.5, 10**0.5, 0.2**0.5, 0],
    }
    for gate, expected in gates.items():
        state = Lengths().start(Config(gate=gate))
        assert state["error"] == 1  # at first
        factor = Lengths().noise({"gate": state["gate"].expand(4, 3), "error": errors})
        assert factor.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7), gate
    with pytest.raises(PopulationError, match=r"no gate 'erly'.*did you mean 'early'"):
        Config(gate="erly")


def test_gated_noise_is_as_strong_as_the_gate_says():
    arms = [{"noise": Annealed(0.01), "gate": gate, "seed": 1} for gate in ("none", "linear", "code", "early")]
    p = train(*arms, steps=1)
    norms = p.telemetry()["noise_norm"]
    torch.testing.assert_close(norms / norms[0], torch.tensor([1, 1, 0.98**0.5, 20**0.5]).double(), rtol=1e-5, atol=0)
    p._live.course["error"].fill_(0.25)
    p.step()
    later = p.telemetry()["noise_norm"]
    expected = torch.tensor([1, 0.25, 0.23**0.5, 5**0.5]).double()
    torch.testing.assert_close(later / later[0], expected, rtol=1e-5, atol=0)
    assert len({tuple(row) for row in p.modules.theta.tolist()}) == 4


def test_windows_say_what_becomes_of_the_gradient():
    p = train({"optimizer": Adam(eps=1e-4)}, {"optimizer": Adam(eps=1e-4), "noise": Relative(1.0)}, steps=4)
    found = p.telemetry()
    assert (found["clipped_norm"] <= 1 + 1e-6).all() and found["noise_to_gradient"][0] == 0
    assert 0.5 < found["noise_to_gradient"][1] < 1.1 and found["update_cosine"][0] > found["update_cosine"][1]
    size = p.modules.theta.shape[1] ** 0.5
    torch.testing.assert_close(found["gradient_over_eps"], found["clipped_norm"] / size / 1e-4)


def test_resumed_is_uninterrupted_bit_for_bit():
    whole = train(*MIXED, steps=9, dtype=torch.float32)
    half = train(*MIXED, steps=4, dtype=torch.float32)
    saved = copy.deepcopy(half.state_dict())
    again = population(*MIXED, dtype=torch.float32)
    again.load_state_dict(saved)
    for _ in range(5):
        again.step()
    assert torch.equal(again.modules.theta, whole.modules.theta)
    assert again.telemetry()["length_limit"].tolist() == whole.telemetry()["length_limit"].tolist()


# --- errors ---------------------------------------------------------------------------------------------


def test_errors_of_answers_made_by_hand():
    targets = torch.tensor([[ONE, ZERO, PAD], [ONE, PAD, PAD], [ZERO, ONE, ONE], [ONE, ONE, PAD]])
    answers = torch.tensor([[ONE, ZERO, PAD], [ONE, ZERO, PAD], [ZERO, ONE, ZERO], [PAD, ZERO, ONE]])
    found = errors(answers, targets, EXPERIMENT.model(Config(maps=2, sets=1)))
    assert found["error"].item() == pytest.approx(3 / 8)  # a symbol behind the last one is no wrong digit
    assert found["sequence_error"].item() == pytest.approx(2 / 4)
    assert found["strict_error"].item() == pytest.approx(3 / 4)


def test_thresholds_are_strict():
    class Fixed(NeuralGPU):
        answers: torch.Tensor

        def forward(self, tokens):
            logits = torch.zeros(*tokens.shape, 4)
            return logits.scatter(-1, self.answers[..., None], 1.0)

    targets = torch.full((1, 100), ONE)
    for wrong, below in ((0, [100] * 4), (1, [0, 100, 100, 100]), (3, [0, 0, 0, 100]), (5, [0] * 4)):
        model = Fixed(2, 1, 1, 1)
        model.answers = targets.clone()
        model.answers[0, :wrong] = ZERO
        metrics = EXPERIMENT.evaluate(model, [(targets, targets)], Config(tests=(100,), task="id"))
        assert [metrics[f"below_{c}"].item() for c in (1, 2, 3, 5)] == below
    assert EXPERIMENT.diverged_metrics()["below_5"] == 0


def test_problems_that_are_tested_are_the_same_for_all_and_not_those_of_training():
    config = Config(tests=(9,), samples=50)
    (tokens, targets), (again, _) = EXPERIMENT.held_out(config)[0], EXPERIMENT.held_out(config)[0]
    assert torch.equal(tokens, again) and tokens.shape == targets.shape == (50, 9)
    made = Lengths().batch(Draws([9], 0), {"limit": torch.tensor([9.0]), "dropout": torch.zeros(1)}, config)
    assert not torch.equal(made["tokens"][0, :50, :9], tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "erly"}, "no profile 'erly'.*did you mean 'early'"),
        ({"task": "mul"}, "no task 'mul'"),
        ({"shortest": 2}, "lengths of bmul are 3 or more"),
        ({"begin": 50}, "in this order"),
        ({"tests": (8,)}, "tests = "),
        ({"tests": ()}, "tests = "),
        ({"kernel": 2}, "a kernel is odd"),
        ({"batch_size": 0}, "at least 1"),
        ({"bound": 1.0}, "outside"),
        ({"state_dropout": 1.0}, "outside"),
        ({"pull_factor": 0.9}, "pull_factor"),
        ({"init_weight": 0.0}, "init_weight"),
    ],
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(PopulationError, match=message):
        Config(**options)


# --- learning -------------------------------------------------------------------------------------------


def test_a_network_learns_to_copy_and_copies_longer_strings():
    """Guessing is wrong in 50 % of the digits."""
    config = {"task": "id", "profile": "march", "longest": 9, "tests": (9, 41), "samples": 32, "batch_size": 16,
              "window": 25, "maps": 12, "sets": 2, "lr": 3e-3, "clip": 1.0, "optimizer": Adam(eps=1e-4)}  # fmt: skip
    p = train({}, base=config, steps=200, dtype=torch.float32)
    metrics = p.evaluate()
    assert metrics["error_9"].item() == 0 and metrics["error"].item() < 1
    assert p.telemetry()["length_limit"].item() == 9
