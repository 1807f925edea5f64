"""The examples run as they stand in the repository, shortened."""

import runpy
from pathlib import Path

import pytest

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
