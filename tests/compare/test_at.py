"""The value of a script's run that counts: the last, the best, or the one where another metric is best."""

import pytest
from support.comparing import compare, results, said, script

from gradnoise.study.analysis import summarise

FOLDER = "runs/compare-train"
#: Accuracy is best at the first step and worst at the last; the validation loss is lowest in between.
BODY = """
begin(seed, seed, seed + 1.0)
gain = 0.1 if arm != "none" else 0.0
losses = (3.0, 1.0, 2.0)
with open(os.path.join(records, "reports.jsonl"), "w") as file:
    for step, value in enumerate((0.9 - gain, 0.5 + gain, 0.2)):
        metrics = {"accuracy": value + seed / 100, "val_loss": losses[step]}
        file.write(json.dumps({"step": step, "metrics": metrics}) + "\\n")
"""


@pytest.mark.parametrize(("at", "difference"), [("last", 0.0), ("best", -0.1), ("min:val_loss", 0.1)])
def test_the_evaluation_that_counts(tmp_path, capsys, at, difference):
    assert compare(script(tmp_path, BODY), "--at", at) == 0
    (effect,) = summarise(results(tmp_path / FOLDER)).effects
    assert effect.comparison.difference == pytest.approx(difference)


def test_another_reading_of_runs_that_have_ended(tmp_path, capsys):
    path = script(tmp_path, BODY)
    assert compare(path) == 0
    said(capsys)
    assert compare(path, "--at", "best") == 0
    assert "Nothing to run" in said(capsys)
    assert results(tmp_path / FOLDER).record.metric.at == "best"


def test_the_best_of_one_value_is_said_to_be_the_last(tmp_path, capsys):
    path = script(tmp_path, "begin(seed, seed)\ntell(accuracy=seed / 10 + (arm != 'none'))\n")
    assert compare(path, "--at", "best") == 0
    assert "Every run was evaluated once: 'best' of one evaluation is the last one." in said(capsys)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("min:val_los", "train measures no 'val_los': there are accuracy, val_loss; did you mean 'val_loss'?"),
        ("bset", "allowed are 'last', 'best', 'min:bset', 'max:bset'; did you mean 'best'?"),
        ("min:accuracy", "counts the worst evaluation of the metric itself; write 'best'"),
    ],
)
def test_what_cannot_count_is_refused(tmp_path, capsys, at, words):
    assert compare(script(tmp_path, BODY), "--at", at) == 1
    assert words in said(capsys)
