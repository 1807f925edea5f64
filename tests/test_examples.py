"""The examples run as they stand in the repository, shortened."""

import re
import runpy
from pathlib import Path

import pytest

from gradnoise.cli import main
from gradnoise.study import Study

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_own_model_becomes_a_paired_study(tmp_path, monkeypatch, capsys):
    shortened = {"seeds": (0, 1), "steps": 6, "eval_every": 3}
    original = Study.__init__

    def short(self, *args, **values):
        original(self, *args, **{**values, **shortened})

    monkeypatch.setattr(Study, "__init__", short)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "own_model.py"), run_name="__main__")
    assert (tmp_path / "runs/my-study/report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "no noise" in capsys.readouterr().out


def test_the_tutorial_s_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = (EXAMPLES / "plateau.py").read_text(encoding="utf-8")
    for long, short in (
        ("STEPS = 1500", "STEPS = 6"),
        ("LAYERS, UNITS, CLIP = 12, 32", "LAYERS, UNITS, CLIP = 2, 8"),
        ("DOSES = (1, 3, 10, 30, 100)", "DOSES = (1, 1000)"),
        ("range(100, 108)", "range(100, 102)"),
    ):
        assert long in source
        source = source.replace(long, short)
    Path("plateau.py").write_text(source, encoding="utf-8")
    for command in ("train", "find"):
        monkeypatch.setattr("sys.argv", ["plateau.py", command])
        runpy.run_path("plateau.py", run_name="__main__")
    out = capsys.readouterr().out
    assert out.startswith("test accuracy of four runs: ") and "A pilot of 6 seeds" in out
    assert "<svg" in Path("dose.svg").read_text(encoding="utf-8")
    main(["run", "plateau.py:study"])
    assert Path("runs/plateau/report.html").is_file()


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")  # Lightning calls torch so
@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
@pytest.mark.parametrize(
    ("example", "package", "updates"),
    [
        ("lightning_mlp.py", "lightning", 240),
        ("transformers_tiny.py", "transformers", 60),
        ("accelerate_mlp.py", "accelerate", 160),
    ],
)
def test_integrations_train_and_tell_that_the_noise_is_on(example, package, updates, tmp_path, monkeypatch, capsys):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'gradnoise[{package}]'")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    out = capsys.readouterr().out
    assert f"updates with noise: {updates}\n" in out
    first, last = (float(x) for x in re.findall(r"sigma: ([\d.]+) .* ([\d.]+) in the last", out)[0])
    assert first > last > 0
    first, last = (float(x) for x in re.findall(r"loss: ([\d.]+) .* ([\d.]+) ", out)[0])
    assert last < first / 2
    assert list(tmp_path.iterdir()) == []
