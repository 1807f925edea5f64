"""What trains is behind three contracts: an engine that knows no torch runs, resumes and is told apart."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.small import STEPS, Toy, assert_same, small

from gradnoise.study import Arm, Options, Setting, Study, StudyError, dry_run, run_study
from gradnoise.study.engine import Engine, Job, Keep, Measurement, SliceResult
from gradnoise.study.run.population_engine import PopulationEngine
from gradnoise.study.run.resolve import engine_of

OPTIONS = Options(chunk=4, slice_seconds=0.0)


@dataclass(frozen=True)
class Falling:
    """Trains nothing: a loss that falls with every update, faster with a larger `speed`."""

    name: str = "falling"
    fingerprint: str = "1"
    data_title: str = "no data"
    stand_in: bool = False

    def keys(self) -> frozenset[str]:
        return frozenset({"speed"})

    def check(self, seed: int, config: Mapping[str, Any]) -> None:
        if config["speed"] <= 0:
            raise StudyError(f"speed = {config['speed']}: a speed is > 0")

    def group(self, config: Mapping[str, Any]) -> int:
        return config["steps"]

    def local_workers(self) -> int:
        return 1

    def worker(self, keep: Keep) -> "Faller":
        return Faller(keep)


class Faller:
    def __init__(self, keep: Keep) -> None:
        self.keep = keep

    def measure(self, job: Job, whole: bool) -> Measurement:
        return Measurement(len(job.trials), 1e-6, 1000)

    def advance(self, job: Job, step: int, seconds: float) -> SliceResult:
        kept = self.keep.latest(job.chunk, step)
        losses = dict(kept.state["losses"]) if kept.state else {t.id: 8.0 + t.seed for t in job.trials}
        for trial in job.trials:
            for _ in range(job.config["eval_every"]):
                losses[trial.id] /= 1 + trial.config["speed"]
        step += job.config["eval_every"]
        done = step >= job.steps
        if not done:
            self.keep.save(job.chunk, step, {"losses": losses})
        rows = [(id, name, step, loss) for id, loss in losses.items() for name in ("error", "train_loss")]
        final = {id: {"error": loss} for id, loss in losses.items()} if done else {}
        return SliceResult(job.chunk, step, done, rows, {}, final, 0.0, events=kept.losses)


def study(**changes: Any) -> Study:
    arms = (Arm("slow"), Arm("fast", {"speed": 0.2}))
    return small(Falling(), **({"arms": arms, "base": {"speed": 0.1}, "settings": (Setting("a", "A"),)} | changes))


def test_your_own_engine(tmp_path):
    assert isinstance(Falling(), Engine) and not isinstance(Toy(), Engine)
    results = run_study(study(), tmp_path / "a", options=OPTIONS)
    expected = [start / speed**STEPS for start in (8, 9) for speed in (1.1, 1.2)]
    assert [t.final["error"] for t in results.trials] == pytest.approx(expected)
    assert results.record.experiment == "falling@1"
    plan = dry_run(study(), tmp_path / "b", OPTIONS)
    assert (plan.workers, plan.bytes) == (1, 1000)
    assert_same(run_study(study(), tmp_path / "a", options=OPTIONS), results)
    with pytest.raises(StudyError, match="speed = -1: a speed is > 0"):
        run_study(study(base={"speed": -1}), tmp_path / "c", options=OPTIONS)
    with pytest.raises(StudyError, match=r"base sets 'sped', .* did you mean 'speed'"):
        study(base={"sped": 1})


def test_an_engine_decides_itself_where_it_trains(tmp_path):
    for options in (Options(device="cuda"), Options(compile=True)):
        with pytest.raises(StudyError, match="falling is an engine and decides itself where and how it trains"):
            run_study(study(), tmp_path / "study", options=options)
    assert not (tmp_path / "study").exists()


def test_an_experiment_trains_in_populations(tmp_path):
    engine = engine_of(Toy(), Options(device="cuda"))
    assert isinstance(engine, PopulationEngine) and engine.device == "cuda" and engine.local_workers
    made = run_study(small(PopulationEngine(Toy())), tmp_path / "a", options=OPTIONS)
    assert_same(made, run_study(small(), tmp_path / "b", options=OPTIONS))


def test_what_is_neither():
    with pytest.raises(StudyError, match="a study trains an Experiment or an Engine, not a str"):
        engine_of("an experiment", Options())  # type: ignore[arg-type]


WITHOUT_TORCH = """
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "numba"):
            raise ImportError(name + " is not needed here")

sys.meta_path.insert(0, Block())
for name in ("description", "spec", "canonical", "codec", "store", "results", "engine", "provenance", "analysis",
             "report", "run.options", "run.planning", "run.resolve", "run.folder", "run.inert", "run.executors"):
    importlib.import_module("gradnoise.study." + name)

from pathlib import Path
from gradnoise.study import Store
from gradnoise.study.analysis import summarise
with Store(Path(sys.argv[1]), readonly=True) as store:
    print(len(summarise(store.results()).record.arms))
"""


def test_what_describes_stores_and_reports_needs_no_torch(tmp_path):
    run_study(small(), tmp_path, options=OPTIONS)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, tmp_path], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0 and done.stdout == "2\n", done.stderr
