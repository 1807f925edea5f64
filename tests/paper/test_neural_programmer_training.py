"""Training Neural Programmers: minibatches, updates, populations, what the record keeps, and what is learned."""

import math
from typing import Any

import pytest
import torch

from gradnoise import Annealed
from gradnoise.paper import load_system
from gradnoise.paper.neural_programmer import Config, TableQuestions
from gradnoise.paper.neural_programmer.machine.record import Record
from gradnoise.paper.neural_programmer.problems.questions import all_templates
from gradnoise.paper.neural_programmer.problems.tasks import TASKS
from gradnoise.population import Adam, Population, PopulationError, Replica, check_experiment
from gradnoise.study.spec import Trial

SMALL = {"dim": 8, "batch_size": 10, "examples": 60, "tables": 1, "lr": 1e-3, "optimizer": Adam(eps=1e-6)}


def population(*settings, dtype=torch.float64, trace=False, **shared) -> Population:
    experiment = TableQuestions()
    replicas = [
        Replica.of(experiment, s.get("seed", 0), SMALL | shared | {k: v for k, v in s.items() if k != "seed"})
        for s in settings
    ]
    return Population(experiment, replicas, dtype=dtype, trace=trace)


def train(*settings, steps=3, **options) -> Population:
    p = population(*settings, **options)
    for _ in range(steps):
        p.step()
    return p


# --- minibatches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_a_minibatch_holds_each_question_once(name):
    experiment, task = TableQuestions(), TASKS[name]
    config = Config(task=name, batch_size=50, examples=600)
    questions, index, examples = experiment.batch(1, 3, config)
    k = len(questions.tokens)
    assert k % 8 == 0 or k == 50
    known = all_templates(task)
    for b in range(50):
        expected = [w for w in known[examples.template[b]].tokens if w != "#"]
        row = questions.tokens[index[b]]
        assert [task.vocabulary[i] for i in row[: questions.length[index[b]]]] == expected
        assert torch.equal(questions.present[index[b]], examples.present[b])
    if name == "single":
        assert k <= 24


def test_an_epoch_shows_every_example_once():
    experiment, config = TableQuestions(), Config(batch_size=10, examples=60)
    assert experiment.epoch(config) == 6
    for epoch in range(2):
        cells = torch.cat([experiment.batch(0, 6 * epoch + i, config).examples.cells for i in range(6)])
        assert len({tuple(x.flatten().tolist()) for x in cells}) == 60


def test_minibatches_of_several_seeds_are_padded():
    experiment, config = TableQuestions(), Config(task="text", batch_size=20, examples=600)
    batches = [experiment.batch(seed, 0, config) for seed in range(6)]
    stacked = experiment.stack(batches)
    assert len({len(b.questions.tokens) for b in batches}) > 1
    for row, batch in enumerate(batches):
        assert torch.equal(stacked.questions.tokens[row][: len(batch.questions.tokens)], batch.questions.tokens)
        assert torch.equal(stacked.asks[row], batch.asks)


# --- populations --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{"task": "text"}, {"task": "single", "pivot_grad": "ste"}, {"task": "five", "dropout_keep": 0.8}],
    ids=lambda s: "-".join(map(str, s.values())),
)  # fmt: skip
def test_the_experiment_is_sound(settings):
    notes = check_experiment(TableQuestions(), {k: v for k, v in SMALL.items() if k != "lr"} | settings)
    assert notes["loss runs by"] == notes["evaluate runs by"] == "vmap"


MIXED = (
    {"seed": 0},
    {"seed": 0, "noise": Annealed(1.0), "clip": 1.0},
    {"seed": 1, "noise": Annealed(1.0), "clip": 5.0, "delta": 25.0},
    {"seed": 2, "clip": 50.0, "lookup_weight": 100.0},
)


@pytest.mark.parametrize("shared", [{"task": "single"}, {"task": "text"}, {"task": "single", "dropout_keep": 0.8}],
                         ids=lambda s: "-".join(map(str, s.values())))  # fmt: skip
def test_a_replica_alone_trains_as_in_company(shared):
    together = train(*MIXED, steps=8, **shared)
    for p in (0, 2, 3):
        alone = train(MIXED[p], steps=8, **shared)
        assert (alone.modules.theta[0] - together.modules.theta[p]).abs().max() < 1e-9


def test_settings_of_the_loss_are_the_replicas_own():
    p = train({"delta": 10.0}, {"delta": 50.0}, {"lookup_weight": 75.0}, steps=1, clip=1.0)
    losses = p.telemetry()["train_loss"]
    assert losses[1] > 2 * losses[0] and losses[2] > losses[0]


def test_noise_comes_after_the_clip_and_before_adam():
    """With a gradient cut to nothing Adam's first update is what the noise makes of it: the rate times a sign."""
    p = population({"clip": 1e-12}, {"clip": 1e-12, "noise": Annealed(1.0)}, optimizer=Adam(eps=1e-8))
    before = p.modules.theta.clone()
    p.step()
    silent, noisy = (p.modules.theta - before).abs()
    assert silent.max() < 1e-3 * 1e-3
    assert noisy.median().item() == pytest.approx(1e-3, rel=1e-3)


def test_noise_alone_carries_weights_as_adam_predicts():
    """Where the gradient is zero, as that of the selector of a single column, Adam makes of noise a walk: after t
    updates the standard deviation is near sqrt(0.1^2 / 3 + lr^2 t)."""
    p = train({"noise": Annealed(1.0), "clip": 1.0}, steps=400, dim=24, dtype=torch.float32, trace=True)
    names = dict(zip(p.modules.names, p.modules.views(p.modules.theta), strict=True))
    found = torch.cat([names[f"select_column.{part}"].flatten() for part in ("question", "history")]).std().item()
    assert found == pytest.approx(math.sqrt(0.01 / 3 + 400 * 1e-6), rel=0.05)


def test_masks_stand_where_they_should():
    p = population({"dropout_keep": 0.6}, task="five")
    masks = p._masks.refill(torch.tensor(0))
    shapes = {name.removesuffix(".mask").removeprefix("dropouts."): tuple(x.shape[1:]) for name, x in masks.items()}
    assert shapes == {
        "words": (10, 7, 8),
        **{f"encoder.{i}": (10, 4) for i in range(2)},
        "operations": (9, 8),
        **{f"{name}.{t}": shape for name, shape in (("select_operation", (10, 8)), ("select_column", (10, 5, 8)),
                                                     ("columns", (10, 5, 8))) for t in range(4)},
        **{f"context.{t}": (10, 16) for t in range(3)},
        "history": (10, 8),
    }  # fmt: skip
    for name, mask in masks.items():
        keep = 0.8 if "encoder" in name or "history" in name else 0.6
        assert mask.unique().tolist() == [0.0, pytest.approx(1 / keep)]


# --- evaluation ---------------------------------------------------------------------------------------


def test_the_record_keeps_the_test_at_the_first_best_validation():
    record = Record().double()

    def see(valid, test, one):
        return {k: v.item() for k, v in record.updated(*(torch.tensor(x).double() for x in (valid, test, one))).items()}

    assert see(50, 100, 95) == {
        "accuracy": 100, "accuracy_one": 95, "solved": 100, "solved_one": 0, "solved_last": 100, "solved_ever": 100,
    }  # fmt: skip
    assert see(80, 70, 100)["accuracy"] == 70
    later = see(80, 90, 0)  # as good a validation: the first one counts
    assert (later["accuracy"], later["solved"], later["solved_one"]) == (70, 0, 100)
    assert later["solved_last"] == 0 and later["solved_ever"] == 100


def test_each_replica_has_a_record_of_its_own_that_checkpoints_keep():
    p = train({"seed": 0}, {"seed": 1}, {"seed": 2}, steps=2)
    first = p.evaluate()
    assert torch.equal(p.modules.fixed["record.seen"][:, 0], first["valid_accuracy"])
    q = population({"seed": 0}, {"seed": 1}, {"seed": 2})
    q.load_state_dict(p.state_dict())
    for x, y in zip(p.evaluate().values(), q.evaluate().values(), strict=True):
        assert torch.equal(x, y)
    assert torch.equal(p.evaluate()["accuracy"], first["accuracy"])  # looking again changes nothing


def test_the_goal_asks_for_other_tables():
    experiment = TableQuestions()
    reached = experiment.goal.reached({"valid_accuracy": torch.tensor([99.9, 100.0])})
    assert reached.tolist() == [False, True]
    model = experiment.model(Config(dim=8, tables=2)).double().eval()
    assert experiment.goal.exam(model, Config(dim=8, tables=2))["valid_accuracy"] < 50


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "fives"}, "no task 'fives'.*did you mean 'five'"),
        ({"pivot_grad": "st"}, "allowed are none and ste; did you mean 'ste'"),
        ({"delta": 0.0}, "delta = 0.0"),
        ({"lookup_weight": math.inf}, "lookup_weight = inf"),
        ({"batch_size": 0}, "batch_size B = 0"),
        ({"batch_size": 61, "examples": 60}, "61 of 60 examples"),
        ({"tables": 0}, "tables R = 0"),
        ({"encoder": "plane"}, "did you mean 'plain'"),
        ({"dropout_keep": 0.0}, "keep = 0.0"),
        ({"task": "five", "dim": 7}, "an even number"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(PopulationError, match=message):
        TableQuestions().model(Config(**{"dim": 8} | values))


# --- what is learned ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_quick_study_learns_simple_questions():
    """A fresh network answers under 5 %; halfway through, comparisons are answered, with noise or not."""
    study = load_system("neural-programmer").study("quick", seeds=1)
    experiment, both = study.experiment, [t for t in study.trials() if t.row == "clip-50"]
    assert len(both) == 2
    p = Population(experiment, [Replica.of(experiment, 0, config_of(t)) for t in both])
    for _ in range(1000):
        p.step()
    metrics = p.evaluate()
    assert metrics["test_accuracy"].min() > 30
    assert metrics["test_simple"].min() > 30 and metrics["test_comparison"].min() > 60


def config_of(trial: Trial) -> dict[str, Any]:
    return {k: v for k, v in trial.config.items() if k not in ("steps", "eval_every", "study_seed")}
