"""Studies of networks that are updated in turns: settings by turn from the study's file to the page."""

import re
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from support.small import assert_same
from torch import nn
from torch.nn import functional as F

from gradnoise import Annealed
from gradnoise.errors import StudyError
from gradnoise.population import SGD, Adam, Experiment, PopulationError, Turn, derive_seed
from gradnoise.study import Arm, Metric, Options, Setting, Store, Study, run_study
from gradnoise.study.canonical import canonical, restore
from gradnoise.study.report import write_report

OPTIONS = Options(trace=False)
OWN = {"optimizer": {"critic": SGD(0.5), "generator": Adam(0.5)}, "lr": {"critic": 0.02, "generator": 0.01}}


class Gan(Experiment):
    name = "small-gan"
    turns = (Turn("critic", updates=4), Turn("generator"))
    code: ClassVar[float] = 1.0

    def model(self, config):
        return nn.ModuleDict({"generator": nn.Linear(3, 2), "critic": nn.Linear(2, 1)})

    def batch(self, seed, t, config):
        generator = torch.Generator().manual_seed(derive_seed(seed, t, "gan"))
        return torch.randn(6, 2, generator=generator) + 1, torch.randn(6, 3, generator=generator)

    def loss(self, model, batch, config, turn):
        real, z = batch
        if turn == "critic":
            return F.softplus(-model["critic"](real)).mean() + F.softplus(model["critic"](model["generator"](z))).mean()
        return self.code * F.softplus(-model["critic"](model["generator"](z))).mean()

    def held_out(self, config):
        return self.batch(99, 0, config)

    def evaluate(self, model, held_out, config):
        return {"distance": (model["generator"](held_out[1]).mean(0) - 1).square().sum()}


class OtherCode(Gan):
    code = 2.0


class OtherTurns(Gan):
    turns = (Turn("critic", updates=3), Turn("generator"))


def study_of(experiment: Experiment | None = None, **changes) -> Study:
    values = {
        "name": "small-gan",
        "title": "A small GAN",
        "experiment": experiment or Gan(),
        "arms": (
            Arm("none"),
            Arm("both", {"noise": Annealed(0.1)}),
            Arm("generator", {"noise": {"generator": Annealed(0.1)}}),
        ),
        "metric": Metric("distance", "distance", higher_is_better=False),
        "settings": (Setting("all", "All runs", {}),),
        "base": OWN,
        "seeds": (0, 1, 2),
        "steps": 20,
        "eval_every": 2,
    }
    return Study(**(values | changes))


def test_the_whole_path(tmp_path):
    """Noise of the last of five updates has not acted at the first evaluation, and is not taken for none."""
    results = run_study(study_of(), tmp_path / "a", options=OPTIONS)
    by_arm = {t.arm: t for t in results.trials if t.seed == 0}
    assert by_arm["none"].curves["distance"].values[0] == by_arm["generator"].curves["distance"].values[0]
    assert len({t.final["distance"] for t in by_arm.values()}) == 3
    assert by_arm["none"].final["noise_norm_generator"] == by_arm["generator"].final["noise_norm_critic"] == 0
    assert by_arm["both"].final["noise_norm_critic"] > 0 < by_arm["generator"].final["noise_norm_generator"]
    text = write_report(results, tmp_path / "page").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", text))
    assert "4 of critic, 1 of generator" in text
    assert "noise generator: Annealed(eta=0.1, gamma=0.55)" in text
    assert "lr critic: 0.02, generator: 0.01" in text
    assert "critic: SGD(momentum=0.5, nesterov=False), generator: Adam(beta1=0.5" in text
    # in slices, and as the store has them
    with Store(tmp_path / "a", readonly=True) as store:
        assert store.counts() == {"finished": 9}
    assert_same(run_study(study_of(), tmp_path / "b", options=replace(OPTIONS, slice_seconds=0.0)), results)
    for trial in results.trials:
        assert canonical(restore(canonical(trial.config))) == canonical(trial.config)


@pytest.mark.parametrize("other", [OtherCode, OtherTurns])
def test_another_loss_or_round_is_other_code(tmp_path, other):
    run_study(study_of(), tmp_path, options=OPTIONS)
    changed = other()
    changed.name = Gan.name
    with pytest.raises(StudyError, match="accept-changed-code"):
        run_study(study_of(changed, seeds=(0, 1, 2, 3)), tmp_path, options=OPTIONS)


def test_an_arm_that_changes_nothing_is_found_after_a_round(tmp_path):
    arms = (Arm("none"), Arm("nothing", {"clip": {"generator": 1e9}}))
    with pytest.raises(StudyError, match="'nothing' trains exactly what the baseline 'none' trains"):
        run_study(study_of(arms=arms), tmp_path, options=OPTIONS)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"noise": {"generater": Annealed(0.1)}}, "no turn 'generater'; did you mean 'generator'?"),
        ({"lr": {"generator": 0.1}}, "says nothing of turn 'critic'"),
        ({"noise": {"generator": 0.1}}, "a schedule is a callable"),
    ],
)
def test_a_typo_in_a_turn_is_refused(tmp_path, values, words):
    with pytest.raises((PopulationError, StudyError), match=re.escape(words)):
        run_study(study_of(arms=(Arm("none"), Arm("other", values))), tmp_path / "new", options=OPTIONS)
    assert not (tmp_path / "new").exists() or not any((tmp_path / "new").glob("study.sqlite"))
