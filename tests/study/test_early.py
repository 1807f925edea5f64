"""Trials that reach their goal before the last update."""

import torch
from torch import nn

from gradnoise.population import Experiment, Goal
from gradnoise.study import Arm, Metric, Options, Setting, Study, run_study


class Far(Goal):
    def reached(self, metrics):
        return metrics["place"] > 1.2


class Walk(Experiment):
    """A weight that walks by lr an update; finished beyond 1.2."""

    name = "walk"
    goal = Far()
    same_weights = same_batches = True

    def model(self, config):
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        return model

    def batch(self, seed, t, config):
        return torch.ones(1, 1)

    def loss(self, model, batch, config):
        return -model(batch).sum()

    def evaluate(self, model, held_out, config):
        return {"place": model.weight.sum()}


def study(**values):
    fast = {"lr": 0.1}
    return Study(
        name="walk",
        title="Walk",
        experiment=Walk(),
        arms=(Arm("slow", {"lr": 0.01}), Arm("fast", fast), Arm("fast to the end", fast | {"early_stop": False})),
        metric=Metric("place", "place", higher_is_better=True, success=1.2),
        settings=(Setting("all", "all"),),
        seeds=(0,),
        steps=40,
        eval_every=5,
        **values,
    )


def test_a_finished_trial_keeps_its_last_metrics_and_its_step(tmp_path):
    found = {t.arm: t for t in run_study(study(), tmp_path).trials}
    assert {arm: (t.status, t.step) for arm, t in found.items()} == {
        "slow": ("finished", 40),
        "fast": ("finished", 15),
        "fast to the end": ("finished", 40),
    }
    assert abs(found["fast"].final["place"] - 1.5) < 1e-5
    assert found["fast"].curves["place"].steps.tolist() == [5, 10, 15]
    assert abs(found["slow"].final["place"] - 0.4) < 1e-5
    assert abs(found["fast to the end"].final["place"] - 4.0) < 1e-5


def test_the_same_in_slices(tmp_path):
    whole = run_study(study(), tmp_path / "whole").trials
    sliced = run_study(study(), tmp_path / "slices", options=Options(slice_seconds=0.0)).trials
    for mine, theirs in zip(sliced, whole, strict=True):
        assert (mine.status, mine.step, mine.final) == (theirs.status, theirs.step, theirs.final)
