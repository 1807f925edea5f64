"""Where a slice runs changes nothing of it, and a worker that dies is replaced."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.small import CHUNK, PATIENCE, STEPS, Toy, alive, assert_same, job_of, small, until

from gradnoise.population import PopulationError
from gradnoise.study import Options, Setting, Study, StudyError, run_study
from gradnoise.study.engine import Engine, Job, Keep, Kept, Measurement, SliceResult
from gradnoise.study.run.executors import Executor, InProcess, WorkerDied, WorkerTaken, executor_named
from gradnoise.study.run.keep import FolderKeep
from gradnoise.study.run.population_engine import PopulationEngine
from gradnoise.study.run.processes import Processes

FOREVER = 1e9
SHORT = Options(workers=1, chunk=4, slice_seconds=0.0)


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


class Telling(Toy):
    """Tells in which processes it is built and trained."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def model(self, config):
        (self.folder / f"built-{os.getpid()}").touch()
        return super().model(config)

    def batch(self, seed, t, config):
        (self.folder / f"{seed}-{os.getpid()}").touch()
        return super().batch(seed, t, config)


def job(study: Study) -> Job:
    """The trials of the first seed."""
    return job_of(list(study.trials())[:4])


@contextmanager
def started(executor: Executor, experiment: Toy, folder: Path) -> Iterator[Executor]:
    try:
        executor.start(PopulationEngine(experiment), FolderKeep(folder))
        yield executor
    finally:
        executor.close()


def result(future: Future[SliceResult]) -> SliceResult:
    assert wait([future], timeout=PATIENCE).done
    return future.result()


def facts(result: SliceResult) -> tuple:
    return result.step, result.done, sorted(result.rows), result.diverged, result.final, result.events


# By name


def test_executors_are_found_by_name():
    assert isinstance(executor_named("here", None), InProcess) and executor_named("here", 1).slots == 1
    processes = executor_named("processes", 3)
    assert isinstance(processes, Processes) and processes.slots == 3
    with pytest.raises(StudyError, match="no executor 'proceses': there are auto, here, processes, ray, spool; did"):
        executor_named("proceses", None)
    with pytest.raises(StudyError, match="executor 'here' is one worker, not 2; use 'processes'"):
        executor_named("here", 2)


# In this process


def test_an_error_in_a_slice_reaches_the_caller(tmp_path):
    class Broken(Toy):
        def loss(self, model, batch, config):
            return model(batch[0])

    with started(InProcess(), Broken(), tmp_path) as executor:
        failed = executor.advance(job(small()), 0, 0.0)
    with pytest.raises(PopulationError, match=r"toy.loss returned shape \(5, 1\)"):
        failed.result()


def test_ctrl_c_is_no_result(tmp_path):
    class Impatient(Toy):
        def batch(self, seed, t, config):
            raise KeyboardInterrupt

    with started(InProcess(), Impatient(), tmp_path) as executor, pytest.raises(KeyboardInterrupt):
        executor.advance(job(small()), 0, 0.0)


# In worker processes


@pytest.mark.slow
def test_one_worker(tmp_path):
    bomb, chunk = tmp_path / "bomb", job(small())
    processes = Processes(1)
    with (
        started(processes, Deadly(bomb), tmp_path / "there") as executor,
        started(InProcess(), Toy(), tmp_path / "here") as here,
    ):
        # a slice in a worker gives the bits of one in this process, from memory too
        for step in (0, 3):
            there = result(executor.advance(chunk, step, 0.0))
            assert facts(there) == facts(here.advance(chunk, step, 0.0).result())

        # kill -9 in the middle of a slice is told of; the next slice finds a new worker and the last checkpoint
        bomb.touch()
        lost = executor.advance(chunk, 6, FOREVER)
        assert wait([lost], timeout=PATIENCE).done
        with pytest.raises(WorkerDied, match="killed by signal 9"):
            lost.result()
        assert not bomb.exists()
        last = result(executor.advance(chunk, 6, FOREVER))
        assert last.step == STEPS and facts(last) == facts(here.advance(chunk, 6, FOREVER).result())

        # an error is handed over as it is
        with pytest.raises(PopulationError, match="lr = -1") as caught:
            result(executor.advance(job(small(settings=(Setting("a", "Row a", {"lr": -1.0}),))), 0, 0.0))
        assert "In a worker process" in caught.value.__notes__[0]

        # closing does not wait for a slice to end
        executor.advance(job(small(steps=10**8, eval_every=10**8)), 0, FOREVER)
        (place,) = processes._places
        assert place._process is not None
        pid = place._process.pid
        assert alive(pid)
    until(lambda: not alive(pid))


@pytest.mark.slow
def test_a_study_in_processes_with_a_killed_worker_is_the_same_study(tmp_path):
    reference = run_study(small(), tmp_path / "reference", options=SHORT)
    bomb = tmp_path / "bomb"
    bomb.touch()
    results = run_study(small(Deadly(bomb)), tmp_path / "study", options=replace(SHORT, workers=2))
    assert_same(results, reference)
    assert not bomb.exists()


class Watched(FolderKeep):
    """Tells when a checkpoint is read."""

    def latest(self, chunk: str, step: int) -> Kept:
        (self.folder / "read").touch()
        return super().latest(chunk, step)


@pytest.mark.slow
def test_a_chunk_stays_where_its_population_is(tmp_path):
    """Timed and trained in the workers alone, each chunk in one of them, and no checkpoint is ever read.

    The driver builds a model to look at the code.
    """
    told = tmp_path / "told"
    told.mkdir()
    study = small(Telling(told), seeds=(0, 1, 2))
    two, keep = replace(SHORT, workers=2), Watched(tmp_path)
    run_study(study, tmp_path / "study", options=two, keep=keep, executor="processes")
    built = {path.name.removeprefix("built-") for path in told.glob("built-*")} - {str(os.getpid())}
    assert len(built) == 2
    trained = [path.name.split("-") for path in told.glob("*-*") if not path.name.startswith("built")]
    assert {pid for _, pid in trained} - {str(os.getpid())} == built
    assert not (tmp_path / "read").exists()


# Workers that never begin


class Stillborn(Toy):
    """Does something else than to be loaded in a worker."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.driver = what, os.getpid()

    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() != self.driver:
            if self.what == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "hangs":
                time.sleep(PATIENCE)
            raise ValueError("this machine lacks something")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("dies", r"could not be started, 3 times in a row \(killed by signal 9\).*--workers 1"),
        ("hangs", r"could not be started, 3 times in a row \(not ready in time\)"),
        ("fails", r"cannot load what it is to train \(ValueError: this machine lacks something\)"),
    ],
)
@pytest.mark.slow
def test_a_worker_that_does_not_begin_ends_the_study(tmp_path, what, message):
    seconds = 1.0 if what == "hangs" else PATIENCE
    with pytest.raises(StudyError, match=message):
        run_study(small(Stillborn(what)), tmp_path, options=SHORT, executor=Processes(1, start_seconds=seconds))


# What a runner does about deaths


class Mortal:
    """An executor whose workers die in the slices whose numbers it is given, and remember nothing."""

    def __init__(self, deaths: set[int]) -> None:
        self.deaths, self.slices, self.closed, self.slots = deaths, 0, False, 2

    def start(self, engine: Engine, keep: Keep) -> None:
        self.engine, self.keep = engine, keep

    def measure(self, job: Job, whole: bool) -> Measurement:
        return self.engine.worker(self.keep).measure(job, whole)

    def advance(self, job: Job, step: int, seconds: float) -> Future[SliceResult]:
        self.slices += 1
        future: Future[SliceResult] = Future()
        if self.slices in self.deaths:
            future.set_exception(WorkerDied("the worker was killed"))
        else:
            future.set_result(self.engine.worker(self.keep).advance(job, step, seconds))
        return future

    def close(self, finished: bool = False) -> None:
        self.closed = True


def with_deaths(folder: Path, deaths: set[int], keep: Keep | None = None):
    executor = Mortal(deaths)
    try:
        return run_study(small(), folder, options=replace(SHORT, chunk=8), executor=executor, keep=keep)
    finally:
        assert executor.closed


def test_a_chunk_may_die_again_after_it_got_on(tmp_path):
    reference = with_deaths(tmp_path / "none", set())
    assert_same(with_deaths(tmp_path / "some", {1, 2, 4, 5, 7}), reference)


def test_a_worker_that_is_taken_away_is_no_failure(tmp_path):
    class Taken(Mortal):
        def advance(self, job, step, seconds):
            future = super().advance(job, step, seconds)
            if future.exception():
                future = Future()
                future.set_exception(WorkerTaken("the node was preempted"))
            return future

    reference = with_deaths(tmp_path / "none", set())
    executor = Taken(set(range(2, 9)))
    results = run_study(small(), tmp_path / "some", options=replace(SHORT, chunk=8), executor=executor)
    assert_same(results, reference)


def test_a_chunk_that_always_dies_ends_the_study(tmp_path):
    reference = with_deaths(tmp_path / "none", set())
    with pytest.raises(
        StudyError, match=r"chunk \w+ died 3 times in a row \(the worker was killed\); .*smaller --chunk"
    ):
        with_deaths(tmp_path / "some", {3, 4, 5})
    assert_same(with_deaths(tmp_path / "some", set()), reference)  # what was committed is kept


def test_a_worker_that_dies_while_it_is_timed(tmp_path):
    class Timed(Mortal):
        def measure(self, job, whole):
            raise WorkerDied("killed by signal 9")

    executor = Timed(set())
    with pytest.raises(StudyError, match=r"timed 4 trials together, 3 times in a row \(killed by signal 9\)"):
        run_study(small(), tmp_path, options=SHORT, executor=executor)
    assert executor.closed


class Forgetful(FolderKeep):
    """Keeps nothing: as a folder that the next worker cannot see."""

    def save(self, chunk, step, state):
        pass


def test_checkpoints_that_no_other_worker_sees_end_the_study(tmp_path):
    """It would begin again and again."""
    with pytest.raises(
        StudyError,
        match=r"checkpoints of chunk \w+ were lost 3 times in a row \(the checkpoint of update 3 is missing: trained"
        r" again from the start\); see to it that every worker can read and write Forgetful",
    ):
        with_deaths(tmp_path / "study", set(), Forgetful(tmp_path))


def test_a_keep_writes_and_removes_within_its_folder_only(tmp_path):
    keep = FolderKeep(tmp_path / "keep")
    for bad in ("../decoy", "/tmp", "", ".", CHUNK.upper()):
        for touch in (keep.drop, lambda id: keep.save(id, 1, {}), lambda id: keep.latest(id, 1)):
            with pytest.raises(StudyError, match="is no id of a trial or chunk"):
                touch(bad)
    assert not list(tmp_path.iterdir())
