"""What a user may give: values that mean one thing are taken, others are answered in the user's words."""

import functools
import math
import re

import numpy as np
import pytest
import torch
from support.small import Toy, small
from torch import nn

from gradnoise import Annealed
from gradnoise.errors import GradnoiseError, StudyError
from gradnoise.population import (
    L2,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Cosine,
    NAdam,
    Population,
    PopulationError,
    Replica,
    RMSProp,
    Training,
)
from gradnoise.study import Arm, Metric, Selection, Setting, Study, run_study
from gradnoise.study.canonical import canonical, restore

METRIC = Metric("error", "error", higher_is_better=False)
ARMS = (Arm("none"), Arm("noise", {"noise": Annealed(0.01)}))


def asked(**values) -> Study:
    return Study(**{"name": "toy", "title": "Toy", "experiment": Toy(), "arms": ARMS, "metric": METRIC, **values})


def falling(t: int) -> float:
    return 0.1 / (1 + t)


@pytest.mark.parametrize(
    "seeds", [8, range(8), list(range(8)), np.arange(8), np.int64(8), torch.tensor(8), (0.0, *range(1, 8))]
)
def test_seeds_may_be_a_number_or_anything_that_lists_them(seeds):
    study = asked(seeds=seeds)
    assert study.seeds == tuple(range(8)) and all(type(s) is int for s in study.seeds)
    assert [t.id for t in study.trials()] == [t.id for t in asked(seeds=tuple(range(8))).trials()]


def test_lists_stand_for_tuples_and_numbers_are_those_of_python():
    study = asked(
        arms=list(ARMS), settings=[Setting("a", "A", {"lr": np.float32(0.5), "width": np.int64(3)})], steps=1e3
    )
    assert study.arms == ARMS and study.steps == 1000 and type(study.steps) is int
    config = next(study.trials()).config
    assert type(config["lr"]) is float and type(config["width"]) is int
    plain = asked(settings=(Setting("a", "A", {"lr": 0.5, "width": 3}),), steps=1000)
    assert [t.id for t in study.trials()] == [t.id for t in plain.trials()]


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("adam", Adam()),
        ("AdamW", AdamW()),
        (Adam, Adam()),
        (torch.optim.SGD, SGD()),
        (functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-4), L2(SGD(0.9, True), 1e-4)),
        (torch.optim.Adagrad, AdaGrad()),
        (functools.partial(torch.optim.Adagrad, initial_accumulator_value=0.1), AdaGrad(initial=0.1)),
        (functools.partial(torch.optim.RMSprop, alpha=0.9, momentum=0.5), RMSProp(alpha=0.9, momentum=0.5)),
        (functools.partial(torch.optim.Adam, betas=(0.8, 0.95), eps=1e-6, fused=True), Adam(0.8, 0.95, 1e-6)),
        (torch.optim.AdamW, AdamW()),
        (
            functools.partial(functools.partial(torch.optim.AdamW, weight_decay=0.1), betas=(0.9, 0.95)),
            AdamW(0.9, 0.95, weight_decay=0.1),
        ),
        (functools.partial(AdamW, weight_decay=0.1), AdamW(weight_decay=0.1)),
        (functools.partial(torch.optim.NAdam, momentum_decay=0.01), NAdam(momentum_decay=0.01)),
    ],
)  # fmt: skip
def test_an_optimizer_may_be_named_or_be_one_of_torch(given, ours):
    assert Training(optimizer=given).optimizer == ours
    study, plain = asked(base={"optimizer": given}), asked(base={"optimizer": ours})
    assert [t.id for t in study.trials()] == [t.id for t in plain.trials()]


@pytest.mark.parametrize(
    "given",
    [
        functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=0.01),
        functools.partial(torch.optim.Adam, betas=(0.8, 0.95), weight_decay=0.1),
        functools.partial(torch.optim.AdamW, weight_decay=0.1),
        functools.partial(torch.optim.NAdam, momentum_decay=0.01, weight_decay=0.1),
        functools.partial(torch.optim.RMSprop, alpha=0.9, momentum=0.5),
        functools.partial(torch.optim.Adagrad, initial_accumulator_value=0.1),
    ],
)
def test_what_is_translated_trains_as_torch_does(given):
    theta = torch.linspace(-1, 1, 5, dtype=torch.float64)
    parameter = nn.Parameter(theta.clone())
    torchs, ours = given([parameter], lr=0.05), Training(optimizer=given).optimizer
    rows = theta[None].clone()
    state = ours.init(rows)
    for t in range(4):
        parameter.grad = torch.sin(3 * parameter.detach())
        g = torch.sin(3 * rows)
        torchs.step()
        ours.update(rows, g, state, torch.full((1, 1), 0.05, dtype=torch.float64), torch.tensor(t))
        assert torch.allclose(rows[0], parameter.detach(), rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": (Adam(), Adam())}, r"are 2: a population updates all .* named in the experiment's `turns`"),
        ({"optimizer": {"d": "adam", "g": "adam"}}, "are 2: a population updates all parameters of a replica together"),
        ({"noise": [Annealed(0.01), None]}, "are 2: a population updates all parameters of a replica together"),
        ({"lr": {"d": 0.1, "g": 0.2}}, "are 2: a population updates all parameters of a replica together"),
        ({"clip": {"d": 1.0}}, "are 1: a population updates all parameters of a replica together"),
        ({"optimizer": torch.optim.LBFGS}, "populations have no LBFGS; there are sgd, adagrad"),
        ({"optimizer": functools.partial(torch.optim.Adam, amsgrad=True)}, "Adam with amsgrad = True is not"),
        ({"optimizer": functools.partial(torch.optim.Adam, lr=0.1)}, "has lr = 0.1: give the learning rate as `lr`"),
        ({"optimizer": functools.partial(torch.optim.SGD, momentun=0.9)}, "'momentun'; did you mean 'momentum'?"),
        ({"optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))])}, "an object of torch.optim.SGD"),
        ({"optimizer": "adan"}, "'adan': there are .*did you mean 'adam'?"),
        ({"lr": "0.1"}, "lr is '0.1', a str; it must be a number or a callable"),
        ({"lr": True}, "lr is True, a bool; it must be a number"),
        ({"lr": Cosine}, "lr = .*Cosine.*: give a number, a schedule such as Cosine"),
        ({"noise": Annealed}, r"noise is the class Annealed itself; give an object, Annealed\(...\)"),
        ({"clip": "1"}, "clip is '1', a str; it must be a number or None"),
        ({"dropout": [0.1]}, r"dropout is \[0.1\], a list; it must be a number or None"),
        ({"early_stop": "no"}, "early_stop is 'no', a str; it must be True or False"),
        ({"width": 2.5}, "width is 2.5, a float; it must be a whole number"),
        ({"width": None}, "width is None, a NoneType; it must be a whole number"),
        ({"gain": "big"}, "gain is 'big', a str; it must be a number"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_where_it_is_given(values, message):
    message = message.replace("?", r"\?")
    for build in (lambda: asked(base=values), lambda: Replica.of(Toy(), 0, values)):
        with pytest.raises(PopulationError, match=message):
            build()
    with pytest.raises(PopulationError, match=message):
        asked(arms=(Arm("none"), Arm("other", values)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": "8"}, r"seeds is '8', a str; it must be a tuple"),
        ({"seeds": 0}, "has no seeds"),
        ({"seeds": (0, 1.5)}, r"seeds is \(0, 1.5\), a tuple; it must be a tuple of which each is a whole number"),
        ({"arms": Arm("none")}, r"arms is Arm\(.*; it must be a tuple of which each is a Arm"),
        ({"arms": ("none", "noise")}, r"arms is \('none', 'noise'\)"),
        ({"metric": "error"}, r"metric is 'error', a str; it must be a Metric, such as Metric\(...\)"),
        ({"steps": "many"}, "steps is 'many', a str; it must be a whole number"),
        ({"base": [("lr", 0.1)]}, "base is .*; it must be a dict"),
        ({"experiment": Toy}, r"experiment is the class Toy itself; give an object, Toy\(\)"),
    ],
)
def test_a_study_says_what_it_was_given(values, message):
    with pytest.raises(StudyError, match=message):
        asked(**values)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Arm("noise", Annealed(0.01)), r"Arm: values is Annealed\(.*; it must be a dict"),  # type: ignore[arg-type]
        (lambda: Metric("a", "A", margin="1"), "Metric: margin is '1', a str; it must be a number or None"),  # type: ignore[arg-type]
        (lambda: Setting("a", "A", steps="4"), "Setting: steps is '4', a str; it must be a whole number or None"),  # type: ignore[arg-type]
        (lambda: Selection("loss", (METRIC,)), "Selection: by is 'loss', a str; it must be a tuple"),  # type: ignore[arg-type]
    ],
)
def test_so_do_its_parts(build, message):
    with pytest.raises(StudyError, match=message):
        build()


def test_a_function_of_t_is_a_learning_rate_in_a_study():
    study = asked(base={"lr": falling})
    config = next(study.trials()).config
    text = canonical(config)
    assert restore(text, study.dataclasses())["lr"] is falling
    with pytest.raises(StudyError, match=r"neither this package nor the experiment's own module defines"):
        restore(text)

    # another function of the same name is another trial, and does not pass for the old one
    changed = re.sub(r'"values":"\w+"', '"values":"0123456789ab"', text)
    with pytest.raises(StudyError, match="returned other values than it does now"):
        restore(changed, study.dataclasses())
    with pytest.raises(StudyError, match=r"keeps a function by its name, and .*<lambda> has none"):
        _ = next(asked(base={"lr": lambda t: 0.1}).trials()).id


@pytest.mark.parametrize(
    "rate", [lambda t: torch.tensor(0.1), lambda t: np.float32(0.1), np.float64(0.1), torch.tensor(0.1)]
)
def test_a_learning_rate_may_be_a_scalar_of_numpy_or_torch(rate):
    assert Training(lr=rate).rate(0) == pytest.approx(0.1) and type(Training(lr=rate).rate(0)) is float


@pytest.mark.parametrize("as_number", [float, lambda x: x.item(), lambda x: x.numpy(), lambda x: np.float32(x.item()),
                                       lambda x: int(x > 0), lambda x: bool(x > 0)])  # fmt: skip
def test_metrics_may_be_numbers(as_number):
    class Numbers(Toy):
        def evaluate(self, model, held_out, config):
            return {"error": as_number(Toy.evaluate(self, model, held_out, config)["error"])}

    replicas = [Replica(seed) for seed in range(3)]
    found = Population(Numbers(), replicas).evaluate()["error"]
    tensors = Population(Toy(), replicas).evaluate()["error"]
    assert found.tolist() == pytest.approx([float(as_number(x)) for x in tensors])
    assert len(set(tensors.tolist())) == 3


def test_a_constant_number_is_a_metric_of_every_replica():
    class Constant(Toy):
        def evaluate(self, model, held_out, config):
            return {**Toy.evaluate(self, model, held_out, config), "size": 3, "share": math.pi}

    population = Population(Constant(), [Replica(seed) for seed in range(3)])
    found = population.evaluate()
    assert found["size"].tolist() == [3.0] * 3 and found["share"].tolist() == [math.pi] * 3
    assert "evaluate" not in population.modules.loop_reasons


def test_the_types_that_small_studies_use_stay_as_they_are():
    study = small()
    assert all(type(value) in (int, float) for t in study.trials() for k, value in t.config.items() if k == "lr")
    assert issubclass(PopulationError, GradnoiseError)


def holds_itself() -> dict[str, object]:
    values: dict[str, object] = {}
    values["odd"] = values
    return values


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Arm(" "), "Arm: name is ' ', a str; it must be text that is not blank"),
        (lambda: Metric("", "error"), "Metric: name is '', a str; it must be text that is not blank"),
        (lambda: Setting("", "A"), "Setting: row is '', a str; it must be text that is not blank"),
        (lambda: asked(name="\t"), r"name is '\\t', a str; it must be text that is not blank"),
        (lambda: asked(title="a\0b"), "it must be text without a null character"),
        (lambda: Metric("error", "error", success=math.inf), "success is inf, .* a number that is finite or None"),
        (lambda: Metric("error", "error", chance=-math.inf), "chance is -inf, .* a number that is finite or None"),
        (lambda: Arm("b", {1: 0.5}), "it must be a dict whose keys are text"),  # type: ignore[arg-type]
        (lambda: canonical(holds_itself()), "holds itself, or is nested too deeply"),
        (lambda: canonical({"odd": 10**5000}), "holds what cannot be stored"),
        (
            lambda: asked(settings=(Setting("a", "A", {"lr": 0.1}), Setting("a", "B", {"lr": 0.2}))),
            "row 'a' is called 'A' and 'B'; settings of one row have one title",
        ),
    ],
)  # fmt: skip
def test_names_are_not_blank_and_numbers_finite(build, message):
    with pytest.raises(StudyError, match=message):
        build()


class Complex(Toy):
    def loss(self, model, batch, config):
        return super().loss(model, batch, config) * 1j


class ComplexMetric(Toy):
    def evaluate(self, model, held_out, config):
        return {"error": super().evaluate(model, held_out, config)["error"] * 1j}


class Nameless(Toy):
    def evaluate(self, model, held_out, config):
        return {" ": super().evaluate(model, held_out, config)["error"]}


class OnMeta(Toy):
    def model(self, config):
        return super().model(config).to("meta")


class Empty(Toy):
    def model(self, config):
        model = super().model(config)
        model.register_parameter("more", nn.Parameter(torch.zeros(0, 1)))
        return model


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Complex, "the loss is complex; return a real number"),
        (ComplexMetric, "metric 'error' is complex; return a real number"),
        (Nameless, "a metric has no name"),
        (OnMeta, "is on the device meta and holds no numbers"),
        (Empty, r"is empty, of shape \(0, 1\); leave its layer out"),
    ],
)
def test_what_is_no_number_is_said_so(kind, message):
    with pytest.raises(PopulationError, match=message):
        made = Population(kind(), [Replica.of(kind(), 0, {"lr": 0.1})])
        made.step()
        made.evaluate()


def test_a_folder_is_a_path(tmp_path):
    with pytest.raises(StudyError, match="a path without a null character"):
        run_study(asked(), tmp_path / "a\0b")
