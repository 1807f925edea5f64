"""Studies of networks that are updated in turns: settings by turn from the study's file to the page."""

import re
from dataclasses import replace

import pytest
from support.gans import Gan
from support.small import assert_same

from gradnoise import Annealed
from gradnoise.errors import StudyError
from gradnoise.population import SGD, Adam, Experiment, PopulationError, Turn
from gradnoise.study import Arm, Metric, Options, Setting, Store, Study, run_study
from gradnoise.study.canonical import canonical, restore
from gradnoise.study.report import write_report

OPTIONS = Options(trace=False, workers=1, chunk=9)  # populations of another size differ by rounding
OWN = {"optimizer": {"d": SGD(0.5), "g": Adam(0.5)}, "lr": {"d": 0.02, "g": 0.01}}


class Long(Gan):
    """The discriminator is updated four times before the generator."""

    turns = (Turn("d", updates=4), Turn("g"))


class OtherCode(Long):
    def loss(self, model, batch, config, turn):
        return (1 if turn == "d" else 2) * super().loss(model, batch, config, turn)


class OtherTurns(Long):
    turns = (Turn("d", updates=3), Turn("g"))


def study_of(experiment: Experiment | None = None, **changes) -> Study:
    values = {
        "name": "small-gan",
        "title": "A small GAN",
        "experiment": experiment or Long(),
        "arms": (
            Arm("none"),
            Arm("both", {"noise": Annealed(0.1)}),
            Arm("g", {"noise": {"g": Annealed(0.1)}}),
        ),
        "metric": Metric("mean", "mean", higher_is_better=False),
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
    assert by_arm["none"].curves["mean"].values[0] == by_arm["g"].curves["mean"].values[0]
    assert len({t.final["mean"] for t in by_arm.values()}) == 3
    assert by_arm["none"].final["noise_norm_g"] == by_arm["g"].final["noise_norm_d"] == 0
    assert by_arm["both"].final["noise_norm_d"] > 0 < by_arm["g"].final["noise_norm_g"]
    text = write_report(results, tmp_path / "page").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", text))
    assert "4 of d, 1 of g" in text
    assert "noise g: Annealed(eta=0.1, gamma=0.55)" in text
    assert "lr d: 0.02, g: 0.01" in text
    assert "d: SGD(momentum=0.5, nesterov=False), g: Adam(beta1=0.5" in text
    # in slices, and as the store has them
    with Store(tmp_path / "a", readonly=True) as store:
        assert store.counts() == {"finished": 9}
    assert_same(run_study(study_of(), tmp_path / "b", options=replace(OPTIONS, slice_seconds=0.0)), results)
    for trial in results.trials:
        assert canonical(restore(canonical(trial.config))) == canonical(trial.config)


@pytest.mark.parametrize("other", [OtherCode, OtherTurns])
def test_another_loss_or_round_is_other_code(tmp_path, other):
    run_study(study_of(), tmp_path, options=OPTIONS)
    with pytest.raises(StudyError, match="accept-changed-code"):
        run_study(study_of(other(), seeds=(0, 1, 2, 3)), tmp_path, options=OPTIONS)


def test_an_arm_that_changes_nothing_is_found_after_a_round(tmp_path):
    arms = (Arm("none"), Arm("nothing", {"clip": {"g": 1e9}}))
    with pytest.raises(StudyError, match="'nothing' trains exactly what the baseline 'none' trains"):
        run_study(study_of(arms=arms), tmp_path, options=OPTIONS)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"noise": {"h": Annealed(0.1)}}, "no turn 'h'; there are d, g"),
        ({"lr": {"g": 0.1}}, "says nothing of turn 'd'"),
        ({"noise": {"g": 0.1}}, "a schedule is a callable"),
    ],
)
def test_a_typo_in_a_turn_is_refused(tmp_path, values, words):
    with pytest.raises((PopulationError, StudyError), match=re.escape(words)):
        run_study(study_of(arms=(Arm("none"), Arm("other", values))), tmp_path / "new", options=OPTIONS)
    assert not (tmp_path / "new").exists() or not any((tmp_path / "new").glob("study.sqlite"))
