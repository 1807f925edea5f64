"""Every learning-rate schedule is torch.optim.lr_scheduler's, stepped once per update."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toys import Regression, replica
from torch.optim import lr_scheduler

from gradnoise.population import (
    Cosine,
    Exponential,
    InverseSqrt,
    LinearDecay,
    Population,
    PopulationError,
    Steps,
)
from gradnoise.study.canonical import canonical, restore

RATES = [
    Cosine(0.1, steps=40),
    Cosine(0.3, steps=1, floor=0.1),
    Cosine(0.1, steps=50, warmup=10, floor=0.01),
    LinearDecay(2.0, steps=30, floor=0.5),
    LinearDecay(0.1, steps=50, warmup=1),
    Steps(0.5, at=(10, 11, 40)),
    Steps(0.1, at=(), warmup=7),
    Steps(1, at=(9,), factor=0.5, warmup=8),
    Exponential(0.1, factor=0.97),
    Exponential(0.1, factor=0.5, warmup=3),
    InverseSqrt(0.1),
    InverseSqrt(1.0, warmup=12),
]
table = pytest.mark.parametrize("rate", RATES, ids=repr)


def torch_rates(rate, updates: int) -> list[float]:
    """The rates of the scheduler of torch that means the same, from its warm-up on."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate.lr)
    w = rate.warmup

    def main() -> lr_scheduler.LRScheduler:
        match rate:
            case Cosine():
                return lr_scheduler.CosineAnnealingLR(optimizer, rate.steps - w, eta_min=rate.floor)
            case LinearDecay():
                return lr_scheduler.LinearLR(optimizer, 1.0, rate.floor / rate.lr, total_iters=rate.steps - w)
            case Steps():
                return lr_scheduler.MultiStepLR(optimizer, [t - w for t in rate.at], gamma=rate.factor)
            case Exponential():
                return lr_scheduler.ExponentialLR(optimizer, rate.factor)
        return lr_scheduler.LambdaLR(optimizer, lambda s: math.sqrt((w + 1) / (s + w + 1)))

    if w:
        warmup = lr_scheduler.LinearLR(optimizer, start_factor=1 / (w + 1), total_iters=w)
        scheduler = lr_scheduler.SequentialLR(optimizer, [warmup, main()], milestones=[w])
    else:
        scheduler = main()
    found = []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def course(rate) -> int:
    """How many updates to compare: torch's cosine rises again after its last."""
    return rate.steps + 1 if isinstance(rate, Cosine) else 60


def check_against_torch(rate) -> None:
    found = [rate(t) for t in range(course(rate))]
    assert found == pytest.approx(torch_rates(rate, course(rate)), rel=1e-9, abs=1e-12 * rate.lr)


@table
def test_equals_torch_at_every_update(rate):
    check_against_torch(rate)


starts, warmups = st.floats(1e-6, 10), st.integers(0, 20)


@st.composite
def falling(draw, kind):
    lr, warmup = draw(starts), draw(warmups)
    return kind(lr, warmup + draw(st.integers(1, 60)), warmup, draw(st.floats(0, 1)) * lr)


@st.composite
def stepped(draw):
    warmup = draw(warmups)
    at = draw(st.sets(st.integers(warmup + 1, 59), max_size=4))
    return Steps(draw(starts), tuple(sorted(at)), draw(st.floats(0.01, 2)), warmup)


anything = st.one_of(
    falling(Cosine),
    falling(LinearDecay),
    stepped(),
    st.builds(Exponential, starts, st.floats(0.5, 1), warmups),
    st.builds(InverseSqrt, starts, warmups),
)


@settings(max_examples=100, deadline=None)
@given(anything)
def test_equals_torch_for_any_settings(rate):
    check_against_torch(rate)


@settings(max_examples=100, deadline=None)
@given(anything)
def test_an_array_has_the_bits_of_its_numbers(rate):
    ones = [rate(t) for t in range(90)]
    assert all(isinstance(x, float) for x in ones)
    together = rate(np.arange(90).reshape(2, 3, 15))
    assert together.shape == (2, 3, 15) and together.dtype == np.float64
    assert together.ravel().tolist() == ones
    assert rate(np.arange(3, 90)).tolist() == ones[3:]


@settings(max_examples=100, deadline=None)
@given(anything)
def test_a_schedule_comes_back_from_text(rate):
    text = canonical({"lr": rate})
    back = restore(text)["lr"]
    assert (back, hash(back), canonical({"lr": back})) == (rate, hash(rate), text)


def test_lists_of_updates_are_tuples():
    assert Steps(0.1, [10, 20]) == Steps(0.1, (10, 20))
    assert hash(Steps(0.1, [10, 20])) == hash(Steps(0.1, (10, 20)))


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (Cosine(0.1, 9), '{"":"gradnoise.population.rates:Cosine","floor":0.0,"lr":0.1,"steps":9,"warmup":0}'),
        (
            LinearDecay(1, 9),
            '{"":"gradnoise.population.rates:LinearDecay","floor":0.0,"lr":1,"steps":9,"warmup":0}',
        ),
        (Steps(0.1, (5,)), '{"":"gradnoise.population.rates:Steps","at":[5],"factor":0.1,"lr":0.1,"warmup":0}'),
        (Exponential(0.1, 0.9), '{"":"gradnoise.population.rates:Exponential","factor":0.9,"lr":0.1,"warmup":0}'),
        (InverseSqrt(0.1), '{"":"gradnoise.population.rates:InverseSqrt","lr":0.1,"warmup":0}'),
    ],
)
def test_frozen_text(rate, text):
    """Part of the ids of trials: another text would make every study with a schedule start again."""
    assert canonical(rate) == text


@table
def test_the_warm_up_rises_in_equal_steps_to_the_whole_rate(rate):
    w = rate.warmup
    assert [rate(t) for t in range(w + 1)] == pytest.approx([rate.lr * (t + 1) / (w + 1) for t in range(w + 1)])


@pytest.mark.parametrize("kind", [Cosine, LinearDecay])
def test_no_rate_within_the_steps_is_zero(kind):
    rate = kind(0.1, steps=100_000)
    rates = rate(np.arange(100_001))
    assert (rates[:-1] > 0).all() and (np.diff(rates) <= 0).all()
    assert rates[-1] == 0


def test_replicas_have_their_own_schedules():
    rates = [0.05, Cosine(0.1, steps=6, warmup=2), Steps(0.1, at=(1, 3))]
    together = Population(Regression(), [replica(0, lr=lr) for lr in rates], dtype=torch.float64, trace=False)
    for _ in range(6):
        together.step()
    for row, lr in zip(together.modules.theta, rates, strict=True):
        value = lr if callable(lr) else lambda t: 0.05
        alone = Population(Regression(), [replica(0, lr=value)], dtype=torch.float64, trace=False)
        for _ in range(6):
            alone.step()
        assert torch.allclose(row, alone.modules.theta[0], rtol=1e-12, atol=1e-12)


def test_a_run_longer_than_its_schedule_is_refused():
    population = Population(Regression(), [replica(0, lr=Cosine(0.1, steps=2))], trace=False)
    population.step()
    population.step()
    with pytest.raises(PopulationError, match=r"lr = 0.0 at t = 2: a learning rate is a finite number > 0"):
        population.step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(0.0, 10), "lr = 0.0 is not a finite number > 0"),
        (lambda: Cosine(math.nan, 10), "lr = nan"),
        (lambda: Cosine(0.1, 10.0), "steps = 10.0 is not a whole number of updates >= 1"),
        (lambda: Cosine(0.1, 0), "steps = 0"),
        (lambda: Cosine(0.1, 10, warmup=10), "warmup = 10 leaves nothing of steps = 10"),
        (lambda: Cosine(0.1, 10, floor=0.2), r"floor = 0.2 is outside \[0, lr = 0.1\]"),
        (lambda: LinearDecay(0.1, 10, floor=-0.1), "floor = -0.1"),
        (lambda: LinearDecay(0.1, 10, warmup=-1), "warmup = -1"),
        (lambda: Steps(0.1, at=100), "at = 100 is not a tuple of updates"),
        (lambda: Steps(0.1, at=(20, 10)), r"at = \(20, 10\) is not ascending"),
        (lambda: Steps(0.1, at=(10, 10)), "is not ascending"),
        (lambda: Steps(0.1, at=(0,)), "at = 0 is not a whole number of updates >= 1"),
        (lambda: Steps(0.1, at=(10,), warmup=10), "warmup = 10 does not end before the first of at"),
        (lambda: Steps(0.1, at=(10,), factor=0.0), "factor = 0.0"),
        (lambda: Exponential(0.1, factor=1.1), r"factor = 1.1 is outside \(0, 1\]"),
        (lambda: Exponential(0.1, factor=0.0), "factor = 0.0"),
        (lambda: InverseSqrt(-1.0), "lr = -1.0"),
        (lambda: InverseSqrt(1.0, warmup=True), "warmup = True"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
