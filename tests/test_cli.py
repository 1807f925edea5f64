"""The command line from end to end, on the embedded digits at smoke scale."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
from support.commandline import gradnoise

from gradnoise.paper import SYSTEMS
from gradnoise.study import Store, StudyError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder, without MNIST."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRADNOISE_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "160")


SMOKE = ("run", "deep-mlp", "--scale", "smoke", "--data", "digits")


def test_run_ends_in_verdict_report_and_tables(tmp_path, capsys):
    assert gradnoise(*SMOKE) == 0
    out, folder = capsys.readouterr().out, tmp_path / "runs/deep-mlp-smoke"
    assert "undecided" in out and "NOT MNIST" in out and "report.html" in out
    assert "NOT MNIST" in (folder / "report.html").read_text(encoding="utf-8")
    trials = pandas.read_csv(folder / "trials.csv")
    assert len(trials) == 8 and set(trials["status"]) == {"finished"}
    assert len(pandas.read_csv(folder / "curves.csv.gz")) > 8

    # repeating the command trains nothing and gives the same bytes
    before = (folder / "trials.csv").read_bytes()
    assert gradnoise(*SMOKE) == 0
    assert "populations" not in capsys.readouterr().out
    assert (folder / "trials.csv").read_bytes() == before

    # more seeds add trials and keep those that are there
    assert gradnoise(*SMOKE, "--seeds", "3") == 0
    more = pandas.read_csv(folder / "trials.csv").set_index("id")
    assert len(more) == 12
    assert more.loc[trials["id"], "final"].tolist() == trials["final"].tolist()

    # the report can be written again, elsewhere
    assert gradnoise("report", str(folder), "--out", str(tmp_path / "copy")) == 0
    assert (tmp_path / "copy/trials.csv").read_bytes() == (folder / "trials.csv").read_bytes()

    # the folder belongs to this study
    capsys.readouterr()
    assert gradnoise(*SMOKE, "--steps", "10", "--out", str(folder)) == 1
    assert "another study" in capsys.readouterr().err


def test_dry_run_does_nothing(tmp_path, capsys):
    assert gradnoise(*SMOKE, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "8 = 2 settings x arms x 2 seeds" in out and "ms per replica" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "deep-mpl"), "did you mean 'deep-mlp'"),
        ((*SMOKE, "--arms", "noize"), "did you mean 'noise'"),
        ((*SMOKE, "--arms", "none"), "no comparison"),
        (("run", "deep-mlp", "--scale", "huge"), "allowed are"),
        ((*SMOKE, "--seeds", "0"), "give 1 or more"),
        ((*SMOKE, "--steps", "0"), "give 1 or more"),
        ((*SMOKE, "--chunk", "-1"), "give 1 or more"),
        (("run", "deep-mlp", "--data", "cifar"), "cifar"),
        (("report", "nowhere"), "holds no study"),
        (("claims", "--results", "nowhere"), "is no folder"),
    ],
)
def test_bad_input_gets_one_clear_error(arguments, message, tmp_path, capsys):
    assert gradnoise(*arguments) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert gradnoise(*SMOKE, "--out", str(tmp_path / "file" / "study")) == 1
    assert "file" in capsys.readouterr().err


def test_list_names_systems_and_claims(capsys):
    assert gradnoise("list") == 0
    out = capsys.readouterr().out
    assert "deep-mlp" in out and all(f"C{i}" in out for i in range(1, 9))


def test_claims_shows_all_with_or_without_results(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert gradnoise("claims", "--results", str(tmp_path / "empty")) == 0
    every = [claim for system in SYSTEMS.values() for claim in system.claims]
    assert capsys.readouterr().out.count("not run") == len(every)

    folder = tmp_path / "ours" / "deep_mlp"
    folder.mkdir(parents=True)
    header = "id,row,statement,source,status,reason,published_mean,our_mean,published_best,our_best"
    (folder / "claims.csv").write_text(f"{header}\nC1,1,s,t,reproduced,because,43.1 → 52.7,11.4 → 54.1,a,b\n", "utf-8")
    assert gradnoise("claims", "--results", str(tmp_path / "ours")) == 0
    out = capsys.readouterr().out
    assert "11.4 → 54.1" in out and "reproduced" in out and out.count("not run") == len(every) - 1


def test_doctor_names_versions_and_backend(capsys):
    assert gradnoise("doctor") == 0
    out = capsys.readouterr().out
    assert "torch" in out and "noise backend" in out and "digits" in out


def test_ctrl_c_leaves_a_study_that_goes_on(tmp_path):
    command = [sys.executable, "-m", "gradnoise", *SMOKE, "--steps", "100000", "--workers", "1"]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job inherits "ignore"
    )
    folder = tmp_path / "runs/deep-mlp-smoke"
    deadline = time.monotonic() + 120
    while planned(folder) < 8 and time.monotonic() < deadline:
        time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 130
    assert "Go on with:" in out and "--steps 100000" in out
    assert planned(folder) == 8


def planned(folder: Path) -> int:
    """Trials in the store of a study, 0 before there is one."""
    try:
        with Store(folder, readonly=True) as store:
            return sum(store.counts().values())
    except StudyError:
        return 0
