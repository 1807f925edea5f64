"""Seeds that change nothing stop a study: copies of one pair are no evidence. Seeds that change something do not."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from support.small import STEPS, Toy, small
from torch import nn

from gradnoise import Annealed
from gradnoise.population import Course, PopulationError, check_experiment
from gradnoise.study import Arm, Options, Setting, Store, StudyError, dry_run, run_study
from gradnoise.study.analysis import summarise
from gradnoise.study.results import Curve
from gradnoise.study.run.equal_seeds import EqualSeeds

OPTIONS = Options(workers=1, chunk=8)
ALL = Options(workers=1, chunk=16)
FASTER = (Arm("none"), Arm("faster", {"lr": 0.1}))


class FixedWeights(Toy):
    def model(self, config):
        torch.manual_seed(0)
        return super().model(config)


class Zeros(Toy):
    """Constants, as every seed has them: nothing to draw, and nothing to say."""

    def model(self, config):
        model = super().model(config)
        for x in model.parameters():
            nn.init.constant_(x, 0.1)
        return model


class FullBatch(Toy):
    def batch(self, seed, t, config):
        return super().batch(0, 0, config)


class Copies(FixedWeights, FullBatch):
    """A line that many scripts begin with, and the whole of a small data set."""


class ZeroCopies(Zeros, FullBatch):
    pass


class TextInOrder(FixedWeights):
    same_batches: ClassVar[bool] = True


class Generated(FixedWeights):
    """Minibatches made by a course that forgets its draws."""

    class Always(Course):
        generates: ClassVar[bool] = True

        def start(self, config):
            return {"level": torch.ones(())}

        def batch(self, draws, state, config):
            x = torch.linspace(-1, 1, 20).view(5, 4).expand(len(state["level"]), 5, 4)
            return x, x.sum(-1)

    course = Always()

    def loss(self, model, batch, config):
        minibatch, _ = batch
        return super().loss(model, minibatch, config)


class WithDropout(Copies):
    def model(self, config):
        return nn.Sequential(nn.Dropout(0.5), super().model(config))


class Augmented(Copies):
    def loss(self, model, batch, config):
        x, y = batch
        return super().loss(model, (x + 0.1 * torch.randn_like(x), y), config)


class Projected(nn.Module):
    """A model of random features."""

    def __init__(self, model: nn.Module, projection: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("projection", projection)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x @ self.projection)


class RandomFeatures(Copies):
    """First weights are the same, and a buffer is drawn for each seed."""

    def model(self, config):
        projection = torch.randn(4, 4)
        model = super().model(config)
        return Projected(model, projection)


@pytest.mark.parametrize("experiment", [Copies, ZeroCopies, TextInOrder, Generated])
@pytest.mark.parametrize("arms", [FASTER, None], ids=["faster", "noise"])
def test_copies_are_refused_before_anything_is_trained(tmp_path, experiment, arms):
    asked = small(experiment(), **({"arms": arms} if arms else {}))
    for ask in (run_study, dry_run):
        with pytest.raises(PopulationError, match="toy: all seeds are the same run") as error:
            ask(asked, tmp_path, options=OPTIONS)
    assert "global generator" in str(error.value) and "same_weights = True" in str(error.value)
    with Store(tmp_path) as store:
        assert not store.counts(), "nothing was trained"
    with pytest.raises(PopulationError, match="toy: all seeds are the same run"):
        check_experiment(experiment())


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        (Toy, ()),
        (Zeros, ()),
        (FixedWeights, ("the model begins with the same weights for every seed",)),
        (FullBatch, ("minibatches are the same for every seed",)),
        (RandomFeatures, ("minibatches are the same for every seed",)),
        (WithDropout, ("the model begins with the same weights", "minibatches are the same for every seed")),
        (Augmented, ("the model begins with the same weights", "minibatches are the same for every seed")),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_seeds_that_change_something_train_and_what_they_share_is_said(tmp_path, experiment, said):
    asked = small(experiment(), seeds=6)  # enough to decide, of which nothing is said
    notes = dry_run(asked, tmp_path, OPTIONS).notes
    assert len(notes) == len(said) and all(words in note for words, note in zip(said, notes, strict=True))
    assert {t.status for t in run_study(asked, tmp_path, options=OPTIONS).trials} == {"finished"}
    found = check_experiment(experiment())
    assert all(words in found["same for all seeds"] for words in said) and ("same for all seeds" in found) == bool(said)


class Declared(Copies):
    same_weights: ClassVar[bool] = True
    same_batches: ClassVar[bool] = True


def test_noise_from_one_starting_point_is_a_question_that_may_be_asked(tmp_path):
    asked = small(Declared(), seeds=6)
    assert dry_run(asked, tmp_path, OPTIONS).notes == ()
    assert {t.status for t in run_study(asked, tmp_path, options=OPTIONS).trials} == {"finished"}


@dataclass(frozen=True)
class Late:
    """A schedule that is zero in the first half."""

    def __call__(self, t: int) -> float:
        return 0.01 if t >= STEPS // 2 else 0.0


def test_a_declared_study_stops_where_not_even_its_pairs_differ(tmp_path):
    asked = small(Declared(), arms=(Arm("none"), Arm("late", {"noise": Late()})))
    assert len(run_study(asked, tmp_path / "late", options=OPTIONS).trials) == 8
    for _ in range(2):  # repeating the command does not get past it
        with pytest.raises(StudyError, match=r"seeds 0 and 1 are the same run, in arm 'faster' and in the baseline"):
            run_study(small(Declared(), arms=FASTER), tmp_path / "copies", options=OPTIONS)


def test_there_is_no_verdict_on_copies(tmp_path):
    """What was trained when the study stopped is kept, and may be reported."""
    settings = (Setting("a", "Row a", {"lr": 0.05}),)
    with pytest.raises(StudyError, match="are the same run"):
        run_study(small(Declared(), arms=FASTER, seeds=8, settings=settings), tmp_path, options=ALL)
    with Store(tmp_path, readonly=True) as store:
        results = store.results()
    assert {t.status for t in results.trials} == {"finished"}
    (effect,) = summarise(results).effects
    assert effect.comparison.p < 0.05 and effect.verdict.outcome == "undecided"
    assert "No verdict: all seeds are the same run" in effect.verdict.sentence
    other = [dataclasses.replace(t, curves=shifted(t.curves)) if t.seed == 7 else t for t in results.trials]
    assert summarise(dataclasses.replace(results, trials=tuple(other))).effects[0].verdict.outcome != "undecided"


def shifted(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    return {name: dataclasses.replace(curve, values=curve.values + 1e-9) for name, curve in curves.items()}


def test_a_study_of_one_seed_has_nothing_to_compare(tmp_path):
    run_study(small(Declared(), arms=FASTER, seeds=1), tmp_path, options=OPTIONS)


# The rule alone

METRICS = {"train_loss": 2.0, "gradient_norm": 1.0, "solved": 1.0}


def check(changes: Mapping[tuple[str, int], Mapping[str, float]]) -> None:
    arms = (Arm("none"), Arm("odd", {"odd": 1}), Arm("noise", {"noise": Annealed(1.0)}))
    asked = small(arms=arms, seeds=3)
    trials = {t.id: t for t in asked.trials()}

    def measured(trial: str, step: int) -> Mapping[str, float]:
        return {**METRICS, **changes.get((trials[trial].arm, trials[trial].seed), {})}

    EqualSeeds(asked, asked.trials()).check(measured, list(trials))


def test_all_pairs_of_a_group_are_looked_at():
    with pytest.raises(StudyError, match="seeds 0 and 1 are the same run, in arm 'odd'"):
        check({})
    with pytest.raises(StudyError, match="in arm 'noise'"):
        check({("odd", 2): {"train_loss": 3.0}})
    check({("none", 2): {"train_loss": 3.0}})
    check({("odd", 2): {"solved": 0.0}, ("noise", 1): {"train_loss": 3.0}})


@pytest.mark.parametrize("no_evidence", [{"train_loss": 0.0}, {"train_loss": float("nan")}, {"gradient_norm": 0.0}])
def test_runs_that_did_not_move_are_no_evidence(no_evidence):
    check({("none", seed): no_evidence for seed in range(3)})


def test_numbers_that_may_be_rounded_are_no_evidence():
    asked = small(arms=(Arm("none"), Arm("odd", {"odd": 1})), seeds=3)
    EqualSeeds(asked, asked.trials()).check(lambda trial, step: {"train_loss": 0.35}, [t.id for t in asked.trials()])
