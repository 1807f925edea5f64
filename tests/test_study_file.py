"""A study of the user's own from a file: run, resumed and reported on the command line, with clear errors."""

import json
import sys

import pandas
import pytest
from support.commandline import gradnoise

from gradnoise.commands.study_file import StudyFile, Wish
from gradnoise.errors import StudyError
from gradnoise.study import Store

EXPERIMENT = """
import torch
from torch import nn
from gradnoise import Annealed
from gradnoise.population import Experiment, derive_seed
from gradnoise.study import Arm, Metric, Setting, Study

class Line(Experiment):
    name = "line"
    def model(self, config):
        return nn.Linear(3, 1)
    def batch(self, seed, t, config):
        return torch.randn(8, 3, generator=torch.Generator().manual_seed(derive_seed(seed, t, "x")))
    def loss(self, model, batch, config):
        return ((model(batch) - batch.sum(1, keepdim=True)) ** 2).mean()
    def evaluate(self, model, held_out, config):
        return {"off": (model.weight - 1).abs().mean()}

def asked(**own):
    return Study(**{**dict(name="line", title="A line", experiment=Line(), base={"lr": 0.05},
                 arms=(Arm("none"), Arm("noise", {"noise": Annealed(0.1)}), Arm("more", {"noise": Annealed(1.0)})),
                 settings=(Setting("a", "Row a"), Setting("b", "Row b", {"lr": 0.1}, steps=8, eval_every=2)),
                 metric=Metric("off", "distance", higher_is_better=False), seeds=(0, 1), steps=6, eval_every=3), **own})
"""
ONE = EXPERIMENT + "study = asked()\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder; forget the modules that files became."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def written(text, name="mine.py"):
    with open(name, "w") as file:
        file.write(text)
    return name


def test_a_file_runs_to_its_report_and_is_resumed_with_its_name(tmp_path, capsys):
    file, folder = written(ONE), tmp_path / "runs/line"
    assert gradnoise("run", file) == 0
    assert (folder / "report.html").exists() and "Row b" in capsys.readouterr().out
    before = pandas.read_csv(folder / "trials.csv").set_index("id")
    assert len(before) == 12
    with Store(folder) as store, store.db:  # as a killed process leaves it
        store.db.execute("UPDATE trials SET status = 'pending', step = 0, final = '{}'")
        store.db.execute("UPDATE chunks SET step = 0, done = 0")
        store.db.execute("DELETE FROM metrics")
    assert gradnoise("resume", "runs/line") == 1
    assert "gradnoise resume runs/line mine.py`" in " ".join(capsys.readouterr().err.split())
    assert gradnoise("resume", "runs/line", "other.py") == 1
    assert "no file other.py" in capsys.readouterr().err
    assert gradnoise("resume", "runs/line", file) == 0
    after = pandas.read_csv(folder / "trials.csv").set_index("id")
    assert after.loc[before.index, "final"].tolist() == before["final"].tolist()
    assert gradnoise("report", "runs/line") == 0


def test_every_option_of_run_reaches_the_study(tmp_path, capsys):
    words = ("--seeds", "3", "--rows", "b", "--arms", "noise", "--steps", "4", "--eval-every", "2", "--out", "there")
    assert gradnoise("run", written(ONE), *words, "--dry-run") == 0
    assert "6 = 2 arms x 3 seeds, 4 updates" in capsys.readouterr().out
    assert not (tmp_path / "there").exists()
    assert gradnoise("run", "mine.py", *words, "--workers", "2") == 0
    trials = pandas.read_csv(tmp_path / "there/trials.csv")
    assert set(trials["arm"]) == {"none", "noise"} and set(trials["seed"]) == {0, 1, 2} and set(trials["row"]) == {"b"}
    said = json.loads((tmp_path / "there/study.json").read_text())["deviations"]
    assert said == ["4 updates a run instead of 8."]
    assert gradnoise("resume", "there", "mine.py") == 0


def test_worker_processes_train_what_the_file_said_when_it_was_loaded(tmp_path):
    written("FACTOR = 1.0\n", "neighbour.py")
    study = StudyFile.named(written("from neighbour import FACTOR\n" + ONE)).load()  # type: ignore[union-attr]
    from gradnoise.study import Options, run_study

    here = run_study(study, tmp_path / "here", options=Options(chunk=4), executor="here")
    written("raise RuntimeError('this is not to be read again')\n")
    there = run_study(study, tmp_path / "there", options=Options(workers=2, chunk=4), executor="processes")
    assert [t.final for t in here.trials] == [t.final for t in there.trials]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "mine.py", "mine.py has no study: write `study = Study(...)` at the top level"),
        (EXPERIMENT, "mine.py", "mine.py has no study"),
        (EXPERIMENT + "a = asked()\nb = asked()\n", "mine.py", "choose one of mine.py:a, mine.py:b"),
        (EXPERIMENT + "first = asked()\n", "mine.py:frist", "has no 'frist': there are first; did you mean 'first'?"),
        (EXPERIMENT + "first = 3\n", "mine.py:first", "'first' in mine.py is no study, but of type int"),
        ("x = 1\n\nx / 0\n", "mine.py", "mine.py, line 3: ZeroDivisionError: division by zero"),
        ("def f(:\n", "mine.py", "mine.py, line 1: invalid syntax"),
        ("import no_such_package_here\n", "mine.py", "line 1: ModuleNotFoundError: No module named 'no_such"),
        ("import sys\nsys.exit(3)\n", "mine.py", "ended the program while it was loaded"),
        (EXPERIMENT + "study = asked(arms=(Arm('none'),))\n", "mine.py", "a comparison needs two or more"),
        (EXPERIMENT + "study = asked(base={'lrr': 1})\n", "mine.py", "did you mean 'lr'?"),
        (ONE + "from gradnoise.study import run_study\nrun_study(study, 'x')\n", "mine.py", "while it is loaded; put"),
        (
            ONE.replace("return ((model", "raise KeyError('k')\n        return ((model"),
            "mine.py",
            "in loss: KeyError: 'k'",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_sentence(text, name, message, tmp_path, capsys):
    written(text)
    assert gradnoise("run", name) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mnie.py",), "no file mnie.py; did you mean 'mine.py'?"),
        (("nowhere/mine.py",), "no file nowhere/mine.py"),
        (("random.py",), "would hide the module 'random'"),
        (("mine.py", "--scale", "smoke"), "--scale is for the paper's systems"),
        (("mine.py", "--data", "mnist"), "--data is for the paper's systems"),
        (("mine.py", "--seeds", "0"), "--seeds 0: give 1 or more"),
        (("mine.py", "--eval-every", "9"), "need 1 <= eval_every <= steps"),
        (("mine.py", "--arms", "nois"), "did you mean 'noise'?"),
        (("mine.py", "--rows", "c"), "rows are a, b"),
    ],
)
def test_a_bad_command_is_answered(words, message, capsys):
    written(ONE)
    written("", "random.py")
    assert gradnoise("run", *words) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("error: ") and message in error


def test_a_function_may_return_the_study_and_ids_do_not_depend_on_the_way():
    written(EXPERIMENT + "def build():\n    return asked(seeds=(4, 7))\nstudy = asked(seeds=(4, 7))\n")
    ids = [[t.id for t in StudyFile.named(f"mine.py:{name}").load().trials()] for name in ("build", "study")]  # type: ignore[union-attr]
    assert ids[0] == ids[1]


def test_more_seeds_follow_the_studys_own():
    source = StudyFile.named(written(EXPERIMENT + "study = asked(seeds=(4, 7))\n"))
    assert source is not None
    study = source.load()
    assert Wish(seeds=1).of(study, source).seeds == (4,)
    assert Wish(seeds=4).of(study, source).seeds == (4, 7, 8, 9)
    assert Wish().of(study, source).trials() is not study.trials()
    assert [t.id for t in Wish().of(study, source).trials()] == [t.id for t in study.trials()]


def test_new_writes_a_file_that_runs_as_it_is(tmp_path, capsys):
    assert gradnoise("new", "deep-net") == 0
    assert "gradnoise run deep_net.py --dry-run" in capsys.readouterr().out
    assert gradnoise("run", "deep_net.py", "--seeds", "2", "--steps", "4", "--eval-every", "2") == 0
    assert (tmp_path / "runs/deep-net/report.html").exists()
    text = (tmp_path / "deep_net.py").read_text()
    assert "class DeepNet(Experiment)" in text and "my_model" not in text and "MyModel" not in text

    # what is there is kept, and what is no name is refused
    assert gradnoise("new", "deep_net.py") == 1
    assert "is there already" in capsys.readouterr().err
    assert gradnoise("new", "2 nets") == 1
    assert "give a name of letters, digits and _" in " ".join(capsys.readouterr().err.split())


def test_a_store_never_decides_what_is_run(tmp_path):
    written(ONE)
    assert gradnoise("run", "mine.py", "--seeds", "1") == 0
    written("raise SystemExit('was run')\n")
    assert gradnoise("resume", "runs/line") == 1  # asks for the file
    assert gradnoise("report", "runs/line") == 0
    with pytest.raises(StudyError, match="ended the program"):
        StudyFile.named("mine.py").load()  # type: ignore[union-attr]
