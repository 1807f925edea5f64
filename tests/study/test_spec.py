"""A trial's id is a hash of what is trained, and a configuration written down comes back the same."""

import dataclasses
import json
import math
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small import OTHER_DATA, Toy, small

from gradnoise import Annealed, Fixed
from gradnoise.population import (
    L2,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Cosine,
    Exponential,
    InverseSqrt,
    LinearDecay,
    NAdam,
    RMSProp,
    Steps,
)
from gradnoise.study import Arm, Metric, Setting, StudyError
from gradnoise.study.canonical import canonical, restore, tag_of
from gradnoise.study.spec import Trial


@dataclass(frozen=True)
class Stairs:
    """A schedule of one's own, at module level as it must be."""

    steps: list[float]
    label: str = "stairs"

    def __call__(self, t: int) -> float:
        return self.steps[min(t, len(self.steps) - 1)]

    class Inner:
        @dataclass(frozen=True)
        class Constant:
            value: float


# Ids


def ids(study) -> list[str]:
    return [t.id for t in study.trials()]


def test_golden_ids():
    """Frozen: another value would make every study on disk start again."""
    config = {"lr": 0.1, "clip": None, "noise": Annealed(0.01), "depth": 20, "optimizer": Adam(), "eval_every": 5}
    assert canonical(config) == (
        '{"clip":null,"depth":20,"eval_every":5,"lr":0.1,'
        '"noise":{"":"gradnoise.schedule:Annealed","eta":0.01,"gamma":0.55},'
        '"optimizer":{"":"gradnoise.population.optimizers:Adam","beta1":0.9,"beta2":0.999,"eps":1e-08}}'
    )
    assert Trial("deep-mlp@abc", "3", "lr 0.1", "noise", 7, config).id == "43631a3d71dd7274"


def test_labels_do_not_enter():
    trial = next(small().trials())
    renamed = dataclasses.replace(trial, row="z", setting="other", arm="another")
    assert renamed.id == trial.id


def test_permission_to_equal_the_baseline_and_recipe_do_not_enter():
    arms = tuple(dataclasses.replace(arm, may_equal_baseline=True) for arm in small().arms)
    assert ids(small(arms=arms, recipe={"system": "small"})) == ids(small())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"experiment": "toy@beef"},
        {"config": {"lr": 0.1}},
        {"config": {}},
        {"config": {"lr": 0.05, "noise": Annealed(0.01)}},
    ],
)
def test_what_is_trained_does_enter(change):
    trial = Trial("toy@f00d", "a", "lr=0.05", "none", 0, {"lr": 0.05})
    assert dataclasses.replace(trial, **change).id != trial.id


def test_the_order_of_a_configuration_does_not_matter():
    trial = Trial("toy@f00d", "a", "s", "none", 0, {"lr": 0.05, "clip": None, "noise": Fixed(0.1)})
    turned = dataclasses.replace(trial, config=dict(reversed(trial.config.items())))
    assert turned.id == trial.id


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": (0, 1, 2, 3)},
        {"seeds": (3, 1, 0)},
        {"arms": (*small().arms, Arm("fixed", {"noise": Fixed(0.1)}))},
        {"settings": (Setting("new", "First", {"lr": 0.3}), *small().settings)},
        {"title": "Renamed", "scale": "quick", "metric": Metric("mean", "mean", higher_is_better=True)},
        {"arms": (Arm("control", title="control"), Arm("treated", {"noise": Annealed(0.01)}))},
    ],
    ids=["seeds", "order", "arms", "settings", "title", "names"],
)
def test_asking_for_more_keeps_ids(changes):
    assert set(ids(small())) <= set(ids(small(**changes)))


@pytest.mark.parametrize("changes", [{"steps": 13}, {"eval_every": 4}, {"seed": 1}, {"base": {"clip": 2.0}}])
def test_another_study_has_other_ids(changes):
    assert not set(ids(small())) & set(ids(small(**changes)))


def test_other_data_has_other_ids():
    assert not set(ids(small())) & set(ids(small(Toy(data=OTHER_DATA))))


def test_pairs_differ_in_the_arm_alone():
    trials = list(small().trials())
    assert len(trials) == 8 and len({t.id for t in trials}) == 8
    for none, noise in zip(trials[::2], trials[1::2], strict=True):
        assert (none.row, none.setting, none.seed) == (noise.row, noise.setting, noise.seed)
        assert {**none.config, "noise": Annealed(0.01)} == noise.config


def test_trials_come_seed_by_seed():
    assert [t.seed for t in small(seeds=(5, 2)).trials()] == [5] * 4 + [2] * 4


def test_a_setting_is_labelled_by_its_values_or_its_name():
    assert Setting("a", "A", {"lr": 0.1, "clip": 10}).label == "lr=0.1, clip=10"
    assert Setting("a", "A", {"lr": 0.1}, name="slow").label == "slow"
    assert Setting("a", "A").label == ""


# Canonical JSON and back

etas = st.floats(0, 10, allow_nan=False)
rates = st.floats(0, 0.999)
schedules = st.one_of(
    st.builds(Annealed, etas, etas), st.builds(Fixed, etas), st.builds(Stairs, st.lists(etas, min_size=1, max_size=3))
)
optimizers = st.one_of(
    st.builds(SGD, st.floats(0.1, 0.99), st.booleans()),
    st.builds(AdaGrad, etas, etas),
    st.builds(RMSProp, rates, etas, rates),
    st.builds(Adam, rates, rates, etas),
    st.builds(AdamW, rates, rates, etas, etas),
    st.builds(NAdam, rates, rates, etas, etas),
    st.builds(L2, st.builds(Adam, rates, rates, etas), etas),
)
positive, counts = st.floats(1e-6, 10), st.integers(0, 9)
learning_rates = st.one_of(
    positive,
    st.builds(Cosine, positive, st.integers(10, 99), counts),
    st.builds(LinearDecay, positive, st.integers(10, 99), counts),
    st.builds(Steps, positive, st.just((10, 20)) | st.just([30]), positive, counts),
    st.builds(Exponential, positive, st.floats(0.1, 1), counts),
    st.builds(InverseSqrt, positive, counts),
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)
configs = st.fixed_dictionaries(
    {"noise": st.none() | schedules, "optimizer": optimizers},
    optional={"lr": learning_rates, "clip": st.none() | etas, "own": plain},
)


@given(configs)
def test_a_configuration_comes_back(config):
    text = canonical(config)
    back = restore(text, [Stairs])
    assert back == config
    assert [type(v) for v in back.values()] == [type(config[k]) for k in back]
    assert canonical(back) == text


def test_tuples_are_lists():
    assert restore(canonical({"widths": (64, 32)})) == {"widths": [64, 32]}


def test_numpy_floats_are_floats():
    assert canonical({"lr": np.float64(0.1)}) == canonical({"lr": 0.1})


def test_a_nested_class():
    inner = Stairs.Inner.Constant(0.5)
    assert restore(canonical({"noise": inner}), [Stairs.Inner.Constant]) == {"noise": inner}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"noise": lambda t: 0.1}, "keeps a function by its name, and <lambda> has none .*top level"),
        ({"noise": Annealed(0.1).__call__}, "frozen dataclasses and functions of t, not method .*Annealed"),
        ({"lr": np.int64(3)}, "not int64"),
        ({"kind": Annealed}, "not type"),
        ({"names": {"a"}}, "not set"),
        ({"lr": math.nan}, "finite numbers only, not nan"),
        ({"clip": math.inf}, "finite numbers only, not inf; None can stand for no limit"),
        ({"table": {1: 2}}, "keys of a configuration are text, not 1"),
    ],
)
def test_what_a_configuration_cannot_hold(config, message):
    with pytest.raises(StudyError, match=message):
        _ = Trial("toy@f00d", "a", "s", "none", 0, config).id


def test_a_class_inside_a_function_would_not_be_found_again():
    @dataclass(frozen=True)
    class Local:
        value: float

    with pytest.raises(StudyError, match=r"Local is defined in a function.*module-level"):
        canonical({"noise": Local(1.0)})


@pytest.mark.parametrize(
    "tag",
    ["gradnoise.schedule:Vanished", "no.such.module:Annealed", "os:system", "builtins:list", "antigravity:x", "",
     7, None, [], {"a": 1}, True, ":", "tests.noise"],
)  # fmt: skip
def test_nothing_that_is_not_known_is_made_again_or_imported(tag):
    before = set(sys.modules)
    with pytest.raises(StudyError, match="neither this package nor the experiment's own module defines"):
        restore(json.dumps({"noise": {"": tag, "command": "true"}}))
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "text",
    [
        '{"noise":{"":"gradnoise.schedule:Annealed","eta":-1}}',
        '{"noise":{"":"gradnoise.schedule:Annealed","eta":"x"}}',
        '{"noise":{"":"gradnoise.schedule:Annealed","gamma":1}}',
        '{"noise":{"":"gradnoise.schedule:Annealed","eta":1,"sigma":1}}',
        "{",
        "[" * 100_000,
        "9" * 5000,
    ],
)
def test_what_cannot_be_made_again_is_one_sentence(text):
    with pytest.raises(StudyError, match=r"cannot be made again|damaged"):
        restore(text)


@dataclass(frozen=True)
class Moved:
    """A class that has been moved and keeps the tag that it had."""

    tag: ClassVar[str] = "old.place:Was"
    rate: float = 1.0


def test_a_tag_outlives_a_move():
    text = canonical({"lr": Moved(0.5)})
    assert text == '{"lr":{"":"old.place:Was","rate":0.5}}'
    assert restore(text, [Moved]) == {"lr": Moved(0.5)}


def test_a_tag_is_not_inherited():
    class Child(Moved):
        pass

    assert tag_of(Child) != tag_of(Moved)


# What a study refuses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": (Arm("none"),)}, r"has 1 arm\(s\); a comparison needs two or more"),
        ({"arms": (Arm("none"), Arm("none", {"noise": Annealed(1.0)}))}, "names the same arm twice"),
        ({"seeds": (0, 1, 0)}, "names the same seed twice"),
        ({"seeds": ()}, "has no seeds; give at least one"),
        ({"steps": 0}, "steps is 0, an int; it must be a whole number from 1 to"),
        ({"eval_every": 0}, "eval_every is 0, an int; it must be a whole number from 1 to"),
        ({"eval_every": 13}, "steps = 12 and eval_every = 13: need 1 <= eval_every <= steps"),
        ({"settings": ()}, "has no settings"),
        ({"settings": (Setting("a", "A", arms=("none", "nois")),)}, "no arm 'nois' .* did you mean 'noise'"),
        (
            {"settings": (Setting("a", "A", steps=6), Setting("a", "A"))},
            "two settings of row 'a' are called ''; give each a name of its own",
        ),
        (
            {"settings": tuple(Setting("a", "A", {"lr": lr}, name="x") for lr in (0.1, 0.2))},
            "two settings of row 'a' are called 'x'",
        ),
        ({"base": {"steps": 5}}, "sets 'steps' in a configuration; give it to the Study itself"),
        ({"arms": (Arm("none"), Arm("slow", {"eval_every": 1}))}, "sets 'eval_every'"),
        ({"settings": (Setting("a", "A", {"study_seed": 1}),)}, "sets 'study_seed'"),
    ],
)
def test_a_bad_study(changes, message):
    with pytest.raises(StudyError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arms": (Arm("none"), Arm("noise", {"niose": Annealed(0.01)}))},
            r"arm 'noise' sets 'niose', which toy does not know: allowed are anti_pgd, clip, .*, weight_noise, width;"
            r" did you mean 'noise'\?$",
        ),
        ({"base": {"cilp": 1.0}}, r"base sets 'cilp', .* did you mean 'clip'\?"),
        ({"settings": (Setting("a", "A", {"q": 3}),)}, "setting 'q=3' of row 'a' sets 'q', .* width$"),
    ],
    ids=["arm", "base", "setting"],
)
def test_a_key_that_nobody_reads_is_refused(changes, message):
    with pytest.raises(StudyError, match=message):
        small(**changes)


class Silent(Toy):
    """An experiment that does not say which keys a configuration may have, as an engine need not."""

    def keys(self):
        return None


def test_where_the_keys_are_not_known_none_is_refused():
    assert small(Silent(), base={"cilp": 1.0})


# Restricting arms

THREE = (*small().arms, Arm("fixed", {"noise": Fixed(0.1)}))


def test_with_arms_keeps_the_baseline():
    assert [a.name for a in small(arms=THREE).with_arms(["fixed"]).arms] == ["none", "fixed"]
    assert [a.name for a in small(arms=THREE).with_arms(["fixed", "none"]).arms] == ["none", "fixed"]


def test_with_arms_drops_settings_that_compare_nothing():
    settings = (Setting("a", "A", {"lr": 0.05}), Setting("b", "B", {"lr": 0.1}, arms=("none", "noise")))
    some = small(arms=THREE, settings=settings).with_arms(["fixed"])
    assert [s.row for s in some.settings] == ["a"]
    assert {(t.row, t.arm) for t in some.trials()} == {("a", "none"), ("a", "fixed")}


@pytest.mark.parametrize(
    ("names", "message"),
    [(["fixd"], "no arm 'fixd' .* arms are none, noise, fixed; did you mean 'fixed'"), (["none"], "is the baseline")],
)
def test_arms_that_are_no_comparison(names, message):
    with pytest.raises(StudyError, match=message):
        small(arms=THREE).with_arms(names)


# The metric


@pytest.mark.parametrize(
    ("higher", "success", "value", "succeeded"),
    [
        (True, 80.0, 80.0, True),
        (True, 80.0, 79.9, False),
        (False, 1.0, 1.0, True),
        (False, 1.0, 1.1, False),
        (True, 80.0, math.nan, False),
        (False, 80.0, math.nan, False),
        (True, None, 100.0, False),
    ],
)
def test_success(higher, success, value, succeeded):
    assert Metric("m", "m", higher_is_better=higher, success=success).succeeded(value) is succeeded


@pytest.mark.parametrize(
    ("name", "higher"),
    [("val_loss", False), ("err", False), ("testError", False), ("test/accuracy", True), ("F1", True)],
)
def test_a_name_tells_the_direction_of_its_metric(name, higher):
    assert Metric(name, name).higher_is_better is higher
    assert Metric(name, name, higher_is_better=higher).higher_is_better is higher
    with pytest.warns(UserWarning, match=f"metric '{name}': you say that .* is better, its name that .* is"):
        assert Metric(name, name, higher_is_better=not higher).higher_is_better is not higher


@pytest.mark.parametrize("name", ["score", "accuracy_loss"])
def test_a_name_that_tells_no_direction_needs_it_said(name):
    with pytest.raises(StudyError, match=f"metric '{name}': its name does not tell which direction is better; write "):
        Metric(name, name)
    assert Metric(name, name, higher_is_better=False).higher_is_better is False


def test_more_of_a_rate_is_better():
    assert Metric("below_5", "runs below 5 %", rate=True, success=100.0).higher_is_better
