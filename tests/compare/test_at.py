"""The value of a script's run that counts: the last, the best, the one where another metric is best; or a bound."""

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
    assert "Training curves" not in (tmp_path / FOLDER / "report.html").read_text(encoding="utf-8")


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


# --- how many runs keep a bound -------------------------------------------------------------------------

LEARNS = """
begin(seed, seed, seed + 1.0)
if seed == 1 and arm == "none":
    sys.exit("out of luck")
tell(accuracy=0.95 if arm != "none" else 0.5)
"""


def test_a_rate_of_runs(tmp_path, capsys):
    """Those that keep the bound; a run that fails has not, and is told as failed."""
    assert compare(script(tmp_path, LEARNS), metric="accuracy >= 0.9", seeds=6) == 0
    (effect,) = summarise(results(tmp_path / FOLDER)).effects
    assert effect.comparison.rate and effect.comparison.difference == 100.0
    assert (effect.verdict.outcome, effect.comparison.n) == ("helps", 6)
    out = said(capsys)
    assert "runs with accuracy >= 0.9" in out and "failed" in out


def test_the_same_runs_by_their_values_and_by_a_bound(tmp_path, capsys):
    path = script(tmp_path, BODY)
    assert compare(path) == 0
    said(capsys)
    assert compare(path, "--at", "best", metric="accuracy>=0.9") == 0
    out = said(capsys)
    assert "Nothing to run" in out
    found = results(tmp_path / FOLDER)
    assert found.record.metric.name == "accuracy >= 0.9"
    assert {t.final["accuracy >= 0.9"] for t in found.trials} == {0.0}  # at the end
    (effect,) = summarise(found).effects
    assert effect.comparison.difference == -100.0  # at best: 0.9 and more without noise, 0.8 and a little with it


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("accuracy", "write NAME:max or NAME:min, such as accuracy:max, or 'NAME >= NUMBER' for the rate"),
        ("accuracy >= high", "--metric = 'accuracy >= high' is no bound on a measure"),
        ("acuracy >= 0.9", "told no 'acuracy'"),
    ],
)
def test_bounds_that_cannot_be_are_refused(tmp_path, capsys, metric, words):
    assert compare(script(tmp_path, BODY), metric=metric) == 1
    assert words in said(capsys)


def test_success_beside_a_bound_is_refused(tmp_path, capsys):
    assert compare(script(tmp_path, BODY), "--success", "0.9", metric="accuracy >= 0.9") == 1
    assert "makes success 100.0, and it is given as 0.9: leave it out" in said(capsys)
