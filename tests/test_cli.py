"""The command line from end to end, on the embedded digits at smoke scale."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
from support.commandline import gradnoise
from support.small import small

from gradnoise import __version__
from gradnoise.paper import SYSTEMS, load_system
from gradnoise.paper.ledger import STATEMENTS
from gradnoise.study import Store, StudyError, run_study


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
        (("run", "deep-mlp", "--scale", "huge"), "scales are smoke, quick, paper"),
        (("run", "deep-mlp", "--scale", "smok"), "did you mean 'smoke'"),
        (("run", "nram/ablation"), "did you mean 'ablations'"),
        (("run", "nram/size-m", "--scale", "quick"), "scales are paper"),
        (("list", "nran"), "did you mean 'nram'"),
        (("trace",), "did you mean 'gradnoise nram trace'"),
        (("answer", "--task", "2"), "did you mean 'gradnoise memn2n answer'"),
        (("repport",), "did you mean 'report'"),
        (("resume", "nowhere"), "holds no study"),
        ((*SMOKE, "--seeds", "0"), "give 1 or more"),
        ((*SMOKE, "--steps", "0"), "give 1 or more"),
        ((*SMOKE, "--chunk", "-1"), "give 1 or more"),
        ((*SMOKE, "--executor", "proceses"), "did you mean 'processes'"),
        ((*SMOKE, "--executor", "here", "--workers", "2"), "executor 'here' is one worker, not 2"),
        (("run", "deep-mlp", "--data", "cifar"), "has auto, mnist, fashion-mnist, digits"),
        (("run", "nram", "--data", "mnist"), "makes its data itself"),
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


def test_a_file_that_cannot_be_read_is_named(tmp_path, capsys):
    (tmp_path / "claims" / "deep_mlp" / "trials.csv").mkdir(parents=True)
    (tmp_path / "claims" / "deep_mlp" / "study.json").mkdir()
    assert gradnoise("claims", "--results", "claims") == 1
    assert "error: claims/deep_mlp/study.json is damaged: it is a folder, not a file" in capsys.readouterr().err


def test_an_error_of_the_system_without_a_file_is_not_hidden(monkeypatch):
    def broken(self, console):
        raise OSError("out of sockets")

    monkeypatch.setattr("gradnoise.commands.doctor.Doctor.__call__", broken)
    with pytest.raises(OSError, match="out of sockets"):
        gradnoise("doctor")


def test_list_names_systems_studies_and_claims(capsys):
    assert gradnoise("list") == 0
    out = capsys.readouterr().out
    for name in SYSTEMS:
        system = load_system(name)
        assert system.title in out and all(claim.id in out for claim in system.claims)
        assert all(f"{name}/{study}" in out for study in [*system.studies][1:])
        assert all(f"gradnoise {name} {command}" in out for command in system.commands)
    assert "epochs of a run" in out and "smoke|quick|paper" in out

    # the name of a system alone tells about it
    assert gradnoise("nram") == 0
    alone = capsys.readouterr().out
    assert alone.strip() in out and "deep-mlp" not in alone


def test_version(capsys):
    assert gradnoise("--version") == 0
    assert capsys.readouterr().out.strip() == f"gradnoise {__version__}"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("run", "--help"), ("resume", "--help"), ("report", "--help")])
def test_help_tells_every_default(arguments, capsys):
    assert gradnoise(*arguments) == 0
    out = capsys.readouterr().out
    assert "usage: gradnoise" in out and "(default: )" not in out and "None" not in out


def test_help_imports_no_system():
    # nor the drawing and statistics that a study needs
    code = "import sys; from gradnoise.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    heavy = ("gradnoise.paper.", "gradnoise.study", "matplotlib", "scipy")
    code += f"print([m for m in sys.modules if m.startswith({heavy})])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_a_system_is_imported_alone():
    code = "import sys; from gradnoise.paper import load_system; load_system('deep-mlp').study('smoke', 'digits')\n"
    code += "print([m for m in sys.modules if m.startswith(('gradnoise.paper.nram', 'gradnoise.paper.memory'))])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_resume_goes_on_from_the_folder_alone(tmp_path, capsys):
    assert gradnoise(*SMOKE, "--rows", "3", "--seeds", "1") == 0
    folder = tmp_path / "runs/deep-mlp-smoke"
    before = (folder / "trials.csv").read_bytes()
    assert len(pandas.read_csv(folder / "trials.csv")) == 2
    with Store(folder) as store, store.db:  # as a killed process leaves it
        store.db.execute("UPDATE trials SET status = 'pending', step = 0, final = '{}'")
        store.db.execute("UPDATE chunks SET step = 0, done = 0")
        store.db.execute("DELETE FROM metrics")
    assert gradnoise("resume", str(folder)) == 0
    assert (folder / "trials.csv").read_bytes() == before
    assert "Report: " in capsys.readouterr().out


def test_resume_finishes_what_every_command_left(tmp_path):
    """The last command asked for other rows than the first, and for fewer seeds."""
    for rows, seeds in (("3", "2"), ("6", "1")):
        assert gradnoise(*SMOKE, "--rows", rows, "--seeds", seeds, "--executor", "here") == 0
    folder = tmp_path / "runs/deep-mlp-smoke"
    before = pandas.read_csv(folder / "trials.csv").set_index("id")
    assert len(before) == 6
    with Store(folder) as store, store.db:
        record = store.record()
        store.db.execute("UPDATE trials SET status = 'pending', step = 0, final = '{}'")
        store.db.execute("UPDATE chunks SET step = 0, done = 0")
        store.db.execute("DELETE FROM metrics")
    assert gradnoise("resume", str(folder)) == 0
    after = pandas.read_csv(folder / "trials.csv").set_index("id")
    assert after.loc[before.index, "final"].tolist() == before["final"].tolist() and len(after) == len(before)
    with Store(folder, readonly=True) as store:
        assert (store.record().recipe, store.record().deviations) == (record.recipe, record.deviations)


def test_a_folder_of_a_users_own_study_has_a_report_but_no_recipe(tmp_path, capsys):
    run_study(small(), tmp_path / "own")
    assert gradnoise("report", "own") == 0
    assert gradnoise("resume", "own") == 1
    assert "holds no recipe of its study 'small'" in " ".join(capsys.readouterr().err.split())


def test_claims_shows_all_with_or_without_results(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert gradnoise("claims", "--results", "empty") == 0
    assert f"{len(STATEMENTS)} statements: {len(STATEMENTS)} not run." in capsys.readouterr().out
    assert gradnoise("claims", "--results", "empty", "--json") == 0
    assert [entry["id"] for entry in json.loads(capsys.readouterr().out)] == [s.id for s in STATEMENTS]
    assert gradnoise("claims", "--results", "empty", "--html", "page.html") == 0
    assert capsys.readouterr().out == "ledger: page.html\n"
    assert "The paper, statement by statement" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_report_from_the_tables_of_another_report(tmp_path, capsys):
    run_study(small(), tmp_path / "own")
    assert gradnoise("report", "own", "--out", "tables") == 0
    written = {p.name: p.read_bytes() for p in (tmp_path / "tables").iterdir() if p.is_file()}
    assert gradnoise("report", "tables") == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "tables").iterdir() if p.is_file()} == written
    assert gradnoise("report", "nowhere") == 1
    assert "nowhere holds no study" in " ".join(capsys.readouterr().err.split())


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
