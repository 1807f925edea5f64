"""Trained weights are kept in one cache, whose damage costs time and nothing else."""

import dataclasses

import pytest
import torch
from support.small import STEPS, Toy, small

from gradnoise.errors import CheckpointError
from gradnoise.population import checkpoint
from gradnoise.study import StudyError, train_again, trained_weights

TRIALS = [t for t in small().trials() if t.row == "a" and t.arm == "none"]


def weights(trained):
    return {name: x.clone() for name, x in trained.model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def never(done, total):
    pytest.fail("it was trained again")


def test_the_weights_are_those_of_training_again(tmp_path):
    trained = trained_weights(Toy(), TRIALS[:1], tmp_path)
    population = train_again(Toy(), TRIALS[:1])
    assert same(weights(trained), dict(population.modules.named_rows(0)))
    assert trained.trial is TRIALS[0] and not trained.model.training
    assert trained.metrics == {name: x.item() for name, x in population.evaluate().items()}


def test_they_are_trained_once(tmp_path):
    seen = []
    first = trained_weights(Toy(), TRIALS[:1], tmp_path, progress=lambda *x: seen.append(x))
    assert seen == [(i + 1, STEPS) for i in range(STEPS)]
    again = trained_weights(Toy(), TRIALS[:1], tmp_path, progress=never)
    assert same(weights(first), weights(again)) and first.metrics == again.metrics


def test_another_question_has_another_file(tmp_path):
    trained_weights(Toy(), TRIALS[:1], tmp_path)
    trained_weights(Toy(), TRIALS[:1], tmp_path, steps=3)
    trained_weights(Toy(), TRIALS, tmp_path, best_by=("error",))
    trained_weights(Toy(), TRIALS, tmp_path, best_by=("mean", "error"))
    trained_weights(Toy(), TRIALS[::-1], tmp_path, best_by=("error",))
    assert len(list((tmp_path / "weights").iterdir())) == 5
    trained_weights(Toy(), TRIALS[:1], tmp_path, steps=STEPS, progress=never)  # the trial's own number of updates


def test_the_best_of_several_stays(tmp_path):
    errors = train_again(Toy(), TRIALS).evaluate()["error"].tolist()
    best = trained_weights(Toy(), TRIALS, tmp_path, best_by=("error",))
    assert best.trial is TRIALS[errors.index(min(errors))] and best.metrics["error"] == min(errors)
    assert trained_weights(Toy(), TRIALS, tmp_path, best_by=("error",), progress=never).trial is best.trial


def test_a_trial_that_diverged_is_never_the_best(tmp_path):
    for poisoned in (0, 1):
        best = trained_weights(Toy({poisoned: 2}), TRIALS, tmp_path / str(poisoned), best_by=("error",))
        assert best.trial.seed == 1 - poisoned and best.metrics["error"] < 99
    with pytest.raises(StudyError, match="all runs diverged"):
        trained_weights(Toy({0: 2, 1: 2}), TRIALS, tmp_path / "all", best_by=("error",))


@pytest.mark.parametrize("damage", ["bytes", "another model", "nothing in it"])
def test_a_damaged_file_is_made_again_and_said(damage, tmp_path):
    first = trained_weights(Toy(), TRIALS[:1], tmp_path)
    (path,) = (tmp_path / "weights").iterdir()
    if damage == "bytes":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "another model":
        other = dataclasses.replace(TRIALS[0], config={**TRIALS[0].config, "width": 5})
        checkpoint.write(
            path, {"trial": 0, "weights": Toy().model(Toy().configured(other.config)).state_dict(), "metrics": {}}
        )
    else:
        checkpoint.write(path, {})
    said = []
    again = trained_weights(Toy(), TRIALS[:1], tmp_path, notice=said.append)
    assert same(weights(first), weights(again))
    assert len(said) == 1 and said[0].startswith(f"{path} is damaged and is made again")
    trained_weights(Toy(), TRIALS[:1], tmp_path, progress=never, notice=said.append)
    assert len(said) == 1


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "weights").write_text("in the way")
    said = []
    trained = trained_weights(Toy(), TRIALS[:1], tmp_path, notice=said.append)
    assert said and said[0].startswith("the weights are not kept: cannot write")
    assert same(weights(trained), dict(train_again(Toy(), TRIALS[:1]).modules.named_rows(0)))
    with pytest.raises(CheckpointError):
        checkpoint.write(tmp_path / "weights" / "x.pt", {})
