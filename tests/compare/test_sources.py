"""Where metrics are found: as the tools' own writers leave them, each source named, and nothing taken for a number."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
from support.comparing import PREAMBLE, compare, results, said, script

from gradnoise.errors import StudyError
from gradnoise.study.script.pattern import UnreadError, check_pattern, numbers_in
from gradnoise.study.script.sources import Places, find, json_lines


def places(folder: Path, stdout: str = "", pattern: str | None = None) -> Places:
    (folder / "dir").mkdir(exist_ok=True)
    (folder / "stdout.txt").write_text(stdout)
    return Places(folder, folder / "dir", folder / "stdout.txt", folder / "stderr.txt", pattern)


def test_sources_are_asked_in_their_order(tmp_path):
    where = places(tmp_path, '{"acc": 0.1}\n{"time": 3}\nbye\n')
    assert find(where, "acc")[1].startswith("it told no 'acc': the last line of JSON that it printed has time")
    where = places(tmp_path, '{"time": 3}\n{"acc": 0.1, "name": "x"}\nbye\n')
    found = find(where, "acc")[0]
    assert found and (found.source, found.points) == ("the last line of JSON that it printed", {"acc": [(0, 0.1)]})
    deep = tmp_path / "dir/lightning_logs/version_0"
    deep.mkdir(parents=True)
    (deep / "metrics.csv").write_text("epoch,step,acc,loss\n0,9,,1.5\n0,9,0.2,\n1,19,0.3,nan\n")
    found = find(where, "acc")[0]
    assert found and found.source == "metrics.csv" and found.points["acc"] == [(9, 0.2), (19, 0.3)]
    assert math.isnan(found.final["loss"])
    (tmp_path / "dir/all_results.json").write_text('{"eval_acc": 0.9, "acc": 0.4, "who": "me"}')
    state = {"log_history": [{"step": 5, "acc": 0.35}, {"step": 10, "loss": 1.0}]}
    (tmp_path / "dir/trainer_state.json").write_text(json.dumps(state))
    found = find(where, "acc")[0]
    assert found and found.source == "all_results.json" and found.points["acc"] == [(5, 0.35), (10, 0.4)]
    (tmp_path / "reports.jsonl").write_text('{"step": 3, "metrics": {"acc": 0.5}}\n{"step": null, "metr')
    found = find(where, "acc")[0]
    assert found and found.source == "gradnoise.report" and found.points == {"acc": [(3, 0.5)]}


def test_tensorboard_events_of_its_own_writer(tmp_path):
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "dir/logs")) as writer:
        for step, value in enumerate((0.25, 0.5, 0.75)):
            writer.add_scalar("val/acc", value, 10 * step)
    found = find(places(tmp_path), "val/acc")[0]
    assert found and found.source == "TensorBoard events"
    assert found.points == {"val/acc": [(0, 0.25), (10, 0.5), (20, 0.75)]}
    assert "did you mean 'val/acc'?" in find(places(tmp_path), "val/ac")[1]


def test_tensorboard_events_that_cannot_be_read_are_told_of_and_other_sources_asked(tmp_path, monkeypatch):
    for module in ("tensorboard", "tensorboard.backend.event_processing.event_accumulator"):
        monkeypatch.setitem(sys.modules, module, None)
    where = places(tmp_path, '{"acc": 0.1}\n')
    (tmp_path / "dir/events.out.tfevents.1").touch()
    found = find(where, "acc")[0]
    assert found and found.source == "the last line of JSON that it printed"
    assert "among the TensorBoard events" in find(where, "loss")[1] and "pip install tensorboard" in find(where, "x")[1]


def test_nothing_at_all_is_told_with_what_to_do(tmp_path):
    why = find(places(tmp_path), "acc")[1]
    assert "call gradnoise.report(acc=...)" in why and "files are looked for in {dir} alone" in why


def test_a_line_that_is_lost_is_an_error_and_not_an_earlier_value(tmp_path):
    path = tmp_path / "reports.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}{"a"\n{"a": 3}\n')
    with pytest.raises(StudyError, match=r"reports.jsonl, line 2 cannot be read"):
        json_lines(path)
    path.write_text('{"a": 1}\n{"a": 2')
    assert json_lines(path) == [{"a": 1}]


@pytest.mark.parametrize("last", ["null", "nan", "-inf", "None", "NaN", '"N/A"'])
def test_a_last_line_of_json_without_a_number_is_not_passed_over(tmp_path, last):
    where = places(tmp_path, f'{{"acc": 0.5}}\n{{"acc": {last}, "loss": 1.5}}\n{{"status": "done"}}\n')
    found = find(where, "acc")[0]
    assert found and not math.isfinite(found.final["acc"])


@pytest.mark.parametrize("last", ['"diverged"', "[0.5]", "tensor(0.5)", '"93 %"'])
def test_a_last_line_that_cannot_be_read_is_an_error(tmp_path, last):
    found, why = find(places(tmp_path, f'{{"acc": 0.5}}\n{{"acc": {last}, "loss": 1.5}}\n'), "acc")
    assert found is None and "acc" in why and ("which is no number" in why or "which is no JSON" in why)


def test_the_last_row_of_a_csv_file_decides(tmp_path):
    where = places(tmp_path)
    log = tmp_path / "dir/metrics.csv"
    head = "step,acc,loss,phase\n0,0.5,1,train\n"
    log.write_text(head + "1,diverged,x,train\n")
    assert find(where, "acc") == (None, "acc is 'diverged', which is no number, in metrics.csv")
    log.write_text(head + "1,diverged,x,train\n2,0.75,2,val\n3,,,\n")
    found = find(where, "acc")[0]
    assert found and set(found.points) == {"acc", "loss"} and found.final == {"acc": 0.75, "loss": 2.0}
    assert [step for step, _ in found.points["acc"]] == [0, 1, 2] and math.isnan(found.points["acc"][1][1])
    log.write_text(head + "nan,None,2,None\n")
    found = find(where, "acc")[0]
    assert found and math.isnan(found.final["acc"]) and set(found.points) == {"acc", "loss"}


def test_a_final_result_without_a_number_decides_over_its_history(tmp_path):
    where = places(tmp_path, '{"acc": 0.5}\n')
    (tmp_path / "dir/all_results.json").write_text('{"acc": null, "who": null, "epoch": 3}')
    state = {"log_history": [{"step": 5, "acc": 0.35}, {"step": None, "acc": 0.4}]}
    (tmp_path / "dir/trainer_state.json").write_text(json.dumps(state))
    found = find(where, "acc")[0]
    assert found and math.isnan(found.final["acc"]) and found.points["acc"][0] == (5, 0.35)
    assert set(found.points) == {"acc", "epoch"}
    (tmp_path / "dir/all_results.json").write_text('{"acc": "bad"}')
    assert find(where, "acc")[1] == "acc is 'bad', which is no number, in all_results.json"


def test_a_run_that_ends_without_a_number_is_broken_in_its_arm_alone(tmp_path, capsys):
    body = "begin(seed)\ntell(accuracy=0.5)\ntell(accuracy=None if arm != 'none' else 0.25)\n"
    assert compare(script(tmp_path, body)) == 0
    assert "accuracy is nan" in said(capsys)
    assert {t.status for t in results(tmp_path / "runs/compare-train").trials if t.arm == "none"} == {"finished"}
    body = body.replace("None if", "'diverged' if seed and")
    assert compare(script(tmp_path, body, "text.py")) == 0
    assert "seed 1, arm noise:0.01: accuracy is 'diverged', which is no number" in said(capsys)


@pytest.mark.parametrize(
    ("text", "pattern", "numbers"),
    [
        ("loss: 0.5\nloss: 0.25\n", "loss: ([0-9.]+)", [0.5, 0.25]),
        ("loss: 0.5\nloss: nan\nloss: -inf", "loss: ([0-9.]+)", [0.5, math.nan, -math.inf]),
        ("acc=93. next", r"acc=(?P<value>[\d.]+)", [93.0]),
        ("[acc)] (x) 7", r"\[acc[)\]]+ \((?:x|y)\) (\d+)", [7.0]),
        ("epoch 1 acc 0.1\nepoch 2 acc 1e-3", r"^epoch \d+ acc (\S+)$", [0.1, 1e-3]),
        ("nothing", "loss: ([0-9.]+)", []),
        ("loss: 0.5\nloss: None\nloss: N/A\nloss: --", r"loss: ([-+.0-9eE]+)$", [0.5] + 3 * [math.nan]),
        ("loss: 0.5\nloss: null, lr 1", "loss: ([0-9.]+)", [0.5, math.nan]),
        ("loss: -inf", "loss: ([-+.0-9eE]+)", [-math.inf]),
        ("loss -- 0.5\nloss ---> 0.25", "loss.*?([0-9.]+)", [0.5, 0.25]),
        ("banana: 0.5", "ba.*?([0-9.]+)", [0.5]),
        ("1,0.512,0.934\n2,0.25,0.5\n", r"^\d+,([\d.]+),", [0.512, 0.25]),
        ("[0.5, 100]\nacc=0.25,100\nacc-0.75", r"(?:\[|acc=?)([-\d.]+)", [0.5, 0.25, -0.75]),
        ("acc 12% of 1,900", r"acc (\d+)", [12.0]),
    ],
)
def test_numbers_that_a_pattern_matches(text, pattern, numbers):
    check_pattern(pattern)
    assert numbers_in(text, pattern) == pytest.approx(numbers, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "pattern", "why"),
    [
        ("loss: 1e-05", "loss: ([0-9.]+)", "matches '1', a part of the number in 'loss: 1e-05'"),
        ("score 0.93", "score .*([0-9.]+)", "matches '3', a part of the number"),
        ("loss -0.5", "loss.*?([0-9.]+)", "matches '0.5', a part of the number"),
        ("a\nloss: bad\nb", r"loss: (\S+)", r"matches 'bad' in 'loss: bad', which is no number"),
        (
            "perplexity: 1,900.84",
            "perplexity: ([0-9.]+)",
            "part of the number in 'perplexity: 1,900.84'; print it without",
        ),
        ("perplexity: 1,900.84", "perplexity: .*?([0-9.]+)$", "matches '900.84', a part of the number"),
        ("p: 1_900 ", r"p: (\d+)", "part of the number"),
        ("p: 12'900'100", r"p: (\d+)", "part of the number"),
        ("p: 1\u202f900", r"p: (\d+)", "part of the number"),
        ("p: 1\u00a0900.5", r"p: ([-+.0-9eE]+)", "part of the number"),
        ("p: 1.900,84", r"p: ([0-9.]+)", "part of the number"),
        ("p: 0,93.", r"p: ([0-9.]+)", "part of the number"),
        ("p: 1.9k", r"p: ([0-9.]+)", "part of the number"),
        ("p: 1,900", r"p: (\S+)", "which is no number"),
    ],
)
def test_a_part_of_a_number_is_not_taken_for_it(text, pattern, why):
    with pytest.raises(UnreadError) as error:
        numbers_in(text, pattern)
    assert why in str(error.value)


def test_a_pattern_is_checked_before_anything_runs():
    for pattern, why in (("loss: (", "is no regular expression"), ("loss", "has 0 groups"), ("(a)(b)", "has 2 groups")):
        with pytest.raises(StudyError, match=why):
            check_pattern(pattern)


def test_a_pattern_is_looked_for_in_the_logs_of_the_script_too(tmp_path):
    where = places(tmp_path, "nothing here", "acc ([0-9.]+)")
    assert "nor of *.log and *.txt in {dir}, matches --metric-regex 'acc ([0-9.]+)'" in find(where, "acc")[1]
    (tmp_path / "dir/logs").mkdir()
    (tmp_path / "dir/logs/train.log").write_text("acc 0.25\nacc 0.5\n")
    found = find(where, "acc")[0]
    assert found and found.source == "the lines of train.log that match --metric-regex" and found.final == {"acc": 0.5}
    found = find(places(tmp_path, "acc 0.1", "acc ([0-9.]+)"), "acc")[0]
    assert found and found.source == "the lines of its output that match --metric-regex"


def test_a_loss_that_becomes_nan_is_not_passed_over_by_a_pattern(tmp_path, capsys):
    body = "begin(seed)\nprint('loss: 0.5')\nprint('loss: nan' if arm != 'none' else 'loss: 0.25')\n"
    path = script(tmp_path, body)
    assert compare(path, "--metric-regex", "loss: ([0-9.]+)") == 0
    text = said(capsys)
    assert (
        "accuracy is nan" in text and "accuracy is read from the lines of its output that match --metric-regex" in text
    )
    assert {t.status for t in results(tmp_path / "runs/compare-train").trials if t.arm == "none"} == {"finished"}


def test_the_steps_of_a_curve_are_those_that_the_script_reported(tmp_path):
    body = "begin(seed)\nwith open(records + '/reports.jsonl', 'w') as file:\n    for step in (100, 250):\n"
    body += "        file.write(json.dumps({'step': step, 'metrics': {'accuracy': seed + step / 1000}}) + '\\n')\n"
    path = tmp_path / "train.py"
    path.write_text(PREAMBLE + body)
    assert compare(path) == 0
    curves = [t.curves["accuracy"] for t in results(tmp_path / "runs/compare-train").trials]
    assert all(curve.steps.tolist() == [100, 250] for curve in curves)
