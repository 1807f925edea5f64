"""Where a slice begins and ends, and what was lost in between, changes no bit of a run."""

import dataclasses
import itertools
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.small import CHUNK, EVERY, STEPS, Toy, job_of, small

from gradnoise import Annealed
from gradnoise.population import SGD, Adam, PopulationError, checkpoint
from gradnoise.study.engine import Job, SliceResult
from gradnoise.study.run import population_engine, population_slice
from gradnoise.study.run.keep import FolderKeep
from gradnoise.study.run.population_engine import PopulationEngine, PopulationWorker

FOREVER = 1e9


def job(**changes) -> Job:
    return job_of(list(small(**changes).trials()))


def worker(folder: Path, experiment: Toy | None = None) -> PopulationWorker:
    """A worker in a new process, as far as it can know."""
    return PopulationEngine(experiment or Toy()).worker(FolderKeep(folder))


def trained(
    folder: Path, job: Job, seconds: float = 0.0, experiment: Toy | None = None, resume: bool = False
) -> list[SliceResult]:
    """All slices from start to end, as a runner would ask for them; with `resume` each in a new process."""
    one = worker(folder, experiment)
    results = [one.advance(job, 0, seconds)]
    while not results[-1].done:
        one = worker(folder, experiment) if resume else one
        results.append(one.advance(job, results[-1].step, seconds))
    return results


def known(results: list[SliceResult]) -> tuple:
    """What a store knows after these results: a row that comes again replaces the one before."""
    rows = {row[:3]: row[3] for r in results for row in r.rows}
    diverged = {i: t for r in results for i, t in r.diverged.items()}
    return rows, diverged, {i: v for r in results for i, v in r.final.items()}, results[-1].step


def assert_same(results: list[SliceResult], reference: list[SliceResult]) -> None:
    """The same rows, divergences and finals, to the last bit; what comes twice is the same twice."""
    assert known(results) == known(reference)
    assert {row for r in results for row in r.rows} == {row for r in reference for row in r.rows}


# Boundaries


@pytest.mark.parametrize(
    "base", [{}, {"optimizer": Adam(), "clip": 0.5}, {"optimizer": SGD(0.9), "clip_per": "tensor"}]
)
def test_slices_do_not_matter(tmp_path, base):
    """Float32, where another order of sums would show."""
    whole = trained(tmp_path / "a", job(base=base), FOREVER)
    resident = trained(tmp_path / "b", job(base=base))
    resumed = trained(tmp_path / "c", job(base=base), resume=True)
    assert len(whole) == 1 and len(resident) == len(resumed) == STEPS // EVERY
    assert [r.step for r in resumed] == [3, 6, 9, 12] and [r.done for r in resumed] == [False] * 3 + [True]
    assert_same(resident, whole)
    assert_same(resumed, whole)
    assert not (tmp_path / "a").exists()  # nothing to resume, no checkpoint
    assert checkpoint.steps(tmp_path / "c" / CHUNK) == [6, 9]


def test_an_interval_that_does_not_divide(tmp_path):
    results = trained(tmp_path, job(eval_every=5), resume=True)
    assert [r.step for r in results] == [5, 10, 12]
    assert_same(results, trained(tmp_path / "whole", job(eval_every=5), FOREVER))


def test_every_trial_results_every_metric_at_every_evaluation(tmp_path):
    (whole,) = trained(tmp_path, job(), FOREVER)
    names = {"error", "mean", "train_loss", "gradient_norm", "clipped", "noise_norm"}
    ids = [t.id for t in small().trials()]
    assert {row[:3] for row in whole.rows} == set(itertools.product(ids, names, range(EVERY, STEPS + 1, EVERY)))
    last = {(i, m): v for i, m, step, v in whole.rows if step == STEPS}
    assert whole.final == {i: {m: last[i, m] for m in names} for i in ids}


# What was timed for the plan


@pytest.mark.parametrize("base", [{}, {"optimizer": Adam(), "clip": 0.5}])
def test_a_population_that_was_timed_is_trained_as_if_it_were_fresh(tmp_path, base):
    one, chunk = worker(tmp_path / "timed"), job(base=base)
    found = one.measure(chunk, True)
    assert found.size == len(chunk.trials) and one._held is not None and one._held[1].t == 0
    timed = one._held[1]
    results = [one.advance(chunk, 0, 0.0)]
    assert one._held[1] is timed
    while not results[-1].done:
        results.append(one.advance(chunk, results[-1].step, 0.0))
    assert_same(results, trained(tmp_path / "fresh", chunk, FOREVER))


def test_what_was_timed_is_not_timed_again(tmp_path):
    one, chunk = worker(tmp_path), job()
    assert one.measure(chunk, True) is one.measure(chunk, False)  # eight trials or fewer are one size in both
    assert one.measure(chunk, True) is not one.measure(dataclasses.replace(chunk, trials=chunk.trials[:2]), True)


def test_one_that_cannot_be_taken_back_is_not_kept(tmp_path):
    """Python code that runs in every update may have kept something, and a replica that ended is gone."""
    interpreted = PopulationEngine(Toy(), trace=False).worker(FolderKeep(tmp_path))
    poisoned = worker(tmp_path, Toy(poison={1: 2}))
    for one in (interpreted, poisoned):
        one.measure(job(), True)
        assert one._held is None


# What is lost or damaged


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    """Change a bit of the largest tensor; between them lies padding that nobody reads."""
    with zipfile.ZipFile(path) as archive:
        largest = archive.read(max(archive.infolist(), key=lambda part: part.file_size))
    content = bytearray(path.read_bytes())
    content[content.index(largest) + len(largest) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {"missing": Path.unlink, "empty": lambda p: p.write_bytes(b""), "truncated": truncate, "flipped": flip}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("which", ["last", "both"])
def test_a_damaged_checkpoint_costs_time_only_and_is_told_of(tmp_path, how, which):
    first = worker(tmp_path)
    results = [first.advance(job(), step, 0.0) for step in (0, 3)]
    folder = tmp_path / CHUNK
    for step in checkpoint.steps(folder)[-1 if which == "last" else 0 :]:
        DAMAGE[how](checkpoint.path_for(folder, step))
    results.append(worker(tmp_path).advance(job(), 6, FOREVER))
    assert {step for _, _, step, _ in results[-1].rows} == ({6, 9, 12} if which == "last" else {3, 6, 9, 12})
    assert_same(results, trained(tmp_path / "whole", job(), FOREVER))
    told = [step for step in (6, 3) for event in results[-1].events if f"the checkpoint of update {step} " in event]
    missing_too = how != "missing" and which == "both"  # a file that is not there cannot be told from none ever
    assert told == ([6, 3] if missing_too else [6])
    what = "is missing" if how == "missing" else "cannot be read ("
    again = "trained again from update 3" if which == "last" else "trained again from the start"
    assert all(what in event and event.endswith(again) for event in results[-1].events)
    assert not any(r.events for r in results[:-1])


def test_a_slice_that_was_never_taken_in(tmp_path):
    """Killed after the checkpoint was written and before the store knew of it."""
    one = worker(tmp_path)
    first, lost = one.advance(job(), 0, 0.0), one.advance(job(), 3, 0.0)
    again = worker(tmp_path).advance(job(), 3, 0.0)
    assert dataclasses.replace(again, seconds=0) == dataclasses.replace(lost, seconds=0)
    assert first.step == 3 and checkpoint.steps(tmp_path / CHUNK) == [3, 6]


def test_a_lost_slice_does_not_push_out_the_checkpoint_that_is_needed(tmp_path):
    """The store stands at 3; a slice that was lost got to 9; the next one is killed after its own checkpoint."""
    keep, folder = FolderKeep(tmp_path), tmp_path / CHUNK
    for step in (3, 9):
        keep.save(CHUNK, step, {"t": step})
    (folder / ".step-000000006.pt.0123.part").write_bytes(b"killed while writing")
    keep.save(CHUNK, 6, {"t": 6})
    assert keep.latest(CHUNK, 5).state == {"t": 3}
    assert sorted(p.name for p in folder.iterdir()) == ["step-000000003.pt", "step-000000006.pt"]


def test_a_checkpoint_of_another_model_costs_time_and_is_told(tmp_path):
    worker(tmp_path).advance(job(), 0, 0.0)
    other = job(base={"width": 4, "clip": 1.0})
    found = worker(tmp_path).advance(other, 3, 0.0)
    (event,) = found.events
    assert "the checkpoint belongs to another population" in event and "trained again from the start" in event
    fresh = worker(tmp_path / "fresh").advance(other, 0, 0.0)
    assert (found.step, found.rows) == (fresh.step, fresh.rows)


class Interrupted(Adam):
    """Ctrl-C between the update of the weights and the counting of it."""

    armed = False

    def update(self, *arguments) -> None:
        super().update(*arguments)
        if Interrupted.armed:
            raise KeyboardInterrupt


def test_an_update_that_was_interrupted_is_not_resumed_from_memory(tmp_path, monkeypatch):
    base = {"optimizer": Interrupted(), "lr": 0.01}
    reference, one = trained(tmp_path / "whole", job(base=base), FOREVER), worker(tmp_path)
    results = [one.advance(job(base=base), 0, 0.0)]
    monkeypatch.setattr(Interrupted, "armed", True)
    with pytest.raises(KeyboardInterrupt):
        one.advance(job(base=base), 3, 0.0)
    monkeypatch.setattr(Interrupted, "armed", False)
    results += [one.advance(job(base=base), 3, FOREVER)]
    assert_same(results, reference)


class Clock:
    """A time that goes on by one second whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


actions = st.fixed_dictionaries(
    {"evaluations": st.integers(1, 3), "lost": st.booleans(), "forget": st.booleans(), "damage": st.booleans()}
)


@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.generate])  # shrinking takes long
@given(st.lists(actions, max_size=5))
def test_any_history_gives_the_same_run(tmp_path_factory, history):
    """Slices of any length, lost or taken in, in one process or several, with checkpoints that rot."""
    folder, experiment = tmp_path_factory.mktemp("history"), Toy(poison={1: 7})
    one, chunk, results, step = worker(folder, experiment), job(), [], 0
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(population_engine, "time", clock)
        patch.setattr(population_slice, "time", clock)
        for action in [*history, {"evaluations": 99, "lost": False, "forget": True, "damage": False}]:
            if action["damage"] and (steps := checkpoint.steps(folder / CHUNK)):
                truncate(checkpoint.path_for(folder / CHUNK, steps[-1]))
            if action["forget"]:
                one = worker(folder, experiment)
            result = one.advance(chunk, step, action["evaluations"] - 0.5)
            if not action["lost"]:
                results.append(result)
                step = result.step
            if result.done and not action["lost"]:
                break
    assert_same(results, trained(folder / "whole", job(), FOREVER, experiment))


# Trials that diverge


def test_a_diverged_trial_is_frozen_and_its_neighbours_go_on(tmp_path):
    whole = trained(tmp_path / "a", job(), FOREVER, Toy(poison={1: 7}))
    resumed = trained(tmp_path / "b", job(), experiment=Toy(poison={1: 7}), resume=True)
    assert_same(resumed, whole)
    sick = {t.id for t in small().trials() if t.seed == 1}
    (result,) = whole
    assert result.diverged == dict.fromkeys(sick, 7) and result.step == STEPS and result.done
    assert {i: result.final[i] for i in sick} == {i: {"error": 99.0} for i in sick}
    assert {step for i, _, step, _ in result.rows if i in sick} == {3, 6}
    well = trained(tmp_path / "well", job(), FOREVER)[0]
    assert {i: v for i, v in result.final.items() if i not in sick} == {
        i: v for i, v in well.final.items() if i not in sick
    }


def test_a_diverged_trial_is_reported_final_once(tmp_path):
    results = trained(tmp_path, job(), experiment=Toy(poison={1: 4}), resume=True)
    sick = next(t.id for t in small().trials() if t.seed == 1)
    assert [sick in r.final for r in results] == [False, True, False, False]
    assert [r.diverged.get(sick) for r in results] == [None, 4, 4, 4]


@pytest.mark.parametrize("seconds", [0.0, FOREVER])
def test_all_diverge(tmp_path, seconds):
    results = trained(tmp_path, job(), seconds, Toy(poison={0: 4, 1: 7}), resume=True)
    assert results[-1].done and results[-1].step == 9  # of the evaluation that finds nobody left
    assert sorted(results[-1].diverged.values()) == [4] * 4 + [7] * 4
    finals = {i: v for r in results for i, v in r.final.items()}
    assert list(finals.values()) == [{"error": 99.0}] * 8


# The worker around it


def test_threads_are_put_back(tmp_path):
    torch.set_num_threads(2)
    try:
        worker(tmp_path).advance(job(), 0, 0.0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_what_is_in_memory_is_for_the_same_chunk_and_step(tmp_path):
    """A slice that was lost, and a chunk whose trials were asked for anew with another length."""
    one = worker(tmp_path)
    one.advance(job(), 0, 0.0)
    one.advance(job(), 3, 0.0)
    assert {step for _, _, step, _ in one.advance(job(), 3, 0.0).rows} == {6}  # from its checkpoint
    assert one.advance(job(steps=24), 6, 0.0).step == 9


class Vector(Toy):
    def evaluate(self, model, held_out, config):
        return super().evaluate(model, held_out, config) | {"weights": torch.zeros(2)}


def test_metrics_that_are_no_scalars(tmp_path):
    with pytest.raises(
        PopulationError, match=r"toy.evaluate: metric 'weights' has shape \(2,\); metrics are tensors of"
    ):
        worker(tmp_path, Vector()).advance(job(), 0, 0.0)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(checkpoint.CheckpointError, match="No space left on device; make room"):
            worker(tmp_path / "a").advance(job(), 0, 0.0)
    assert_same(trained(tmp_path / "a", job()), trained(tmp_path / "b", job(), FOREVER))


# What trains together

group = PopulationEngine(Toy()).group


@pytest.mark.parametrize(
    ("change", "together"),
    [
        ({"lr": 0.3}, True),
        ({"noise": Annealed(1.0)}, True),
        ({"clip": None}, True),
        ({"gain": 3.0}, True),  # the experiment's own replica key
        ({"width": 4}, False),
        ({"optimizer": Adam()}, False),
        ({"clip_per": "tensor"}, False),
        ({"dropout": 0.0}, True),
        ({"dropout": 0.5}, False),
        ({"steps": 13}, False),
    ],
)
def test_groups(change, together):
    config = {"lr": 0.1, "clip": 1.0, "steps": 12, "eval_every": 3, "study_seed": 0}
    assert (group(config) == group(config | change)) is together


def test_dropout_rates_train_together():
    assert group({"dropout": 0.5}) == group({"dropout": 0.2})
