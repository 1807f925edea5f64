"""Schedules and optimizers of one's own: what they keep between calls is found, and so is an edit at any update."""

import dataclasses
import functools
import random
import time
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support.small import STEPS, Toy, small

from gradnoise import Annealed, Fixed, Relative
from gradnoise.population import (
    SGD,
    Adam,
    AdamW,
    Cosine,
    Group,
    Groups,
    Population,
    PopulationError,
    Replica,
    Training,
    check_experiment,
)
from gradnoise.population.rules import measured
from gradnoise.study import Arm, Options, Study, StudyError, dry_run, run_study

OPTIONS = Options(workers=1, chunk=8)
KEPT: dict[str, Any] = {}
CALLS: list[int] = []
MEMO: dict[int, float] = {}


@pytest.fixture(autouse=True)
def nothing_kept():
    for container in (KEPT, CALLS, MEMO):
        container.clear()


# Schedules


def counting(t):
    CALLS.append(t)
    return 0.05 / (1 + len(CALLS) // 100)


def rare(t):
    """Shows after thousands of calls alone."""
    CALLS.append(t)
    return 0.05 if len(CALLS) < 5000 else 0.01


def drawn(t):
    return 0.05 + 0.01 * random.random()


def since_the_last(t):
    last = KEPT.get("t", t)
    KEPT["t"] = t
    return 0.05 if t > last else 0.04


@dataclass(frozen=True)
class Counts:
    """A schedule of noise that ends after so many calls."""

    most: int = 50

    def __call__(self, t: int) -> float:
        CALLS.append(t)
        return 0.01 if len(CALLS) < self.most else 0.0


def logged(t):
    """Harmless: what it keeps decides nothing."""
    CALLS.append(t)
    return 0.05


def remembered(t):
    """A cache of pure values."""
    if t not in MEMO:
        MEMO[t] = 0.05 / (1 + t)
    return MEMO[t]


@functools.cache
def cached(t):
    return 0.05 / (1 + t)


def short(t):
    """Ends after so many updates, as a list does."""
    return [0.05, 0.04, 0.03, 0.02, 0.01, *[0.005] * (STEPS - 5)][t]


# Optimizers


@dataclass(frozen=True)
class Momentum:
    """Momentum, kept where `Own` says."""

    beta: float = 0.9

    def init(self, theta):
        return {}

    def update(self, theta, g, state, lr, t):
        v = KEPT.get("v")
        KEPT["v"] = g.clone() if v is None or v.shape != g.shape else self.beta * v + g
        theta.sub_(lr * KEPT["v"])


@dataclass(frozen=True)
class FreshAtTheStart(Momentum):
    def update(self, theta, g, state, lr, t):
        if t == 0:
            KEPT.clear()
        super().update(theta, g, state, lr, t)


@dataclass(frozen=True)
class OwnClock(Momentum):
    """Counts updates itself, and changes after many."""

    def update(self, theta, g, state, lr, t):
        CALLS.append(0)
        theta.sub_(lr * g * (1.0 if len(CALLS) < 1000 else 0.1))


@dataclass(frozen=True)
class Normed(Momentum):
    """Divides by the norm of all replicas' gradients together."""

    def update(self, theta, g, state, lr, t):
        theta.sub_(lr * g / g.norm())


@dataclass(frozen=True)
class NormedRows(Momentum):
    def update(self, theta, g, state, lr, t):
        theta.sub_(lr * g / g.norm(dim=1, keepdim=True))


@dataclass(frozen=True)
class Langevin(Momentum):
    def update(self, theta, g, state, lr, t):
        theta.sub_(lr * g + 0.01 * torch.randn_like(g))


def asked(**base: Any) -> Study:
    settings = small().settings[:1]
    settings = (dataclasses.replace(settings[0], values={}),)
    return small(seeds=6, settings=settings, base={"lr": 0.05, **base})


IMPURE = [
    ({"lr": counting}, "toy: lr: counting returned other values when it was asked again, and changes CALLS"),
    ({"lr": rare}, "toy: lr: rare returned other values"),
    ({"lr": drawn}, "toy: lr: drawn returned other values"),
    ({"lr": since_the_last}, "toy: lr: since_the_last returned other values"),
    ({"weight_noise": Counts()}, "toy: weight_noise: Counts returned other values"),
    ({"optimizer": Momentum()}, "toy: optimizer: Momentum moved the same weights elsewhere when it was used again"),
    ({"optimizer": FreshAtTheStart()}, "toy: optimizer: FreshAtTheStart moved the same weights elsewhere"),
    ({"optimizer": OwnClock()}, "toy: optimizer: OwnClock moved the same weights elsewhere.* changes CALLS"),
    ({"optimizer": Langevin()}, "toy: optimizer: Langevin moved the same weights elsewhere"),
    ({"optimizer": Groups((Group("0.*", Momentum()),), SGD())}, "toy: optimizer: Groups moved the same weights"),
    ({"optimizer": Normed()}, "toy: optimizer: Normed moves a replica elsewhere alone than beside another; it mixes"),
]


def described(x):
    """The same in every process, as workers of pytest need."""
    if not isinstance(x, dict):
        return str(x)[:40]
    return ", ".join(f"{name} {getattr(rule, '__name__', type(rule).__name__)}" for name, rule in x.items())


@pytest.mark.parametrize(("base", "message"), IMPURE, ids=described)
def test_what_depends_on_other_runs_is_refused(tmp_path, base, message):
    with pytest.raises(PopulationError, match=message):
        run_study(asked(**base), tmp_path, options=OPTIONS)
    CALLS.clear(), KEPT.clear()
    with pytest.raises(PopulationError, match=message):
        check_experiment(Toy(), base)
    CALLS.clear(), KEPT.clear()
    with pytest.raises(PopulationError, match=message):
        Population(Toy(), [Replica(seed, Training(**base)) for seed in range(2)])


PURE = [
    {"lr": remembered},
    {"lr": short},
    {"lr": Cosine(0.05, STEPS + 1)},
    {"optimizer": NormedRows()},
    {"optimizer": Adam()},
    {"optimizer": Groups((Group("0.*", AdamW()),), SGD(0.9))},
    {"weight_noise": Fixed(1e-6)},
]


@pytest.mark.parametrize("base", PURE, ids=described)
def test_what_is_a_function_of_t_and_state_trains(tmp_path, base):
    assert dry_run(asked(**base), tmp_path, OPTIONS).notes == ()
    Population(Toy(), [Replica(0, Training(**base))])
    assert {t.status for t in run_study(asked(**base), tmp_path, options=OPTIONS).trials} == {"finished"}


def test_a_cache_of_the_standard_library_is_pure():
    assert measured("lr", cached, 20).notes == ()


def test_what_is_kept_and_decides_nothing_is_said(tmp_path):
    (note,) = dry_run(asked(lr=logged), tmp_path, OPTIONS).notes
    assert "toy: lr: logged changes CALLS" in note
    CALLS.clear()
    measured("lr", logged, STEPS)
    assert not CALLS, "the check leaves nothing behind"


def test_the_users_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    with pytest.raises(PopulationError):
        measured("optimizer", Langevin(), 20)
    assert torch.equal(torch.randn(3), expected)


def test_a_long_schedule_takes_no_time():
    began = time.process_time()
    measured("lr", remembered, 100_000)
    assert time.process_time() - began < 2.0


# Edits

EDIT = {"at": 7, "late": 0.1}


def falls(t):
    """Another learning rate from an update on that no power of two and no share of the run is."""
    return 0.05 if t < EDIT["at"] else 0.01


@dataclass(frozen=True)
class Falls:
    eta: float = 0.01

    def __call__(self, t: int) -> float:
        return self.eta if t < EDIT["at"] else 0.0


@dataclass(frozen=True)
class SlowsDown(Momentum):
    """Goes on slower after the first updates, by its own rule."""

    def update(self, theta, g, state, lr, t):
        theta.sub_(lr * g * torch.where(t > 6, EDIT["late"], 1.0))


@pytest.mark.parametrize(
    ("base", "changed"),
    [({"lr": falls}, {"at": 6}), ({"weight_noise": Falls()}, {"at": 6}), ({"optimizer": SlowsDown()}, {"late": 0.2})],
    ids=["function", "dataclass", "optimizer"],
)
def test_an_edit_at_any_update_stops_the_study(tmp_path, monkeypatch, base, changed):
    before = asked(**base)
    run_study(before, tmp_path, options=OPTIONS)
    for name, value in changed.items():
        monkeypatch.setitem(EDIT, name, value)
    after = dataclasses.replace(asked(**base), seeds=tuple(range(8)))
    assert {t.id for t in before.trials()} <= {t.id for t in after.trials()}, "the ids do not tell"
    what = "weight 0 after later updates was" if "late" in changed else f"hash of the values at all t < {STEPS} was"
    with pytest.raises(StudyError, match=what):
        run_study(after, tmp_path, options=OPTIONS)


def test_relative_noise_goes_on(tmp_path):
    study = small(
        arms=(Arm("none"), Arm("noise", {"noise": Relative(0.5)}), Arm("annealed", {"noise": Annealed(0.01)}))
    )
    for _ in range(2):
        run_study(study, tmp_path, options=OPTIONS)
