"""The dose finder: what it concludes from scores, and that it trains what it says."""

import math

import pytest
import torch
from support.toys import Regression
from torch import nn

import gradnoise
from gradnoise import Annealed, Relative, attach
from gradnoise.dose import find
from gradnoise.dose.found import judge
from gradnoise.errors import PopulationError
from gradnoise.population import Turn

SEEDS = tuple(range(6))
BASE = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0]


def found(worse, margin=0.05, better="lower"):
    """Judge doses whose scores are worse than those without noise by so much, a number or one for each seed."""
    scores = {0.0: BASE}
    for dose, by in worse.items():
        by = by if isinstance(by, list) else [by * (1 + 0.1 * k) for k in range(6)]
        scores[dose] = [x + (y if better == "lower" else -y) for x, y in zip(BASE, by, strict=True)]
    return judge(scores, SEEDS, margin, better, "loss")


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_the_largest_dose_that_does_no_harm(better):
    result = found({0.1: 0.01, 0.3: -0.02, 1.0: 0.02, 3.0: 0.5}, better=better)
    assert [x.verdict for x in result.tried] == ["", "no harm", "helps", "no harm", "harm"]
    assert result.rho == result.seen == 1.0 and result.best.dose == 0.3
    assert [x.worse for x in result.tried] == pytest.approx([0, 0.0125, -0.025, 0.025, 0.625])


def test_doses_are_judged_from_the_smallest_up():
    """A dose that is cleared by chance behind one that is not does not count."""
    wide = [-1.0, 1.2, -0.9, 1.1, -1.0, 0.8]
    result = found({0.1: 0.0, 0.3: wide, 1.0: 0.0})
    assert [x.verdict for x in result.tried[1:]] == ["no harm", "unclear", "no harm"]
    assert result.rho == 0.1 and result.seen == 1.0
    assert "None is seen up to 1, which 6 seeds do not decide" in str(result)
    assert found({0.1: 0.5, 0.3: 0.0}).rho == 0.0


def test_the_chance_to_clear_a_dose_that_harms_is_one_in_twenty():
    """Doses that are worse by just the margin, and by chance less: 400 pilots, and 1 in 20 of them may be wrong."""
    generator = torch.Generator().manual_seed(0)
    wrong = 0
    for _ in range(400):
        scores = {0.0: BASE}
        for dose in (0.1, 0.3, 1.0):
            scores[dose] = [x + 0.05 + 0.1 * float(torch.randn((), generator=generator)) for x in BASE]
        wrong += judge(scores, SEEDS, 0.05, "lower", "loss").rho > 0
    assert wrong <= 0.05 * 400 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_a_run_that_diverges_is_harm():
    result = found({0.1: 0.0, 1.0: [0.0, 0.0, math.nan, 0.0, 0.0, 0.0], 3.0: 0.0})
    assert result.tried[2].verdict == "diverges" and result.rho == result.seen == 0.1
    assert "diverges" in str(result)
    with pytest.raises(ValueError, match=r"without noise of seeds \[1\] diverged"):
        judge({0.0: [1.0, math.inf, *BASE[2:]], 0.1: BASE}, SEEDS, None, "lower", "loss")


def test_the_margin_is_five_percent_of_the_score_without_noise():
    assert judge({0.0: BASE, 1.0: BASE}, SEEDS, None, "lower", "loss").margin == pytest.approx(0.05)


def test_the_table_and_the_picture(tmp_path):
    result = found({0.1: 0.01, 1.0: 0.5})
    lines = str(result).splitlines()
    assert lines[0].split()[:2] == ["dose", "loss"] and len(lines) == 7
    assert lines[5] == "No harm up to a dose of 0.1: loss worse by less than 0.05 there, if at all."
    path = result.plot(tmp_path / "dose.svg")
    assert path.read_text(encoding="utf-8").count("</svg>") == 1


def test_a_loop_of_ones_own():
    """SGD on a quadratic, whose stationary loss grows with the noise: doses are put in their order."""
    asked = []

    def train(schedule, seed):
        asked.append((schedule, seed))
        p = nn.Parameter(torch.full((20,), 1.0 + 0.1 * seed))
        optimizer = torch.optim.SGD([p], lr=0.1)
        noise = attach(optimizer, schedule, seed=seed, warn=False)
        for _ in range(30):
            optimizer.zero_grad()
            loss = p.square().sum()
            loss.backward()
            optimizer.step()
        assert noise.step == 30
        return loss

    result = gradnoise.find(train, doses=(0.01, 10.0), margin=0.1)
    assert [x.dose for x in result.tried] == [0.0, 0.01, 10.0]
    assert asked[:2] == [(Relative(0.0), 0), (Relative(0.0), 1)] and (Relative(10.0), 5) in asked
    assert result.rho == 0.01 and result.tried[2].verdict == "harm"


def test_an_experiment_is_trained_as_a_population():
    result = find(Regression(), {"lr": 0.05}, doses=(0.01, 30.0), steps=40, seeds=5)
    assert result.rho == 0.01 and result.tried[2].verdict in ("harm", "unclear") and result.what == "train_loss"
    other = find(
        Regression(), {"lr": 0.05}, doses=(0.0, 1.0), steps=10, seeds=(3, 4, 5, 6, 7), metric="size", better="higher",
        schedule=Annealed,
    )  # fmt: skip
    assert other.what == "size" and other.seeds == (3, 4, 5, 6, 7)


def test_a_pilot_of_many_seeds_is_the_same_in_several_populations(monkeypatch):
    options = {"doses": (0.3,), "steps": 8, "seeds": 5, "metric": "size"}
    together = find(Regression(), {"lr": 0.05}, **options)
    monkeypatch.setattr("gradnoise.dose.pilots.ROWS", 4)
    apart = find(Regression(), {"lr": 0.05}, **options)
    for x, y in zip(together.tried, apart.tried, strict=True):
        assert x.scores == pytest.approx(y.scores, rel=1e-5)


def test_training_that_ignores_the_schedule_is_found_out():
    with pytest.raises(ValueError, match="makes no use of its first argument, the schedule"):
        find(lambda schedule, seed: float(seed), doses=(0.1,))


def test_training_that_cannot_be_repeated_is_said():
    calls = iter(range(1000))
    with pytest.warns(UserWarning, match="another score when it is repeated with the same seed"):
        find(lambda schedule, seed: 1 + 1e-3 * next(calls), doses=(0.1,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"doses": (-1.0,)}, "a dose is a finite number >= 0, got -1.0"),
        ({"doses": (0.0,)}, "no dose to try beside 0"),
        ({"doses": 0.1}, r"doses must be numbers, such as \(0.03, 0.1, 0.3\), got 0.1"),
        ({"doses": ("low", 1.0)}, r"doses must be numbers, such as \(0.03, 0.1, 0.3\), got \['low', 1.0\]"),
        ({"seeds": 6.0}, "seeds must be an integer, how many, or integers, which, got 6.0"),
        ({"seeds": (0.5, 1, 2, 3, 4)}, "seeds must be an integer, how many, or integers, which"),
        ({"schedule": Relative(0.1)}, r"schedule must be a function that makes one of a dose, .*got Relative\(rho=0.1"),
        ({"schedule": Annealed(0.1)}, r"schedule must be a function .*; Annealed\(eta=0.1, gamma=0.55\) made "),
        ({"seeds": 4}, r"seeds must be at least 5 different ones.* got \[0, 1, 2, 3\]"),
        ({"seeds": (1, 1, 2, 3, 4)}, "seeds must be at least 5 different ones"),
        ({"better": "smaller"}, "better must be 'lower' or 'higher', got 'smaller'"),
        ({"margin": -1.0}, "margin must be a finite number >= 0, got -1.0"),
        ({"steps": 3}, "config, steps and metric are for an Experiment"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        find(lambda schedule, seed: 0.0, **options)
    with pytest.raises(ValueError, match="one number such as the last loss, got None"):
        find(lambda schedule, seed: None)


@pytest.mark.parametrize(
    ("config", "options", "error", "message"),
    [
        ({}, {}, ValueError, "steps must be a number of updates >= 1 for an experiment, got None"),
        ({"noise": Annealed(0.1)}, {"steps": 2}, ValueError, "config sets the noise"),
        ({"lrr": 0.1}, {"steps": 2}, PopulationError, "did you mean 'lr'"),
        ({}, {"steps": 2, "metric": "siez"}, PopulationError, "no metric 'siez'; did you mean 'size'"),
    ],
)
def test_refusals_of_experiments(config, options, error, message):
    with pytest.raises(error, match=message):
        find(Regression(), config, **options)


def test_losses_that_are_minimised_in_turns_are_no_score():
    experiment = Regression()
    experiment.turns = (Turn("first", "0.*"), Turn("others", "[!0]*"))
    with pytest.raises(ValueError, match="a loss for each turn, and none of them is a score; name a metric"):
        find(experiment, {"lr": 0.1}, steps=4)
    found = find(experiment, {"lr": 0.01}, steps=4, metric="size", seeds=5, doses=(0.1,))
    assert "size" in str(found)
