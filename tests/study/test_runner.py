"""Running is resuming: the same command again goes on, a larger one adds, another one is refused."""

import dataclasses
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small import EVERY, OTHER_DATA, STEPS, Toy, assert_same, small

from gradnoise import Annealed, Fixed
from gradnoise.population import PopulationError
from gradnoise.study import (
    Arm,
    Claim,
    Metric,
    Observer,
    Options,
    Selection,
    Setting,
    Store,
    Study,
    StudyError,
    StudyRecord,
    StudyResults,
    dry_run,
    run_study,
)
from gradnoise.study.run import folder
from gradnoise.study.run.population_engine import PopulationEngine
from gradnoise.study.store import FILE, note_look

OPTIONS = Options(workers=1, chunk=4, slice_seconds=0.0)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> StudyResults:
    return run_study(small(), tmp_path_factory.mktemp("reference"), options=OPTIONS)


class Watch(Observer):
    """What a run plans and commits; stops it, as Ctrl-C would, after so many commits."""

    def __init__(self, stop_after: float = float("inf")) -> None:
        self.stop_after, self.commits, self.plan, self.steps = stop_after, [], None, []

    def planned(self, plan) -> None:
        self.plan = plan

    def progressed(self, progress) -> None:
        self.steps.append((progress.replica_steps, progress.total))
        if progress.result:
            self.commits.append(progress.result)
        if len(self.commits) >= self.stop_after:
            raise KeyboardInterrupt

    def run(self, study: Study, folder: Path, options: Options = OPTIONS) -> StudyResults:
        return run_study(study, folder, options=options, observer=self)


def run(study: Study, folder: Path, options: Options = OPTIONS) -> Watch:
    watch = Watch()
    watch.run(study, folder, options)
    return watch


def stored(folder: Path) -> StudyResults:
    with Store(folder, readonly=True) as store:
        return store.results()


# Resuming


def test_a_whole_run(tmp_path, reference):
    watch = Watch()
    assert_same(watch.run(small(), tmp_path), reference)
    assert_same(stored(tmp_path), reference)
    assert {t.status for t in reference.trials} == {"finished"} and len(reference.trials) == 8
    assert all(t.curves["error"].steps.tolist() == [3, 6, 9, 12] for t in reference.trials)
    assert all(t.final["error"] == t.curves["error"].values[-1] for t in reference.trials)
    total = 8 * STEPS
    assert watch.steps == [(4 * EVERY * i, total) for i in range(2 * STEPS // EVERY + 1)]
    assert not list((tmp_path / "checkpoints").iterdir())


def test_the_same_command_again_trains_nothing(tmp_path, reference, monkeypatch):
    run(small(), tmp_path)
    before = stored(tmp_path).record

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("there is nothing to build")

    monkeypatch.setattr(PopulationEngine, "build", refuse)
    monkeypatch.setattr(folder, "now", lambda: "another time")
    watch = run(small(), tmp_path)
    assert watch.plan.chunks == () and watch.plan.done == watch.plan.trials == 8 and not watch.commits
    assert_same(stored(tmp_path), reference)
    assert stored(tmp_path).record == before  # the report is the same, to its dates


def test_stopped_after_every_commit(tmp_path, reference):
    """Each run commits one slice and is interrupted."""
    stops = 0
    while True:
        try:
            Watch(stop_after=1).run(small(), tmp_path)
        except KeyboardInterrupt:
            stops += 1
        if set(t.status for t in stored(tmp_path).trials) == {"finished"}:
            break
    assert stops == 2 * STEPS // EVERY
    run(small(), tmp_path)
    assert_same(stored(tmp_path), reference)


def test_a_resumed_run_says_when_it_began(tmp_path, monkeypatch):
    monkeypatch.setattr("gradnoise.study.provenance.now", lambda: "Monday")
    with pytest.raises(KeyboardInterrupt):
        Watch(stop_after=2).run(small(), tmp_path)
    assert "finished" not in dict(stored(tmp_path).record.provenance)
    for name in ("gradnoise.study.provenance.now", "gradnoise.study.run.folder.now"):
        monkeypatch.setattr(name, lambda: "Tuesday")
    run_study(small(), tmp_path, options=OPTIONS, command="the same")
    facts = dict(stored(tmp_path).record.provenance)
    assert (facts["started"], facts["finished"], facts["command"]) == ("Monday", "Tuesday", "the same")
    assert facts["training time"].endswith("hours, summed over workers")


def test_the_device_that_trained_is_recorded(tmp_path, monkeypatch):
    """Not the one that the machine has; and all of them where a study went on elsewhere."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"a GPU, number {device.index}")
    assert PopulationEngine(Toy(), "cuda:1").hardware == "cuda:1, a GPU, number 1"
    with pytest.raises(KeyboardInterrupt):
        Watch(stop_after=2).run(small(), tmp_path)
    facts = dict(stored(tmp_path).record.provenance)
    assert facts["device"] == "cpu" and "gpu" not in facts
    monkeypatch.setattr(PopulationEngine, "hardware", "another processor")
    run(small(), tmp_path)
    assert dict(stored(tmp_path).record.provenance)["device"] == "cpu; another processor"


def test_what_a_folder_holds_is_finished_without_adding(tmp_path, reference):
    half = small(seeds=(0,)).with_rows(["a"])
    with pytest.raises(KeyboardInterrupt):
        Watch(stop_after=1).run(half, tmp_path)
    before = stored(tmp_path).record
    results = run_study(small(), tmp_path, options=OPTIONS, adds=False)
    assert [(t.row, t.seed, t.status) for t in results.trials] == 2 * [("a", 0, "finished")]
    assert replace(results.record, provenance=()) == replace(before, provenance=())
    assert_same(run_study(small(), tmp_path, options=OPTIONS), reference)


def test_an_unknown_executor_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(StudyError, match="did you mean 'processes'"):
        run_study(small(), tmp_path / "new", executor="proceses")
    with pytest.raises(StudyError, match="did you mean 'processes'"):
        dry_run(small(), tmp_path / "new", executor="proceses")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("executor", "workers", "expected"), [("here", None, 1), ("processes", 3, 3)])
def test_a_dry_run_plans_for_the_executor(tmp_path, executor, workers, expected):
    plan = dry_run(small(), tmp_path, replace(OPTIONS, workers=workers, chunk=1), executor)
    assert plan.workers == expected


def test_chunks_do_not_change_when_resumed_with_another_size(tmp_path, reference):
    with pytest.raises(KeyboardInterrupt):
        Watch(stop_after=3).run(small(), tmp_path)
    watch = run(small(), tmp_path, replace(OPTIONS, chunk=1))
    assert {len(job.trials) for job, _ in watch.plan.chunks} == {4}
    assert_same(stored(tmp_path), reference)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_chunks_change_nothing_beyond_rounding(tmp_path, reference, size):
    results = run_study(small(), tmp_path, options=replace(OPTIONS, chunk=size))
    for mine, theirs in zip(results.trials, reference.trials, strict=True):
        assert mine.id == theirs.id and mine.status == theirs.status
        assert mine.final == pytest.approx(theirs.final, rel=1e-4, abs=1e-6)


def test_shapes_that_cannot_train_together(tmp_path):
    settings = (Setting("a", "A", {"lr": 0.05}), Setting("b", "B", {"lr": 0.05, "width": 4}))
    watch = run(small(settings=settings), tmp_path, replace(OPTIONS, chunk=8))
    assert sorted(len(job.trials) for job, _ in watch.plan.chunks) == [4, 4]
    assert {t.status for t in stored(tmp_path).trials} == {"finished"}


# Asking for more, or less


def ids_of(commits) -> set[str]:
    return {row[0] for result in commits for row in result.rows}


def test_more_seeds_keep_what_is_finished(tmp_path, reference):
    run(small(), tmp_path)
    watch = run(small(seeds=(0, 1, 2)), tmp_path)
    old = {t.id for t in reference.trials}
    assert watch.plan.done == 8 and watch.plan.trials == 12 and not ids_of(watch.commits) & old
    results = stored(tmp_path)
    assert results.record.seeds == (0, 1, 2) and [t.seed for t in results.trials] == [0] * 4 + [1] * 4 + [2] * 4
    assert_same(dataclasses.replace(results, trials=results.trials[:8]), reference)
    assert_same(results, run_study(small(seeds=(0, 1, 2)), tmp_path / "at once", options=OPTIONS))


def test_fewer_seeds_then_more(tmp_path, reference):
    """The first command is stopped; a smaller one finishes its own trials; the first one the rest."""
    with pytest.raises(KeyboardInterrupt):
        Watch(stop_after=1).run(small(), tmp_path)
    watch = run(small(seeds=(1,)), tmp_path)
    assert watch.plan.trials == 4 and watch.plan.done == 0
    assert {t.seed: t.status for t in stored(tmp_path).trials} == {0: "running", 1: "finished"}
    watch = run(small(seeds=(1,)), tmp_path)
    assert watch.plan.done == 4 and not watch.commits
    watch = run(small(), tmp_path)
    assert watch.plan.done == 4 and [step for _, step in watch.plan.chunks] == [EVERY]
    assert_same(stored(tmp_path), reference)


def test_a_smaller_command_rewrites_neither_deviations_nor_recipe(tmp_path):
    for seeds, words in ((2, "Two seeds."), (1, "One seed."), (3, "Three seeds.")):
        run(small(seeds=tuple(range(seeds)), deviations=(words,), recipe={"seeds": seeds}), tmp_path)
        record = stored(tmp_path).record
        kept = {1: ("Two seeds.", 2)}.get(seeds, (words, seeds))
        assert (record.deviations, record.recipe) == ((kept[0],), {"seeds": kept[1]})


def test_more_arms_and_settings(tmp_path, reference):
    run(small(), tmp_path)
    arms = (*small().arms, Arm("fixed", {"noise": Fixed(0.1)}))
    settings = (*small().settings, Setting("c", "Row c", {"lr": 0.01}))
    watch = run(small(arms=arms, settings=settings), tmp_path)
    assert watch.plan.trials == 18 and watch.plan.done == 8
    results = stored(tmp_path)
    assert [a.name for a in results.record.arms] == ["none", "noise", "fixed"]
    assert [row for row, _ in results.record.rows] == ["a", "b", "c"]
    kept = tuple(t for t in results.trials if t.id in {r.id for r in reference.trials})
    assert_same(dataclasses.replace(results, trials=kept), reference)
    # the first command again: what the second one added stays in the folder and in the report
    run(small(), tmp_path)
    record = stored(tmp_path).record
    assert [a.name for a in record.arms] == ["none", "noise", "fixed"] and len(record.rows) == 3
    assert len(stored(tmp_path).trials) == 18


def test_new_names_for_the_same_trials(tmp_path, reference):
    run(small(), tmp_path)
    arms = (Arm("control", title="Control"), Arm("treated", {"noise": Annealed(0.01)}))
    settings = tuple(dataclasses.replace(s, row=s.row.upper(), title=f"New {s.row}") for s in small().settings)
    watch = run(small(arms=arms, settings=settings, title="A new title"), tmp_path)
    assert not watch.commits
    results = stored(tmp_path)
    assert results.record.title == "A new title"
    assert [a.label for a in results.record.arms] == ["Control", "treated"]
    assert results.record.rows == (("A", "New a"), ("B", "New b"))
    assert {t.arm for t in results.trials} == {"control", "treated"}
    assert [t.final for t in results.trials] == [t.final for t in reference.trials]


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "other"}, "another study: its name is 'small', this one's is 'other'; .*--out"),
        ({"scale": "paper"}, "its scale is 'custom', this one's is 'paper'"),
        ({"steps": 24}, "its steps is 12, this one's is 24"),
        ({"seed": 1}, "its study_seed is 0, this one's is 1"),
        ({"experiment": Toy(data=OTHER_DATA)}, "its experiment is 'toy@f00d', this one's is 'toy@beef'"),
        (
            {"base": {"clip": 2.0}},
            r"other values: in row 'a' \(lr=0.05\), arm 'none', its clip is 1.0, this one's is 2.0",
        ),
        ({"eval_every": 4}, "its eval_every is 3, this one's is 4"),
        (
            {"arms": (Arm("none"), Arm("noise", {"noise": Annealed(1.0)}))},
            r"arm 'noise', its noise is Annealed\(eta=0.01",
        ),
    ],
    ids=["name", "scale", "steps", "seed", "experiment", "base", "eval_every", "arm"],
)
def test_a_folder_of_another_study(half_done, changes, message):
    before = contents(half_done)
    for ask in (run, lambda study, folder: dry_run(study, folder, OPTIONS)):
        with pytest.raises(StudyError, match=message):
            ask(small(**changes), half_done)
    assert contents(half_done) == before


@pytest.fixture(scope="module")
def half_done(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("half")
    with pytest.raises(KeyboardInterrupt):
        Watch(stop_after=2).run(small(), folder)
    return folder


def contents(folder: Path) -> list[str]:
    with Store(folder, readonly=True) as store:
        return list(store.db.iterdump())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": (Arm("none"), Arm("zero", {"clip": 1.0}))}, "arms 'none' and 'zero' .* train the same configuration"),
        (
            {"settings": (Setting("a", "A", {"lr": 0.1}, name="x"), Setting("b", "B", {"lr": 0.1}, name="y"))},
            r"\(rows 'a', 'b'\) train the same configuration 'y'; remove one of them",
        ),
    ],
)
def test_the_same_configuration_twice(tmp_path, changes, message):
    with pytest.raises(StudyError, match=message):
        run(small(**changes), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def assert_nothing_written(folder: Path) -> None:
    """There is a file, but no study in it: any study may be run there."""
    with pytest.raises(StudyError, match="never started"):
        stored(folder)
    assert not (folder / "checkpoints").exists()


class BadLoss(Toy):
    def loss(self, model, batch, config):
        x, y = batch
        return (model(x).squeeze(-1) - y).square()


class BadMetric(Toy):
    def evaluate(self, model, held_out, config):
        return {"error": torch.zeros(3)}


def settings_with(**values: Any) -> tuple[Setting, ...]:
    return (Setting("a", "A", {"lr": 0.05}), Setting("b", "B", {"lr": 0.05} | values))


@pytest.mark.parametrize(
    ("study", "options", "error", "message"),
    [
        (lambda: small(settings=settings_with(lr=-1.0)), OPTIONS, PopulationError, "lr = -1.0: a learning rate is"),
        (lambda: small(settings=settings_with(clip=0.0)), OPTIONS, PopulationError, "clip = 0.0: a threshold is > 0"),
        (lambda: small(settings=settings_with(noise=0.1)), OPTIONS, PopulationError, "noise = 0.1: a schedule is a"),
        (lambda: small(settings=settings_with(noise=lambda t: 0.1)), OPTIONS, StudyError, "a function by its name"),
        (small, Options(device="cuda:9"), StudyError, r"device 'cuda:9' cannot be used here \(.*\); use --device cpu"),
        (small, Options(device="gpu"), StudyError, "device 'gpu' cannot be used here"),
    ],
    ids=["lr", "clip", "noise", "lambda", "cuda", "device"],
)
def test_no_folder_is_made_before_all_values_are_right(
    tmp_path, study: Callable[[], Study], options: Options, error: type[Exception], message: str
):
    """A value out of range in the last setting, too, is told of at once and not after hours."""
    with pytest.raises(error, match=message):
        run(study(), tmp_path / "study", options)
    assert not (tmp_path / "study").exists()


def test_a_loss_of_the_wrong_shape_leaves_the_folder_to_another_study(tmp_path):
    with pytest.raises(PopulationError, match=r"toy.loss returned shape \(5,\); a loss is a scalar"):
        run(small(BadLoss()), tmp_path)
    assert_nothing_written(tmp_path)
    run(small(steps=3), tmp_path)
    assert len(stored(tmp_path).trials) == 8


def test_a_metric_of_the_wrong_shape_is_found_before_anything_is_written(tmp_path):
    with pytest.raises(PopulationError, match=r"metric 'error' has shape \(3,\); metrics are tensors of"):
        run(small(BadMetric()), tmp_path)
    assert_nothing_written(tmp_path)


def test_a_metric_that_nobody_measures_is_found_before_anything_is_written(tmp_path):
    message = "metric is 'acuracy', but toy measures no 'acuracy': there are clipped, error, gradient_norm"
    with pytest.raises(StudyError, match=message):
        run(small(metric=Metric("acuracy", "accuracy", higher_is_better=True)), tmp_path)
    assert_nothing_written(tmp_path)


# Trials that diverge


def test_another_metric_that_the_folder_never_measured(tmp_path):
    run_study(small(), tmp_path, options=OPTIONS)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(StudyError, match=r"metric is 'valid'.*what this folder holds measures no 'valid': there are"):
        run_study(small(metric=Metric("valid", "validation", higher_is_better=True)), tmp_path, options=OPTIONS)
    assert (tmp_path / FILE).read_bytes() == before


def test_another_metric_after_a_look_is_told(tmp_path):
    def told(study: Study) -> list[str]:
        found = run_study(study, tmp_path, options=OPTIONS).record.deviations
        return [sentence for sentence in found if "chosen after" in sentence]

    last, best = small(), small(metric=replace(small().metric, at="best"))
    assert told(last) == told(best) == []
    note_look(tmp_path, 2, {0, 1})
    (sentence,) = told(last)
    assert sentence.startswith("When a verdict was read before, 'error' (at 'best') decided; 'error' (at 'last')")
    assert told(last) == [sentence]


def test_a_loss_that_is_not_finite_is_marked(tmp_path):
    results = run_study(small(Toy(poison={1: 7})), tmp_path, options=replace(OPTIONS, chunk=8))
    for trial in results.trials:
        if trial.seed == 1:
            assert (trial.status, trial.step, trial.diverged_at, trial.final) == ("diverged", 7, 7, {"error": 99.0})
            assert trial.curves["error"].steps.tolist() == [3, 6] and trial.done
        else:
            assert (trial.status, trial.step, trial.diverged_at) == ("finished", STEPS, None)
    assert_same(run_study(small(Toy(poison={1: 7})), tmp_path, options=OPTIONS), results)


def test_a_study_in_which_all_diverge_ends(tmp_path):
    poison = {0: 0, 1: 4}
    results = run_study(small(Toy(poison=poison)), tmp_path, options=replace(OPTIONS, chunk=8))
    assert [t.diverged_at for t in results.trials] == [poison[t.seed] for t in results.trials]
    assert not run(small(Toy(poison=poison)), tmp_path).commits


# Planning


def test_a_dry_run_writes_nothing(tmp_path):
    plan = dry_run(small(), tmp_path / "new", OPTIONS)
    assert not (tmp_path / "new").exists()
    assert (plan.trials, plan.done, plan.workers, plan.replica_steps) == (8, 0, 1, 8 * STEPS)
    assert [len(job.trials) for job, _ in plan.chunks] == [4, 4]
    assert plan.seconds == pytest.approx(8 * STEPS * plan.seconds_per_step + 2 * plan.start)
    assert plan.seconds_per_step > 0 and plan.start > 0 and plan.bytes > 0


def test_a_dry_run_of_a_study_that_stopped(half_done):
    before = contents(half_done)
    plan = dry_run(small(seeds=(0, 1, 2)), half_done, OPTIONS)
    assert (plan.trials, plan.done) == (12, 0)
    assert [(len(job.trials), step) for job, step in plan.chunks] == [(4, 6), (4, 0), (4, 0)]
    assert plan.replica_steps == 4 * (STEPS - 6) + 8 * STEPS
    assert contents(half_done) == before


def test_a_dry_run_names_the_chunks_that_a_run_makes(tmp_path):
    plan = dry_run(small(), tmp_path, OPTIONS)
    assert [job.chunk for job, _ in plan.chunks] == [job.chunk for job, _ in run(small(), tmp_path).plan.chunks]


def test_short_work_starts_no_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(3), raising=False)

    def workers(**options: Any) -> int:
        return dry_run(small(), tmp_path, Options(**options)).workers

    assert workers(chunk=1, worker_seconds=1e9) == 1
    assert workers(chunk=1, worker_seconds=0.0) == 3
    assert workers(chunk=4, worker_seconds=0.0) == 2  # there are no more chunks
    assert workers(chunk=1, workers=2) == 2


def test_threads_of_the_caller_are_left_alone(tmp_path):
    torch.set_num_threads(2)
    try:
        watch = run(small(), tmp_path)
        assert watch.commits and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_the_store_holds_no_path_of_this_machine(tmp_path):
    run(small(), tmp_path / "secret place")
    text = json.dumps(contents(tmp_path / "secret place"))
    assert "secret place" not in text and (tmp_path / "secret place" / FILE).exists()


# Checkpoints that are lost, and stores that somebody else wrote


def test_a_lost_checkpoint_is_an_event(tmp_path, reference):
    with pytest.raises(KeyboardInterrupt):
        Watch(stop_after=2).run(small(), tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    watch = Watch()
    results = watch.run(small(), tmp_path)
    sentence = "the checkpoint of update 6 is missing: trained again from the start"
    assert [result.events for result in watch.commits if result.events] == [(sentence,)]
    with Store(tmp_path, readonly=True) as store:
        (event,) = store.events()
    assert (event.chunk, event.sentence) == (watch.plan.chunks[0][0].chunk, sentence)
    assert results.record.provenance[-1] == ("event", f"{event.time}, chunk {event.chunk}: {sentence}")
    assert_same(results, reference)
    run(small(), tmp_path)  # the record that is written again does not take events in
    assert [name for name, _ in stored(tmp_path).record.provenance].count("event") == 1


OLD = Path(__file__).with_name("store_of_e05702e.sql")


@pytest.fixture
def old(tmp_path) -> Path:
    """A study that version e05702e began: four trials are finished, four stand at update 6, no checkpoint is there."""
    folder = tmp_path / "old"
    folder.mkdir()
    with closing(sqlite3.connect(folder / FILE)) as db:
        db.executescript(OLD.read_text(encoding="utf-8"))
    return folder


def old_study() -> Study:
    metric = Metric("error", "test error", higher_is_better=False, margin=1.0, success=1.0)
    claim = Claim("C1", "a", "Noise helps.", "A paper, Table 1", "noise", "helps", {"none": {"mean": 2.0}})
    return small(
        Toy(poison={1: 7}),
        metric=metric,  # the margin of those days
        claims=(claim,),
        deviations=("Small.",),
        protocol=(("network", "three units"),),
        selection=Selection(("train_loss",), (metric,)),
    )


def test_a_store_of_an_older_version_is_read(old):
    with Store(old, readonly=True) as store:
        results = store.results()
        assert store.events() == [] and store.trials() == {t.id: t for t in old_study().trials()}
    mine = StudyRecord.of(old_study(), results.record.provenance)
    assert dataclasses.replace(results.record, arms=mine.arms) == mine
    assert [(a.name, a.title) for a in results.record.arms] == [("none", ""), ("noise", "")]
    assert [t.status for t in results.trials] == ["finished"] * 4 + ["running"] * 4


def test_a_store_of_an_older_version_is_resumed(old, tmp_path):
    with Store(old, readonly=True) as store:
        before = store.results()
    watch = Watch()
    results = watch.run(old_study(), old)
    assert watch.plan.done == 4 and [step for _, step in watch.plan.chunks] == [6]
    assert_same(dataclasses.replace(results, trials=results.trials[:4]), StudyResults(before.record, before.trials[:4]))
    fresh = run_study(old_study(), tmp_path / "fresh", options=OPTIONS)
    for mine, theirs in zip(results.trials, fresh.trials, strict=True):
        assert (mine.id, mine.status, mine.step) == (theirs.id, theirs.status, theirs.step)
        assert mine.final == pytest.approx(theirs.final, rel=1e-3)  # another machine began it


HOSTILE = ("../../decoy", "decoy", "/decoy", "", ".", "..")


@pytest.mark.parametrize("id", HOSTILE)
@pytest.mark.parametrize("table", ["chunks", "trials"])
@pytest.mark.parametrize("done", [0, 1])
def test_a_store_cannot_make_a_run_touch_another_folder(old, tmp_path, id, table, done):
    decoy = tmp_path / "decoy"
    id = str(decoy) if id == "/decoy" else id
    for place in (decoy, old / "checkpoints" / "decoy"):
        place.mkdir(parents=True)
        (place / "precious").write_text("keep me")
    with closing(sqlite3.connect(old / FILE)) as db:
        db.execute("UPDATE chunks SET done = ?", (done,))
        db.execute(f"UPDATE {table} SET id = ? WHERE rowid = (SELECT min(rowid) FROM {table})", (id,))
        db.commit()
    before = {path for path in tmp_path.rglob("*") if old not in path.parents}
    with pytest.raises(StudyError, match=r"the store is damaged: .* is no id of a trial or chunk"):
        run(old_study(), old)
    assert (decoy / "precious").exists() and (old / "checkpoints" / "decoy" / "precious").exists()
    assert {path for path in tmp_path.rglob("*") if old not in path.parents} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE chunks SET step = '../x'", "step of a row of chunks: '../x' is no whole number"),
        ("UPDATE chunks SET step = -1", "step of a row of chunks: -1 is below 0"),
        ("UPDATE chunks SET trials = '[7]'", "trials of a row of chunks: 7 is no id"),
        ("UPDATE chunks SET trials = '{'", "trials of a row of chunks: Expecting property name"),
        ("UPDATE meta SET value = '[]' WHERE name = 'record'", "what it holds is no StudyRecord"),
        ("UPDATE meta SET value = '{\"name\": 7}' WHERE name = 'record'", "what it holds is no StudyRecord"),
        ('UPDATE meta SET value = replace(value, \'"seeds":[0,1]\', \'"seeds":[0,"x"]\')', "'x' is no int"),
        ('UPDATE meta SET value = replace(value, \'"rows":[[\', \'"rows":[["z",\')', "no StudyRecord"),
    ],
)
def test_a_damaged_store_is_one_sentence(old, change, message):
    with closing(sqlite3.connect(old / FILE)) as db:
        db.execute(change)
        db.commit()
    with pytest.raises(StudyError, match=message):
        run(old_study(), old)
