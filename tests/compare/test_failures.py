"""What goes wrong in a comparison is never silent: failures, time limits, nan, ignored seeds, changed code."""

import json
import sys

import pytest
from support.comparing import GOOD, compare, outcomes, results, said, script


def test_a_comparison_ends_in_a_verdict_and_is_paired(tmp_path, capsys, page):
    path = script(tmp_path, GOOD)
    assert compare(path, seeds=7) == 0
    text = said(capsys)
    assert "Noise, eta = 0.01 helps" in text and "Pairing of noise:0.01 and none is proved" in text
    assert "accuracy is read from the last line of JSON" in text
    folder = tmp_path / "runs/compare-train"
    assert "Pairing of noise:0.01" in (folder / "report.html").read_text() and len(results(folder).trials) == 14
    assert compare(path, seeds=7) == 0
    assert "Nothing to run" in said(capsys)


def test_a_running_verdict_counts_as_a_look_and_a_blind_study_has_one(tmp_path):
    path = script(tmp_path, GOOD)
    compare(path, blind=False, seeds=4)
    looks = results(tmp_path / "runs/compare-train").looks
    assert len(looks[0].seeds) < 4 and len(looks[-1].seeds) == 4
    compare(path, "--out", "blind", seeds=4)
    assert [len(look.seeds) for look in results(tmp_path / "blind").looks] == [4]


def test_the_first_pair_must_end_well(tmp_path, capsys):
    path = script(tmp_path, "if arm != 'none':\n    raise ValueError('no such file')\ntell(accuracy=1.0)\n")
    assert compare(path) == 1
    text = said(capsys)
    assert "the first pair must end well" in text and "seed 0, arm noise:0.01: exit code 1" in text
    assert "ValueError: no such file" in text and "GRADNOISE_SEED=0" in text
    assert set(outcomes(tmp_path / "runs/compare-train")) == {"seed-0-none"}, "to be made again"
    script(tmp_path, GOOD)  # mended: nothing had ended, so that the same folder serves
    assert compare(path) == 0


FAILS_ON_3 = "if seed == 3 and arm == 'none':\n    sys.exit('seed 3 is bad')\n" + GOOD


def test_a_run_that_fails_leaves_no_verdict_unless_it_has_a_value(tmp_path, capsys):
    path = script(tmp_path, FAILS_ON_3)
    assert compare(path, seeds=6) == 0
    text, folder = said(capsys), tmp_path / "runs/compare-train"
    assert "seed 3, arm none: exit code 1: seed 3 is bad" in text and "No verdict: 1 run (1 of none)" in text
    assert "Runs of none failed (1 of 6 seeds)." in text
    assert [t.status for t in results(folder).trials].count("diverged") == 1
    assert compare(path, "--broken", "0", seeds=6) == 0
    text = said(capsys)
    assert "Runs of 1 seeds that did not end well are made again" in text and "No verdict" not in text


def test_a_run_that_failed_is_made_again_by_the_same_command(tmp_path, capsys):
    path = script(tmp_path, "if seed == 1 and not os.path.exists('room'):\n    sys.exit('no room')\n" + GOOD)
    assert compare(path) == 0
    (tmp_path / "room").touch()
    before = outcomes(tmp_path / "runs/compare-train")
    assert compare(path) == 0
    after = outcomes(tmp_path / "runs/compare-train")
    assert {name for name in after if after[name] != before[name]} == {"seed-1-none", "seed-1-noise-0.01"}
    assert {o["status"] for o in after.values()} == {"finished"}


def test_failures_in_a_row_that_are_the_same_stop_the_study(tmp_path, capsys):
    path = script(tmp_path, "if seed > 0:\n    sys.exit(f'no memory for seed {seed}')\n" + GOOD)
    assert compare(path, seeds=8) == 1
    text = said(capsys)
    assert "3 runs in a row failed alike" in text and "no memory for seed 2" in text
    assert not any(name.startswith("seed-3") for name in outcomes(tmp_path / "runs/compare-train"))


def test_nan_is_an_outcome(tmp_path, capsys):
    path = script(tmp_path, "begin(seed)\ntell(accuracy=float('nan') if seed == 1 and arm != 'none' else 0.5)\n")
    assert compare(path) == 0
    text = said(capsys)
    assert "accuracy is nan" in text and "No verdict: 1 run (1 of noise, eta = 0.01)" in text
    assert compare(path, "--broken", "0.1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["effects"][0]["pairs"] == 2 and found["effects"][0]["difference"] == pytest.approx(-0.2)


HANGS = "if seed == 1 and arm != 'none':\n    print('waiting', flush=True); time.sleep(600)\n" + GOOD


def test_a_time_limit_is_an_outcome_and_a_longer_one_tries_again(tmp_path, capsys):
    path = script(tmp_path, HANGS)
    assert compare(path, "--timeout", "1.5", "--broken", "0") == 0
    text, folder = said(capsys), tmp_path / "runs/compare-train"
    assert "seed 1, arm noise:0.01: no end after 2 s" in text and "ran into the time limit" in text
    assert outcomes(folder)["seed-1-noise-0.01"]["status"] == "timeout"
    compare(path, "--timeout", "1.5", "--broken", "0")
    assert "Nothing to run" in said(capsys)
    script(tmp_path, HANGS.replace("600", "0.01"))
    assert compare(path, "--timeout", "3", "--broken", "0", "--accept-changed-code") == 0
    text = said(capsys)
    assert "made again" in text and "The code was changed and that was accepted: its code was train.py" in text
    assert outcomes(folder)["seed-1-noise-0.01"]["status"] == "finished"


def test_noise_that_reaches_no_optimizer_is_an_error(tmp_path, capsys):
    assert compare(script(tmp_path, "tell(accuracy=seed / 10)\n")) == 1
    assert "had no noise: no update of a torch optimizer was seen" in said(capsys)


def test_an_arm_that_changes_no_number_is_told(tmp_path, capsys):
    assert compare(script(tmp_path, "tell(accuracy=seed / 10)\n"), "--arm", "wide=--hidden 512", arms="none") == 0
    assert "Every number of wide equals that of none." in said(capsys)


def test_changed_code_is_a_new_study_unless_accepted(tmp_path, capsys):
    path = script(tmp_path, GOOD)
    assert compare(path) == 0
    script(tmp_path, GOOD + "# another line\n")
    assert compare(path, seeds=3) == 1
    assert "the code of train is not that of this folder: its code was train.py" in said(capsys)
    assert compare(path, "--accept-changed-code", seeds=3) == 0
    assert "The code was changed and that was accepted: its code was train.py" in said(capsys)
    assert compare(path, seeds=3) == 0, "the code that was accepted is known"


def test_a_metric_that_is_not_there_is_told_with_what_is(tmp_path, capsys):
    assert compare(script(tmp_path, "begin(seed)\ntell(acuracy=0.5, loss=1.0)\n")) == 1
    assert "has acuracy, loss; did you mean 'acuracy'?" in said(capsys)


def test_logs_shows_what_the_runs_of_a_seed_printed(tmp_path, capsys):
    from support.commandline import gradnoise

    compare(script(tmp_path, "print('hello from', arm, seed)\n" + GOOD))
    capsys.readouterr()
    assert gradnoise("compare", "logs", "1") == 0
    text = said(capsys)
    assert "seed 1, arm none: finished" in text and "hello from noise:0.01 1" in text
    assert gradnoise("compare", "logs", "7") == 1
    assert "seeds are 0 to 1" in said(capsys)


def test_dry_run_prints_commands_that_can_be_pasted(tmp_path, capsys):
    import subprocess

    path = script(tmp_path, GOOD)
    assert compare(path, "--dry-run") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mkdir")]
    assert len(lines) == 4 and not (tmp_path / "runs").exists()
    ran = subprocess.run(lines[1], shell=True, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == {"accuracy": 0.6}
    assert sys.executable in lines[1] and 'GRADNOISE_NOISE={"eta": 0.01' in lines[1].replace("'", "")


def test_fail_unless_decides_the_exit_code(tmp_path, capsys):
    path = script(tmp_path, GOOD)
    assert compare(path, "--fail-unless", "helps", seeds=6) == 0
    assert compare(path, "--fail-unless", "no-difference", seeds=6) == 3
    assert "noise:0.01: helps" in said(capsys)
