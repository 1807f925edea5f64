"""Code and configuration that change while a study runs, or between its sessions, are found; what runs write is not."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.commandline import gradnoise
from support.comparing import outcomes, results, said

#: A script without torch; `MORE` is what it loads, writes and changes besides.
SCRIPT = """
import json, os, random, subprocess, sys
seed, arm, folder = int(sys.argv[1]), os.environ["GRADNOISE_ARM"], os.environ["GRADNOISE_DIR"]
bonus = 0.0

def edit(path, text):  # as somebody in another window does
    subprocess.run(["sh", "-c", f"sleep 0.05; printf '%s' '{text}' >> {path}"], check=True)

MORE
print(json.dumps({"accuracy": random.Random(seed).random() + bonus}))
"""
FOLDER = Path("runs/compare-train")


def compare(*more: str, seeds: int = 3, arm: str = "more=--more", options: tuple[str, ...] = ()) -> int:
    words = (sys.executable, "train.py", "{seed}", *more)
    given = ("--arms", "none", "--arm", arm, "--seeds", str(seeds), "--metric", "accuracy:max", "--blind", *options)
    return gradnoise("compare", *given, "--", *words)


def train(more: str) -> None:
    Path("train.py").write_text(SCRIPT.replace("MORE", more))


AT_SEED_1 = "if seed == 1 and arm == 'none' and not os.path.exists('{0}.done'):\n"
AT_SEED_1 += "    edit('{0}', '{1}'); open('{0}.done', 'w').close()\n"


@pytest.mark.parametrize(
    ("more", "edited", "text"),
    [
        ("", "train.py", "#"),
        ("import helper\n", "helper.py", "#"),
        ("from pack.inner import x\n", "pack/inner.py", "#"),
        ("bonus = json.load(open('conf/base.json'))['bonus']\n", "conf/base.json", " "),
        ("import pathlib; pathlib.Path('conf/base.yaml').read_text()\n", "conf/base.yaml", "#"),
    ],
)
def test_a_file_that_changes_during_a_run_stops_the_study(tmp_path, capsys, more, edited, text):
    for path in ("pack", "conf"):
        Path(path).mkdir()
    Path("helper.py").write_text("x = 1\n")
    Path("pack/__init__.py").touch()
    Path("pack/inner.py").write_text("x = 1\n")
    Path("conf/base.json").write_text('{"bonus": 1}')
    Path("conf/base.yaml").write_text("bonus: 1\n")
    train(more + AT_SEED_1.format(edited, text))
    assert compare() == 1
    assert f"{edited} was changed while the study runs, and the run of arm 'none' and seed 1" in said(capsys)
    assert set(outcomes(FOLDER)) == {"seed-0-none", "seed-0-more"}
    assert compare() == 1
    assert "is not that of this folder" in said(capsys)
    assert compare(options=("--accept-changed-code",)) == 0
    said(capsys)
    assert any("changed and that was accepted" in note for note in results(FOLDER).record.notes)
    assert compare(seeds=4) == 0, "the code that was accepted is known"


def test_a_file_that_changes_between_runs_stops_the_study(tmp_path, capsys):
    Path("helper.py").write_text("x = 1\n")
    train("import helper, time\ntime.sleep(0.2)\n")

    def edit():
        while not list(FOLDER.glob("runs/seed-0-more*/outcome.json")):
            time.sleep(0.02)
        Path("helper.py").write_text("x = 2\n")

    threading.Thread(target=edit, daemon=True).start()
    assert compare() == 1
    assert "helper.py was changed while the study runs" in said(capsys)


@pytest.mark.parametrize("how", ["--config=base.json", "arm", "@base.json", "opened", "helper.py"])
def test_a_file_that_changes_between_sessions_is_another_study(tmp_path, capsys, how):
    Path("base.json").write_text("{}")
    Path("helper.py").write_text("x = 1\n")
    train("json.load(open('base.json'))\n" if how == "opened" else "import helper\n" * (how == "helper.py"))
    more, arm = ((how,) if how[0] in "-@" else ()), f"wide=--config {'base.json' if how == 'arm' else 'x'}"
    assert compare(*more, arm=arm) == 0
    changed = "helper.py" if how == "helper.py" else "base.json"
    before = Path(changed).read_text()
    Path(changed).write_text(before + "\n")
    assert compare(*more, arm=arm, seeds=4) == 1
    assert f"{changed} was changed since its runs" in said(capsys)
    Path(changed).write_text(before)
    assert compare(*more, arm=arm, seeds=4) == 0


def test_an_untracked_helper_in_a_repository_is_code_too_and_a_commit_alone_is_no_change(tmp_path, capsys):
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True)

    Path("helper.py").write_text("x = 1\n")
    train("import helper\nif seed == 1:\n    edit('notes.md', 'text'); edit('other.py', '#')\n")
    git("init", "-q")
    git("add", "train.py")
    git("commit", "-qm", "first")
    assert compare() == 0
    Path("helper.py").write_text("x = 2\n")
    assert compare(seeds=4) == 1
    assert "helper.py was changed since its runs" in said(capsys)


WRITES = """
import pathlib, os
with open("train.log", "a") as file: file.write(f"{seed}")
with open("results.csv", "a") as file: file.write(f"{seed}")
past = json.load(open("results.json")) if os.path.exists("results.json") else []
with open("results.json.new", "w") as file: json.dump(past + [seed], file)
os.replace("results.json.new", "results.json")
pathlib.Path("config.yaml").write_text(f"seed: {seed}"); pathlib.Path("config.yaml").read_text()
pathlib.Path("made.py").write_text(f"x = {seed}"); import made
os.makedirs(f"wandb/run-{seed}", exist_ok=True); pathlib.Path(f"wandb/run-{seed}/config.yaml").write_text(str(seed))
if not os.path.exists("cache.json"): pathlib.Path("cache.json").write_text("{}")
json.load(open("cache.json"))
if seed == 2: pathlib.Path("cache.json").write_text("{ }")
with open(folder + "/config.json", "w") as file: file.write("{}")
json.load(open(folder + "/config.json"))
pathlib.Path("data.json").touch(); open("checkpoint.pt", "wb").write(os.urandom(9))
import helper
"""


def test_what_runs_write_themselves_is_no_changed_code(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    Path("helper.py").write_text("x = 1\n")
    Path("config.yaml").write_text("of a run by hand")
    train(WRITES)
    words = ("--out=results.json", "--state", "cache.json", "--log", "train.log")
    assert compare(*words) == 0, said(capsys)
    assert os.path.isdir("__pycache__")
    assert compare(*words, seeds=4, options=("--jobs", "2")) == 0, said(capsys)
    kept = json.loads((FOLDER / "runs/files.json").read_text())
    assert {path for path, old in kept["files"].items() if old} == {"train.py", "helper.py"}


def test_a_folder_of_before_goes_on_and_an_unfinished_first_pair_is_no_study(tmp_path, capsys):
    Path("helper.py").write_text("x = 1\n")
    train("import helper\n")
    assert compare() == 0
    (FOLDER / "runs/files.json").unlink()
    assert compare(seeds=4) == 0
    train("import helper\nassert arm == 'none' or helper.x == 2\n")
    assert compare(options=("--out", "again")) == 1
    Path("helper.py").write_text("x = 2\n")
    assert compare(options=("--out", "again")) == 0, said(capsys)
    assert {o["code"].count(".") for o in outcomes(Path("again")).values()} == {1}, "no pair of old and new code"


def test_a_program_without_the_hook_is_known_by_what_its_command_names(tmp_path, capsys):
    Path("train.sh").write_text('echo "$1" > out.json\necho "{\\"accuracy\\": 0.$1$3}"\n')
    words = ("bash", "train.sh", "{seed}", "--out=out.json")
    given = ("--arms", "none", "--arm", "more=1", "--seeds", "3", "--metric", "accuracy:max", "--blind")
    Path("out.json").write_text("of a run by hand")
    assert gradnoise("compare", *given, "--", *words) == 0
    with open("train.sh", "a") as file:
        file.write('[ "$1" = 4 ] && (echo "# edited" >> train.sh)\ntrue\n')
    given = (*given[:5], "6", *given[6:])
    assert gradnoise("compare", *given, "--out", "edited", "--", *words) == 1
    assert "train.sh was changed while the study runs, and the run of arm 'none' and seed 4" in said(capsys)


@pytest.mark.parametrize("more", [(), ("--config=now.json",)])
def test_a_configuration_that_a_shell_writes_for_each_run_is_no_changed_code(tmp_path, capsys, more):
    train("json.load(open('now.json'))\n")
    Path("now.json").write_text("of a run by hand")
    Path("train.sh").write_text(f'echo "[$1]" > now.json\nsleep 0.05\n{sys.executable} train.py "$@"\n')
    given = ("--arms", "none", "--arm", "more=--more", "--seeds", "3", "--metric", "accuracy:max", "--blind")
    assert gradnoise("compare", *given, "--", "bash", "train.sh", "{seed}", *more) == 0, said(capsys)


@pytest.mark.parametrize("hook", [True, False])
def test_a_named_configuration_that_changes_during_a_later_run_stops_the_study(tmp_path, capsys, hook):
    Path("now.json").write_text("{}")
    train("json.load(open('now.json'))\n" + AT_SEED_1.format("now.json", " "))
    words = (sys.executable, *(() if hook else ("-S",)), "train.py", "{seed}", "--config=now.json")
    given = ("--arms", "none", "--arm", "more=--more", "--seeds", "3", "--metric", "accuracy:max", "--blind")
    assert gradnoise("compare", *given, "--", *words) == 1
    assert "now.json was changed while the study runs, and the run of arm 'none' and seed 1" in said(capsys)
