"""Where a slice runs changes nothing of it, and a worker that dies is replaced."""

import os
import signal
from concurrent.futures import Future, wait
from pathlib import Path

import pytest
from support.small import PATIENCE, STEPS, Toy, alive, assert_same, small, until

from gradnoise.population import PopulationError
from gradnoise.study import Options, Setting, Study, StudyError, run_study
from gradnoise.study.run import runner
from gradnoise.study.run.executors import InProcess, Processes, WorkerDied
from gradnoise.study.run.population_engine import Job, job_of
from gradnoise.study.store import Report

FOREVER = 1e9


class Deadly(Toy):
    """Kills the worker that it is trained in, at its update 7, where the file `bomb` lies."""

    def __init__(self, bomb: Path) -> None:
        super().__init__()
        self.bomb, self.driver = bomb, os.getpid()

    def batch(self, seed, t, config):
        if t == 7 and os.getpid() != self.driver and self.bomb.exists():
            self.bomb.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(seed, t, config)


def job(study: Study, folder: Path) -> Job:
    """The trials of the first seed."""
    return job_of("chunk", list(study.trials())[:4], folder, threads=1)


def result(future: Future[Report]) -> Report:
    assert wait([future], timeout=PATIENCE).done
    return future.result()


def facts(report: Report) -> tuple:
    return report.step, report.done, sorted(report.rows), report.diverged, report.final


# In this process


def test_an_error_in_a_slice_reaches_the_caller(tmp_path):
    class Broken(Toy):
        def loss(self, model, batch):
            return model(batch[0])

    with pytest.raises(PopulationError, match=r"toy.loss returned shape \(5, 1\)"):
        InProcess(Broken()).submit(job(small(), tmp_path), 0, 0.0).result()


def test_ctrl_c_is_no_result(tmp_path):
    class Impatient(Toy):
        def batch(self, seed, t, config):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InProcess(Impatient()).submit(job(small(), tmp_path), 0, 0.0)


# In worker processes


@pytest.mark.slow
def test_one_worker(tmp_path):
    bomb, here = tmp_path / "bomb", InProcess(Toy())
    there, mine = job(small(), tmp_path / "there"), job(small(), tmp_path / "mine")
    executor = Processes(Deadly(bomb), 1)
    try:
        # a slice in a worker gives the bits of one in this process, from memory too
        first = result(executor.submit(there, 0, 0.0))
        assert facts(first) == facts(here.submit(mine, 0, 0.0).result())
        assert facts(result(executor.submit(there, 3, 0.0))) == facts(here.submit(mine, 3, 0.0).result())

        # kill -9 in the middle of a slice is told of; the next slice finds a new worker and the last checkpoint
        bomb.touch()
        lost = executor.submit(there, 6, FOREVER)
        assert wait([lost], timeout=PATIENCE).done
        with pytest.raises(WorkerDied, match=r"\w+"):
            lost.result()
        assert not bomb.exists()
        last = result(executor.submit(there, 6, FOREVER))
        assert last.step == STEPS and facts(last) == facts(here.submit(mine, 6, FOREVER).result())

        # an error is handed over as it is
        with pytest.raises(PopulationError, match="lr = -1"):
            bad = small(settings=(Setting("a", "Row a", {"lr": -1.0}),))
            result(executor.submit(job(bad, tmp_path), 0, 0.0))

        # closing does not wait for a slice to end
        executor.submit(job(small(steps=10**8, eval_every=10**8), tmp_path / "endless"), 0, FOREVER)
        workers = list(executor._pool._processes)
        assert workers and all(map(alive, workers))
    finally:
        executor.close()
    until(lambda: not any(map(alive, workers)))


@pytest.mark.slow
def test_a_study_in_processes_with_a_killed_worker_is_the_same_study(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "SLICE_SECONDS", 0.0)
    reference = run_study(small(), tmp_path / "reference", options=Options(workers=1, chunk=4))
    bomb = tmp_path / "bomb"
    bomb.touch()
    results = run_study(small(Deadly(bomb)), tmp_path / "study", options=Options(workers=2, chunk=4))
    assert_same(results, reference)
    assert not bomb.exists()


# What a runner does about deaths


class Mortal:
    """An executor whose workers die in the slices whose numbers it is given."""

    slots = 2

    def __init__(self, deaths: set[int]) -> None:
        self.deaths, self.slices, self.closed = deaths, 0, False
        self.inner = InProcess(Toy())

    def submit(self, job: Job, step: int, seconds: float) -> Future[Report]:
        self.slices += 1
        if self.slices not in self.deaths:
            return self.inner.submit(job, step, seconds)
        future: Future[Report] = Future()
        future.set_exception(WorkerDied("the worker was killed"))
        return future

    def close(self) -> None:
        self.closed = True


def with_deaths(folder: Path, monkeypatch, deaths: set[int]):
    executor = Mortal(deaths)
    monkeypatch.setattr(runner, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(runner, "_executor", lambda study, plan: executor)
    try:
        return run_study(small(), folder, options=Options(workers=1, chunk=8))
    finally:
        assert executor.closed


def test_a_chunk_may_die_again_after_it_got_on(tmp_path, monkeypatch):
    reference = with_deaths(tmp_path / "none", monkeypatch, set())
    assert_same(with_deaths(tmp_path / "some", monkeypatch, {1, 2, 4, 5, 7}), reference)


def test_a_chunk_that_always_dies_ends_the_study(tmp_path, monkeypatch):
    reference = with_deaths(tmp_path / "none", monkeypatch, set())
    with pytest.raises(
        StudyError, match=r"chunk \w+ died 3 times in a row \(the worker was killed\); .*smaller --chunk"
    ):
        with_deaths(tmp_path / "some", monkeypatch, {3, 4, 5})
    assert_same(with_deaths(tmp_path / "some", monkeypatch, set()), reference)  # what was committed is kept
