"""The examples run as they stand in the repository, shortened."""

import runpy
from pathlib import Path

from gradnoise.population import check_experiment
from gradnoise.study import Options, Study, run_study

EXAMPLES = Path(__file__).parents[1] / "examples"


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


def test_own_model_learns(tmp_path):
    own = runpy.run_path(str(EXAMPLES / "own_model.py"), run_name="example")
    experiment = own["MyExperiment"]()
    check_experiment(experiment)
    study = Study(
        name="learns",
        title="",
        experiment=experiment,
        arms=(own["Arm"]("none"), own["Arm"]("noise", {"noise": own["Annealed"](0.001)})),
        metric=own["Metric"]("accuracy", "accuracy"),
        base={"lr": 0.1, "clip": 10.0},
        seeds=(0,),
        steps=200,
        eval_every=200,
    )
    results = run_study(study, tmp_path, options=Options(workers=1))
    assert min(t.final["accuracy"] for t in results.trials) > 40  # chance is 10
