"""Steps of what a script tells: each value has one of its own, and where a script repeats steps, that is said."""

import json
import math

import pytest
from support.comparing import compare, results, said, script

from gradnoise.errors import StudyError
from gradnoise.study import Store
from gradnoise.study.analysis import summarise
from gradnoise.study.engine import SliceResult
from gradnoise.study.script.sources import Places, find
from gradnoise.study.script.values import laid_out

FOLDER = "runs/compare-train"
#: Each epoch counts from 0; the arm with noise is good in its second epoch alone, where the validation loss is lowest.
EPOCHS = """
begin(seed, seed, seed + 1.0)
with open(os.path.join(records, "reports.jsonl"), "w") as file:
    for epoch in range(3):
        for i in range(2):
            good = arm != "none" and epoch == 1
            CALLS
"""
TELL = "file.write(json.dumps({'step': i, 'metrics': {%s}}) + '\\n')"
BOTH = TELL % "'accuracy': 0.5 + 0.4 * good + seed / 100, 'val_loss': 1 - good + i / 10"
APART = "; ".join((TELL % "'accuracy': 0.5 + 0.4 * good + seed / 100", TELL % "'val_loss': 1 - good + i / 10"))


@pytest.mark.parametrize(
    ("told", "points", "counted"),
    [
        ([(None, 1), (None, 2)], [(0, 1), (1, 2)], False),
        ([(3, 1), (5, 2)], [(3, 1), (5, 2)], False),
        ([(3, 1), (5, 2), (None, 2)], [(3, 1), (5, 2)], False),  # the last value once more, as a result
        ([(3, 1), (5, 2), (None, 4), (None, 5)], [(3, 1), (5, 2), (6, 4), (7, 5)], False),
        ([(3, 1), (3, 2)], [(0, 1), (1, 2)], True),
        ([(1, 1), (2, 2), (1, 2), (2, 2)], [(0, 1), (1, 2), (2, 2), (3, 2)], True),
        ([(9, 1), (6, 2)], [(0, 1), (1, 2)], True),
    ],
)
def test_every_value_has_a_step_of_its_own(told, points, counted):
    assert laid_out([(step, {"a": float(value)}) for step, value in told]) == ({"a": points}, counted)


def test_what_is_told_at_one_step_of_one_epoch_stays_together():
    found, counted = laid_out([(0, {"a": 1.0}), (0, {"b": 2.0}), (1, {"a": 3.0}), (0, {"a": 4.0}), (0, {"b": 5.0})])
    assert counted and found == {"a": [(0, 1.0), (1, 3.0), (2, 4.0)], "b": [(0, 2.0), (2, 5.0)]}
    found, counted = laid_out([(4, {"a": 1.0, "b": 2.0}), (None, {"c": 3.0})])
    assert not counted and found["c"] == [(4, 3.0)], "a result without a step is one of the last step"


@pytest.mark.parametrize("at", ["best", "min:val_loss"])
@pytest.mark.parametrize("calls", [BOTH, APART])
def test_a_step_that_is_told_twice_erases_nothing(tmp_path, capsys, at, calls):
    assert compare(script(tmp_path, EPOCHS.replace("CALLS", calls)), "--at", at) == 0, said(capsys)
    (effect,) = summarise(results(tmp_path / FOLDER)).effects
    assert effect.comparison.difference == pytest.approx(0.4)
    assert "Runs of none, noise:0.01 told steps twice or not in order" in said(capsys)


def test_the_final_result_of_a_trainer_is_one_of_its_last_step(tmp_path):
    (tmp_path / "dir").mkdir()
    where = Places(tmp_path, tmp_path / "dir", tmp_path / "stdout.txt", tmp_path / "stderr.txt")
    history = [{"step": 5, "acc": 0.3}, {"step": 10, "acc": 0.5}, {"step": 10, "acc": 0.4}]
    (tmp_path / "dir/trainer_state.json").write_text(json.dumps({"log_history": history}))
    for final, points in ((0.5, [(5, 0.3), (10, 0.5)]), (0.4, [(5, 0.3), (10, 0.5), (11, 0.4)])):
        (tmp_path / "dir/all_results.json").write_text(json.dumps({"acc": final}))
        found = find(where, "acc")[0]
        assert found and found.points == {"acc": points} and not found.counted


def test_metrics_that_cannot_be_joined_are_refused(tmp_path, capsys):
    body = EPOCHS.replace("CALLS", BOTH.replace("'val", "**({} if i else {'accuracy': 0}), 'val"))
    body = body.replace("'accuracy': 0.5 + 0.4 * good + seed / 100, ", "")
    assert compare(script(tmp_path, body), "--at", "min:val_loss") == 1
    assert "measure both at the same evaluations" in said(capsys)


def test_a_store_refuses_two_values_for_one_step(tmp_path):
    def of(*values: float) -> SliceResult:
        return SliceResult("c", 1, True, [("t", "loss", 1, value) for value in values], {}, {}, {}, 0.0)

    with Store(tmp_path) as store, pytest.raises(StudyError, match="two values of 'loss' after 1 updates"):
        store.commit(of(0.5, 0.25))
    with Store(tmp_path) as store, pytest.raises(StudyError, match="two values"):
        store.commit(of(0.5, math.nan))
