"""Code that was changed since a folder was begun stops a study before anything is trained, whatever was changed."""

import dataclasses
import io
import json
import math
from dataclasses import dataclass

import pytest
import torch
from rich.console import Console
from support.small import Toy, assert_same, small
from torch import nn

from gradnoise import Annealed, Relative
from gradnoise.errors import PopulationError
from gradnoise.population import SGD, Course, Goal
from gradnoise.study import Arm, Options, Setting, Store, StudyError, dry_run, run_and_report, run_study
from gradnoise.study.engine import Probed
from gradnoise.study.run.changed_code import ENTRY
from gradnoise.study.run.population_engine import PopulationEngine

OPTIONS = Options(workers=1, chunk=8)
ACCEPTED = dataclasses.replace(OPTIONS, accept_changed_code=True)


class OtherActivation(Toy):
    def model(self, config):
        model = super().model(config)
        model[1] = nn.ReLU()
        return model


class OtherFirstWeights(Toy):
    def model(self, config):
        model = super().model(config)
        with torch.no_grad():
            model[2].bias.zero_()
        return model


class OtherLoss(Toy):
    def loss(self, model, batch, config):
        return 1.01 * super().loss(model, batch, config)


class OtherData(Toy):
    def batch(self, seed, t, config):
        x, y = super().batch(seed, t, config)
        return (x, y) if t == 0 else (x, y.flip(0))


class OtherDataLater(Toy):
    def batch(self, seed, t, config):
        x, y = super().batch(seed, t, config)
        return (x, y) if t < 3 else (x, y.flip(0))


class OtherLossLater(Toy):
    def loss(self, model, batch, config, t):
        return super().loss(model, batch, config) * torch.where(t > 8, 1.1, 1.0)


class OtherMetric(Toy):
    def evaluate(self, model, held_out, config):
        found = super().evaluate(model, held_out, config)
        return found | {"error": found["error"].sqrt()}


class FewerMetrics(Toy):
    def evaluate(self, model, held_out, config):
        return {"error": super().evaluate(model, held_out, config)["error"]}


class OtherHeldOut(Toy):
    def held_out(self, config):
        return super().held_out(config) * 1.1


class OtherDiverged(Toy):
    def diverged_metrics(self):
        return {"error": 1.0}


class Never(Goal):
    def __init__(self, bar: float) -> None:
        self.bar = bar

    def reached(self, metrics):
        return metrics["error"] < self.bar


class WithGoal(Toy):
    goal = Never(-1.0)


class Counting(Course):
    def start(self, config):
        return {"t": torch.zeros(())}

    def after(self, state, observed, t, config):
        return {"t": state["t"] + 1}

    def recorded(self, state):
        return {"t": state["t"]}


class WithCourse(Toy):
    course = Counting()

    def loss(self, model, batch, config):
        return super().loss(model, batch[0], config)


class Forgiving(Toy):
    patience = 5


class OnlyWhenWide(Toy):
    """The change is in a branch that some settings take."""

    def model(self, config):
        model = super().model(config)
        return nn.Sequential(model, nn.ReLU()) if config.gain == 2.0 else model


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (OtherActivation, "loss of minibatch 0 was"),
        (OtherFirstWeights, "loss of minibatch 0 was"),
        (OtherLoss, "loss of minibatch 0 was"),
        (OtherData, "minibatch 1 was"),
        (OtherDataLater, "loss of minibatch 5 was"),
        (OtherLossLater, r"loss of minibatch 11 was .* \(all"),
        (OtherMetric, "error was"),
        (FewerMetrics, "mean was .*, and now is not there"),
        (OtherHeldOut, "error was"),
        (OtherDiverged, "error of a diverged run was 99 on .*, and now is 1"),
        (WithGoal, r"goal was not there on .*, and now is Never\(bar=-1.0\)"),
        (WithCourse, "course was not there"),
        (Forgiving, "patience was not there"),
        (OnlyWhenWide, r"minibatch 0 was .*\(gain = 2.0"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_change_stops_the_study_before_anything_is_trained(tmp_path, changed, says):
    results = run_study(small(seeds=(0,)), tmp_path, options=OPTIONS)
    more = small(changed(), seeds=(0, 1))
    for ask in (run_study, dry_run):
        with pytest.raises(StudyError, match=says) as error:
            ask(more, tmp_path, options=OPTIONS)
        assert "nothing was trained" in str(error.value) and "--accept-changed-code" in str(error.value)
    with Store(tmp_path, readonly=True) as store:
        assert_same(store.results(), results)
    assert len(run_study(small(seeds=(0, 1)), tmp_path, options=OPTIONS).trials) == 8  # the old code goes on


BY_ROW = (Setting("a", "A", {"gain": 2.0}), Setting("b", "B", {"width": 5}))


@pytest.mark.parametrize("other", [BY_ROW[1], Setting("a", "A", {"width": 5})], ids=["row", "setting"])
def test_a_change_is_seen_when_something_else_is_asked_for(tmp_path, other):
    run_study(small(settings=BY_ROW[:1], seeds=(0,)), tmp_path, options=OPTIONS)
    for ask in (run_study, dry_run):
        with pytest.raises(StudyError, match=r"minibatch 0 was .*\(gain = 2.0"):
            ask(small(OnlyWhenWide(), settings=(other,), seeds=(0,)), tmp_path, options=OPTIONS)
    found = run_study(small(settings=(other,), seeds=(0,)), tmp_path, options=OPTIONS)
    assert {(t.row, t.setting) for t in found.trials if t.done} == {("a", "gain=2.0"), (other.row, "width=5")}


def test_code_that_no_longer_trains_what_the_folder_holds_is_a_change(tmp_path):
    class Refuses(Toy):
        def model(self, config):
            if config.gain == 2.0:
                raise PopulationError("gain = 2.0 is no more")
            return super().model(config)

    run_study(small(settings=BY_ROW[:1], seeds=(0,)), tmp_path, options=OPTIONS)
    with pytest.raises(StudyError, match=r"does not train any more what the folder holds \(.*gain = 2.0 is no more"):
        run_study(small(Refuses(), settings=BY_ROW[1:], seeds=(0,)), tmp_path, options=OPTIONS)


def test_zero_first_weights_hide_nothing(tmp_path):
    """All is zero in an untrained model of zeros, whatever its activation is: the fingerprint moves the weights."""

    class Zeros(Toy):
        activation = nn.Tanh

        def model(self, config):
            model = super().model(config)
            model[1] = self.activation()
            for x in model.parameters():
                nn.init.zeros_(x)
            return model

    class Changed(Zeros):
        activation = nn.ReLU

    run_study(small(Zeros()), tmp_path, options=OPTIONS)
    with pytest.raises(StudyError, match="is not that of this folder"):
        run_study(small(Changed()), tmp_path, options=OPTIONS)


FACTOR = {"schedule": 1.0, "optimizer": 1.0}


@dataclass(frozen=True)
class Mine:
    """A schedule whose code is changed."""

    eta: float = 0.01

    def __call__(self, t: int) -> float:
        return self.eta * (FACTOR["schedule"] if t > 5 else 1.0)


@dataclass(frozen=True)
class Signs:
    """An optimizer whose code is changed."""

    def init(self, theta):
        return {}

    def update(self, theta, g, state, lr, t):
        theta.sub_(lr * g.sign() * FACTOR["optimizer"])


@dataclass(frozen=True)
class Cut(SGD):
    """An optimizer that clips gradients itself."""

    def before_noise(self, g, state, t):
        g.clamp_(-0.1, 0.1)


@pytest.mark.parametrize("what", FACTOR)
def test_code_of_schedules_and_optimizers(tmp_path, monkeypatch, what):
    asked = small(arms=(Arm("none"), Arm("noise", {"noise": Mine()})), base={"optimizer": Signs()})
    run_study(asked, tmp_path, options=OPTIONS)
    run_study(asked, tmp_path, options=OPTIONS)
    monkeypatch.setitem(FACTOR, what, 1.5)
    with pytest.raises(StudyError, match=r"value at t = 8 was 0.01" if what == "schedule" else "weight 0 was"):
        run_study(asked, tmp_path, options=OPTIONS)


def test_relative_noise_and_rules_that_clip_have_a_fingerprint(tmp_path, monkeypatch):
    asked = small(arms=(Arm("none"), Arm("noise", {"noise": Relative(0.5)})), base={"optimizer": Cut()})
    run_study(asked, tmp_path, options=OPTIONS)
    run_study(asked, tmp_path, options=OPTIONS)
    for kind, name, message in ((Relative, "ratio", r"value at t = \d+ was"), (Cut, "before_noise", "weight 0 was")):
        with monkeypatch.context() as patched:
            patched.setattr(kind, name, lambda self, *given: 0.125)
            with pytest.raises(StudyError, match=message):
                run_study(asked, tmp_path, options=OPTIONS)


def test_accepted_changes_are_said_and_kept(tmp_path):
    before = run_study(small(), tmp_path, options=OPTIONS)
    after = run_study(small(OtherLoss()), tmp_path, options=ACCEPTED)
    assert_same(after, before)  # nothing was trained
    with Store(tmp_path, readonly=True) as store:
        (event,) = store.events()
        assert "the code was changed and that was accepted: loss of minibatch 0 was" in event.sentence
        assert any("was accepted" in value for name, value in store.results().record.provenance if name == "event")
    run_study(small(OtherLoss()), tmp_path, options=OPTIONS)
    with pytest.raises(StudyError, match="is not that of this folder"):
        run_study(small(), tmp_path, options=OPTIONS)


def test_rounding_and_settings_are_no_change(tmp_path):
    class Rounded(Toy):
        def loss(self, model, batch, config):
            return super().loss(model, batch, config) * 1.0001

    run_study(small(seeds=(0,)), tmp_path, options=OPTIONS)
    more = small(
        Rounded(),
        seeds=(0, 1, 2),
        arms=(Arm("none"), Arm("noise", {"noise": Annealed(0.01)}), Arm("wild", {"lr": 0.3})),
    )
    assert len(run_study(more, tmp_path, options=OPTIONS).trials) == 18


def test_runs_that_blow_up_at_once_have_a_fingerprint(tmp_path):
    for _ in range(2):
        run_study(small(Toy(poison={0: 0})), tmp_path, options=OPTIONS)
    with Store(tmp_path, readonly=True) as store:
        bodies = store.meta(ENTRY)["behaviours"].values()
        assert any(
            math.isnan(float(body["loss of minibatch 0"][1:])) for body in bodies if "loss of minibatch 0" in body
        )


def test_a_folder_of_an_older_version_gets_its_fingerprint_at_the_next_run(tmp_path):
    run_study(small(), tmp_path, options=OPTIONS)
    with Store(tmp_path) as store, store.transaction():
        store.db.execute("DELETE FROM meta WHERE name = ?", (ENTRY,))
    run_study(small(OtherLoss()), tmp_path, options=OPTIONS)
    with pytest.raises(StudyError, match="is not that of this folder"):
        run_study(small(), tmp_path, options=OPTIONS)


def test_a_folder_that_knows_nothing_of_later_updates_goes_on(tmp_path):
    run_study(small(seeds=(0,)), tmp_path, options=OPTIONS)
    with Store(tmp_path) as store:
        kept = store.meta(ENTRY)
        kept["behaviours"] = {name: x for name, x in kept["behaviours"].items() if not name.endswith("later")}
        store.put_meta(ENTRY, kept)
    assert len(run_study(small(seeds=(0, 1)), tmp_path, options=OPTIONS).trials) == 8
    with pytest.raises(StudyError, match="loss of minibatch 5 was"):
        run_study(small(OtherDataLater(), seeds=(0, 1, 2)), tmp_path, options=OPTIONS)


def test_a_folder_in_which_nothing_was_trained_takes_any_code(tmp_path):
    with Store(tmp_path) as store:
        store.put_meta(ENTRY, {"since": {"toy": "then"}, "behaviours": {"toy": {"goal": "other"}}})
    run_study(small(), tmp_path, options=OPTIONS)


class Texts(PopulationEngine):
    """An engine that tells its code by a hash, as one that runs scripts may."""

    version = "abc"

    def probe(self, configs, known):
        return Probed({"train.py": {"sha256": self.version}}, notes=("It is slow.",))


class Changed(Texts):
    version = "xyz"


def test_an_engine_tells_its_code_in_its_own_way(tmp_path):
    asked = small(Texts(Toy()), seeds=6)  # enough to decide, of which nothing is said
    assert dry_run(asked, tmp_path, OPTIONS).notes == ("It is slow.",)
    run_study(asked, tmp_path, options=OPTIONS)
    with pytest.raises(StudyError, match=r"sha256 was abc on .*, and now is xyz \(train.py\)"):
        run_study(small(Changed(Toy()), seeds=6), tmp_path, options=OPTIONS)


def test_a_finished_study_says_that_nothing_was_trained(tmp_path):
    run_study(small(), tmp_path, options=OPTIONS)
    file = io.StringIO()
    run_and_report(small(), tmp_path, options=OPTIONS, console=Console(file=file, width=200))
    with Store(tmp_path, readonly=True) as store:
        finished = dict(store.record().provenance)["finished"]
    assert f"8 of 8 trials were finished on {finished}; nothing was trained" in file.getvalue()


def test_what_is_kept_is_plain(tmp_path):
    run_study(small(), tmp_path, options=OPTIONS)
    with Store(tmp_path, readonly=True) as store:
        kept = store.meta(ENTRY)
    assert json.loads(json.dumps(kept)) == kept and kept["since"].keys() == kept["behaviours"].keys()


@pytest.mark.parametrize(
    "rotten", [[], {"since": {}}, {"since": {}, "behaviours": {"toy": {"x": "=y"}}}, {"behaviours": 1}]
)
def test_a_damaged_fingerprint_is_no_traceback(tmp_path, rotten):
    run_study(small(), tmp_path, options=OPTIONS)
    with Store(tmp_path) as store:
        store.put_meta(ENTRY, rotten)
    with pytest.raises(StudyError, match="the store is damaged: its behaviours cannot be read"):
        run_study(small(), tmp_path, options=OPTIONS)
