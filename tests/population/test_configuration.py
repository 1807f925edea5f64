"""Settings are declared, checked and defaulted in one place: a typo cannot become a result."""

import dataclasses
from dataclasses import dataclass, fields

import pytest
import torch
from support.toys import Config, Regression, net_experiment, plain, replica
from torch import nn

from gradnoise.noise.schedule import Annealed, Fixed
from gradnoise.population import SGD, Adam, Experiment, Population, PopulationError, Replica, Training
from gradnoise.population.configuration import agreed

#: Every setting of the engine, with a value that is not its default.
ENGINE = {
    "lr": 0.3,
    "noise": Annealed(0.01),
    "clip": 2.0,
    "clip_per": "tensor",
    "dropout": 0.1,
    "optimizer": Adam(),
    "early_stop": False,
    "noise_first": True,
    "noise_on": ("*",),
    "weight_noise": Fixed(0.1),
    "anti_pgd": True,
}


class Bare(Experiment):
    """An experiment without settings."""

    name = "bare"

    def model(self, config):
        return nn.Linear(1, 1)

    def batch(self, seed, t, config):
        return torch.ones(2, 1)

    def loss(self, model, batch, config):
        return model(batch).sum()

    def evaluate(self, model, held_out, config):
        return {"weight": model.weight.sum()}


class Both(Bare):
    """An experiment that reads settings of the engine, too."""

    @dataclass(frozen=True)
    class Config:
        width: int = 3
        dropout: float | None = None
        lr: float = 7.0


# From a flat configuration


def test_keys_go_where_they_belong():
    run = Replica.of(Regression(), 4, {**ENGINE, "gain": 2.0}, study_seed=9)
    assert (run.seed, run.study_seed) == (4, 9)
    assert {f.name: getattr(run.training, f.name) for f in fields(Training)} == ENGINE
    assert run.config == Config(gain=2.0, width=5)


def test_a_key_that_both_have_goes_to_both():
    run = Replica.of(Both(), 0, {"dropout": 0.5, "lr": 0.2})
    assert (run.training.dropout, run.training.lr) == (0.5, 0.2)
    assert run.config == Both.Config(width=3, dropout=0.5, lr=0.2)


def test_defaults_stand_in_one_place():
    run = Replica.of(Both(), 0, {})
    assert run == Replica(0, Training(), Both.Config())
    assert (run.training.lr, run.config.lr) == (0.1, 7.0)
    assert run.training == Training(0.1, None, None, "replica", None, SGD(), True, False, "all", None, False)


def test_no_configuration_is_the_default_one():
    assert Replica(0).config is None
    widths = []
    experiment = Regression(lambda config: widths.append(config.width) or plain(config.width))
    engine = Population(experiment, [Replica(0), replica(1, config=Config())], trace=False)
    engine.step()
    assert widths == [5, 5]


def test_an_experiment_without_settings():
    assert Bare().keys() == set(ENGINE)
    engine = Population(Bare(), [Replica.of(Bare(), 0, {"lr": 0.5})], trace=False)
    before = engine.modules.theta.clone()
    engine.step()
    assert torch.allclose(engine.modules.theta, before - torch.tensor([1.0, 1.0]))


def test_all_names_that_may_stand_in_a_configuration():
    assert Training().__dataclass_fields__.keys() == ENGINE.keys()
    assert Regression().keys() == ENGINE.keys() | {"gain", "width"}
    assert Both().keys() == ENGINE.keys() | {"width"}


@pytest.mark.parametrize(
    ("experiment", "config", "message"),
    [
        (Regression(), {"niose": None}, "regression has no setting 'niose'; did you mean 'noise'?"),
        (Regression(), {"noize_first": True}, "no setting 'noize_first'; did you mean 'noise_first'?"),
        (Regression(), {"lr": 0.1, "gian": 2.0}, "no setting 'gian'; did you mean 'gain'?"),
        (Regression(), {"Width": 2}, "no setting 'Width'; did you mean 'width'?"),
        (Bare(), {"optimiser": Adam()}, "bare has no setting 'optimiser'; did you mean 'optimizer'?"),
        (
            Bare(),
            {"width": 2},
            "bare has no setting 'width'.* there are anti_pgd, clip, clip_per, dropout, early_stop",
        ),
        (Bare(), {"xyzzy": 2}, "bare has no setting 'xyzzy'; there are anti_pgd, clip"),
        (Regression(), {"steps": 9}, "no setting 'steps'"),
    ],
)
def test_a_typo_is_refused_with_the_nearest_name(experiment, config, message):
    for attempt in (lambda: Replica.of(experiment, 0, config), lambda: experiment.check_keys(config)):
        with pytest.raises(PopulationError, match=message.replace("?", r"\?")):
            attempt()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0.0}, "lr = 0.0: a learning rate is a finite number > 0"),
        ({"lr": lambda t: -1.0}, "lr = -1.0 at t = 0: a learning rate is a finite number > 0"),
        ({"clip": 0}, "clip = 0: a threshold is > 0"),
        ({"clip_per": "tensors"}, "clip_per = 'tensors': allowed are 'replica' and 'tensor'; did you mean 'tensor'?"),
        ({"dropout": 1.0}, r"dropout = 1.0 is outside \[0, 1\)"),
        ({"optimizer": torch.optim.LBFGS}, "populations have no LBFGS; there are sgd, adagrad"),
        ({"optimizer": "adma"}, "optimizer = 'adma': there are .*; did you mean 'adam'?"),
        ({"optimizer": 3}, r"optimizer = 3: give a name .*, one of gradnoise.population, such as Adam"),
        ({"noise": 0.01}, r"noise = 0.01: a schedule is a callable such as Annealed\(0.01\), or None"),
        ({"weight_noise": "fixed"}, "weight_noise = 'fixed': a schedule is"),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(PopulationError, match=message.replace("?", r"\?")):
        Replica.of(Bare(), 0, values)


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Training().lr = 0.3  # type: ignore[misc]
    with pytest.raises(TypeError, match="niose"):
        Training(niose=None)  # type: ignore[call-arg]


# What replicas agree on


@dataclass(frozen=True)
class Three:
    a: int = 1
    b: float = 2.0
    c: str = "x"


def test_what_all_have_is_read_through():
    shared = agreed([Three(b=1.0), Three(b=3.0)], frozenset({"b"}))
    assert (shared.a, shared.c) == (1, "x")
    assert agreed([Three(), Three()], frozenset()) == Three()


def test_what_may_differ_cannot_be_read_even_where_it_does_not():
    for configs in ([Three(b=1.0), Three(b=3.0)], [Three()]):
        shared = agreed(configs, frozenset({"b"}))
        with pytest.raises(PopulationError, match=r"config.b may differ .*replica_keys.*read it in `model`, or keep"):
            _ = shared.b
        with pytest.raises(AttributeError, match="'Three' object has no attribute 'd'"):
            _ = shared.d


def test_replicas_that_disagree():
    message = r"replica 2 has c = 'y', replica 0 has 'x'; replicas of one population agree on it \(name it in replica_k"
    with pytest.raises(PopulationError, match=message):
        agreed([Three(), Three(b=3.0), Three(c="y")], frozenset({"b"}))
    with pytest.raises(PopulationError, match="replica 1 has width = 6, replica 0 has 5"):
        Population(Regression(), [Replica(0), replica(1, config=Config(width=6))])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"optimizer": Adam()},
            r"replica 1 has optimizer = Adam\(.*\), replica 0 has SGD\(.*\); all replicas of a pop",
        ),
        ({"clip_per": "tensor"}, "replica 1 has clip_per = 'tensor', replica 0 has 'replica'; all replicas"),
    ],
)
def test_what_all_replicas_of_a_population_share(setting, message):
    with pytest.raises(PopulationError, match=message):
        Population(Regression(), [replica(0), replica(1, **setting)])


READS = {
    "loss": lambda self, model, batch, config: super(Reading, self).loss(model, batch, config) * config.gain,
    "batch": lambda self, seed, t, config: super(Reading, self).batch(seed + int(config.gain), t, config),
    "held_out": lambda self, config: super(Reading, self).held_out(config) * config.gain,
    "evaluate": lambda self, model, held_out, config: {"gain": torch.tensor(config.gain)},
}


class Reading(Regression):
    """Reads a setting that may differ between replicas in one of its methods."""


@pytest.mark.parametrize("method", READS)
def test_a_setting_that_differs_cannot_be_read_where_all_are_one(method):
    """It would be that of whoever comes first: a result that depends on the neighbours."""
    kind = type("Reading", (Reading,), {method: READS[method]})
    engine = Population(kind(), [Replica(0), Replica(1)], trace=False)
    with pytest.raises(PopulationError, match=r"config\.gain may differ between the replicas of a pop"):
        engine.step()
        engine.evaluate()


def test_a_model_may_read_it():
    engine = Population(net_experiment(), [replica(0, config=Config(gain=g)) for g in (1.0, 2.0)], trace=False)
    first = engine.modules.views(engine.modules.theta)[engine.modules.names.index("first.weight")]
    assert torch.allclose(2 * first[0], first[1])
