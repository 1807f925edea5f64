"""An arm that changes nothing stops the study; one that may, one that starts later and one that works do not."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support.small import EVERY, STEPS, Toy, small

from gradnoise import Annealed, Fixed
from gradnoise.population import SGD
from gradnoise.study import Arm, Options, Setting, Store, Study, StudyError, run_study
from gradnoise.study.run.inert import InertArms

OPTIONS = Options(workers=1, chunk=8, slice_seconds=0.0)
NONE = Arm("none")


@dataclass(frozen=True)
class Later:
    """A schedule that is zero before an update."""

    start: int
    eta: float = 1.0

    def __call__(self, t: int) -> float:
        return self.eta if t >= self.start else 0.0


def study(*arms: Arm, **changes: Any) -> Study:
    return small(arms=(NONE, *arms), **changes)


# In a run


def test_a_setting_that_nobody_reads(tmp_path):
    """The experiment declares the setting, so that nothing else could find it."""
    wrong = study(Arm("noise", {"odd": Annealed(0.01)}))
    for _ in range(2):  # repeating the command does not get past it
        with pytest.raises(StudyError) as error:
            run_study(wrong, tmp_path, options=OPTIONS)
        message = str(error.value)
        assert "arm 'noise' trains exactly what the baseline 'none' trains" in message
        assert "(the first in row 'a', setting 'lr=0.05')" in message and "after 3 updates" in message
        assert "odd = Annealed(eta=0.01" in message and "may_equal_baseline=True" in message
        with Store(tmp_path, readonly=True) as store:
            assert {(t.status, t.step) for t in store.results().trials} == {("running", EVERY)}
    allowed = study(Arm("noise", {"odd": Annealed(0.01)}, may_equal_baseline=True))
    assert {t.status for t in run_study(allowed, tmp_path, options=OPTIONS).trials} == {"finished"}


@pytest.mark.parametrize(
    "arm",
    [Arm("wide", {"clip": 1e9}), Arm("zero", {"noise": Annealed(0.0)}), Arm("zero", {"noise": Fixed(0.0)})],
    ids=["clip", "annealed", "fixed"],
)
def test_what_never_acts(tmp_path, arm):
    with pytest.raises(StudyError, match=f"arm '{arm.name}' trains exactly what the baseline"):
        run_study(study(arm, base={"clip": 1e8}), tmp_path / "refused", options=OPTIONS)
    allowed = dataclasses.replace(arm, may_equal_baseline=True)
    run_study(study(allowed, base={"clip": 1e8}), tmp_path / "allowed", options=OPTIONS)


@pytest.mark.parametrize(
    "arm",
    [
        Arm("noise", {"noise": Annealed(1e-12)}),
        Arm("later", {"noise": Later(STEPS // 2)}),
        Arm("last", {"noise": Later(STEPS - 1)}),
        Arm("before an evaluation", {"noise": Later(EVERY - 1)}),
        Arm("weights", {"weight_noise": Later(EVERY)}),
        Arm("faster", {"lr": 0.0501}),
        Arm("clip", {"clip": 0.5}),
    ],
    ids=lambda arm: arm.name,
)
def test_what_acts_at_some_time_is_left_alone(tmp_path, arm):
    settings = (Setting("a", "A", {"lr": 0.05}),)
    results = run_study(study(arm, settings=settings), tmp_path, options=OPTIONS)
    assert {t.status for t in results.trials} == {"finished"}


def test_momentum_acts_at_the_second_update(tmp_path):
    """Evaluated after each update: the first one is the same with and without."""
    arm = Arm("momentum", {"optimizer": SGD(0.9)})
    results = run_study(study(arm, eval_every=1), tmp_path, options=OPTIONS)
    assert {t.status for t in results.trials} == {"finished"}


def test_a_late_schedule_that_nobody_reads_is_found_when_it_should_act(tmp_path):
    with pytest.raises(StudyError, match=f"all metrics are equal after {3 * EVERY} updates"):
        run_study(study(Arm("later", {"odd": Later(2 * EVERY)})), tmp_path, options=OPTIONS)


def test_pairs_that_diverge_are_no_evidence(tmp_path):
    results = run_study(study(Arm("odd", {"odd": 1}), experiment=Toy(poison={0: 0, 1: 0})), tmp_path, options=OPTIONS)
    assert {t.status for t in results.trials} == {"diverged"}


class Still(Toy):
    """A model that nothing moves: its gradient is zero."""

    def model(self, config: Mapping[str, Any]):
        model = super().model(config)
        with torch.no_grad():
            for x in model.parameters():
                x.zero_()
        return model

    def batch(self, seed, t, config):
        x, y = super().batch(seed, t, config)
        return x, y - y


def test_runs_in_which_nothing_moves_are_no_evidence(tmp_path):
    class StillOff(Still):
        def loss(self, model, batch, config):
            return super().loss(model, batch, config) + 1.0  # measured, and without gradient

    results = run_study(study(Arm("clip", {"clip": 0.5}), experiment=StillOff()), tmp_path, options=OPTIONS)
    assert {t.status for t in results.trials} == {"finished"}


# The rule alone

METRICS = {"train_loss": 2.0, "gradient_norm": 1.0, "solved": 1.0}


def measured(changes: Mapping[tuple[str, int], Mapping[str, float]], seen: set[int]):
    """Metrics of every trial of the seeds seen: the same but for changes, (arm, seed) -> metrics."""
    trials = {t.id: t for t in study(Arm("odd", {"odd": 1})).trials()}

    def metrics(trial: str, step: int) -> Mapping[str, float]:
        t = trials[trial]
        assert step == EVERY
        return {**METRICS, **changes.get((t.arm, t.seed), {})} if t.seed in seen else {}

    return metrics


def check(changes: Mapping[tuple[str, int], Mapping[str, float]] = {}, seen: set[int] = {0, 1}) -> None:  # noqa: B006
    asked = study(Arm("odd", {"odd": 1}))
    InertArms(asked, asked.trials()).check(measured(changes, seen), [t.id for t in asked.trials()])


def test_rounding_is_no_difference():
    with pytest.raises(StudyError, match="in 4 of 4 pairs"):
        check({("odd", 0): {"train_loss": 2.0 + 1e-7}})
    with pytest.raises(StudyError, match="in 2 of 2 pairs"):
        check(seen={1})


@pytest.mark.parametrize(
    "changes",
    [
        {("odd", 1): {"train_loss": 2.0 + 1e-5}},
        {("odd", 1): {"solved": 0.0}},
        {("odd", 1): {"another": 0.0}},
        {("odd", 0): {"train_loss": float("nan")}, ("odd", 1): {"train_loss": 3.0}},
        {(arm, seed): {"train_loss": 0.0} for arm in ("none", "odd") for seed in (0, 1)},
    ],
    ids=["one pair", "a flag", "a metric more", "one diverged", "all is learned"],
)
def test_no_verdict_on_an_arm(changes):
    check(changes)


def test_flags_alone_are_no_evidence():
    """An engine that measures no loss: all runs may just have succeeded."""
    asked = study(Arm("odd", {"odd": 1}))
    InertArms(asked, asked.trials()).check(lambda trial, step: {"solved": 1.0}, [t.id for t in asked.trials()])


def test_an_arm_without_the_baseline_beside_it_is_left_alone():
    asked = study(Arm("odd", {"odd": 1}), Arm("even", {"odd": 2}), settings=(Setting("a", "A", arms=("odd", "even")),))
    InertArms(asked, asked.trials()).check(lambda trial, step: METRICS, [t.id for t in asked.trials()])


def test_an_arm_that_acted_once_is_not_looked_at_again():
    asked, looks = study(Arm("odd", {"odd": 1})), []
    arms = {t.id: t.arm for t in asked.trials()}
    guard = InertArms(asked, asked.trials())
    for seen in (2, 2):  # the two runs of one pair clear the arm for all
        guard.check(
            lambda trial, step: looks.append(trial) or {**METRICS, "train_loss": float(len(arms[trial]))}, list(arms)
        )
        assert len(looks) == seen


def test_what_was_seen_before_is_not_looked_at_again():
    """A commit costs what is new in it, however large the study is."""
    asked, looks = study(Arm("odd", {"odd": 1})), []
    guard = InertArms(asked, asked.trials())
    for seed in (0, 1):
        new = [t.id for t in asked.trials() if t.seed == seed]
        guard.check(lambda trial, step: looks.append(trial) or {}, new)
        assert set(looks[-len(new) :]) == set(new) and len(looks) == (seed + 1) * len(new)
