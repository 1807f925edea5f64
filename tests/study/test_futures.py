"""Slices in pools of others: whatever runs them, the study is the same, and what a pool loses is run again."""

import contextlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from support.small import PATIENCE, Toy, assert_same, job_of, small

from gradnoise.population import PopulationError
from gradnoise.study import Options, Setting, StudyError, run_study
from gradnoise.study.run import futures, shipment
from gradnoise.study.run.futures import FuturesExecutor
from gradnoise.study.run.keep import FolderKeep
from gradnoise.study.run.population_engine import PopulationEngine
from gradnoise.study.run.shipment import Shipment

SHORT = Options(chunk=4, slice_seconds=0.0)
SPAWN = multiprocessing.get_context("forkserver")


def processes() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=SPAWN)


@contextlib.contextmanager
def loky() -> Iterator[Executor]:
    module = pytest.importorskip("loky")
    with module.ProcessPoolExecutor(2) as pool:
        yield pool


@contextlib.contextmanager
def dask() -> Iterator[Executor]:
    pytest.importorskip("distributed.deploy")  # a folder of tests is called distributed, too
    module = pytest.importorskip("distributed")
    cluster = module.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0)
    with cluster, module.Client(cluster) as client:
        yield client.get_executor()


@contextlib.contextmanager
def executorlib() -> Iterator[Executor]:
    module = pytest.importorskip("executorlib")
    with module.SingleNodeExecutor(max_workers=2, block_allocation=True) as pool:
        yield pool


@contextlib.contextmanager
def parsl() -> Iterator[Executor]:
    pytest.importorskip("parsl")
    if not shutil.which("interchange.py"):
        pytest.skip("Parsl's programs are not on the PATH")
    from parsl import Config, HighThroughputExecutor
    from parsl.concurrent import ParslPoolExecutor
    from parsl.providers import LocalProvider

    provider = LocalProvider(init_blocks=1, max_blocks=1)
    workers = HighThroughputExecutor(max_workers_per_node=2, address="127.0.0.1", provider=provider, encrypted=False)
    with ParslPoolExecutor(Config(executors=[workers], run_dir="parsl")) as pool:
        yield pool


POOLS = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": processes,
    "loky": loky,
    "dask": dask,
    "executorlib": executorlib,
    "parsl": parsl,
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run_study(small(), tmp_path_factory.mktemp("reference"), options=SHORT, executor="here")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the pools' own
@pytest.mark.parametrize("name", POOLS)
def test_a_study_in_a_pool_is_the_same_study(tmp_path, monkeypatch, reference, name):
    monkeypatch.chdir(tmp_path)
    with POOLS[name]() as pool:
        results = run_study(small(), tmp_path / "study", options=SHORT, executor=FuturesExecutor(pool, slots=2))
        assert_same(results, reference)
        assert pool.submit(os.getpid).result(PATIENCE)  # it is still open


class Deadly(Toy):
    """Kills each of two processes that it is trained in, at its update 7, where the files `bomb` lie."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.driver = folder, os.getpid()

    def batch(self, seed, t, config):
        if t == 7 and os.getpid() != self.driver:
            for bomb in self.folder.glob("bomb-*"):
                bomb.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(seed, t, config)


@pytest.mark.slow
def test_a_pool_that_breaks_is_made_again(tmp_path, reference):
    for i in range(2):
        (tmp_path / f"bomb-{i}").touch()
    executor = FuturesExecutor(processes, slots=2)
    results = run_study(small(Deadly(tmp_path)), tmp_path / "study", options=SHORT, executor=executor)
    assert_same(results, reference)
    assert not list(tmp_path.glob("bomb-*"))


@pytest.mark.slow
def test_a_pool_that_breaks_and_is_given_ends_the_study(tmp_path, reference):
    (tmp_path / "bomb-0").touch()
    study = small(Deadly(tmp_path))
    with processes() as pool, pytest.raises(StudyError, match=r"takes no more work \(BrokenProcessPool: .* a function"):
        run_study(study, tmp_path / "study", options=SHORT, executor=FuturesExecutor(pool, slots=2))
    assert_same(run_study(study, tmp_path / "study", options=SHORT, executor="here"), reference)


class Pool(Executor):
    """A pool that runs calls at once, or, if it `loses`, every other one, and loses the rest in two ways."""

    def __init__(self, loses: bool) -> None:
        self.loses, self.calls, self.sizes = loses, 0, []

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        self.calls += 1
        self.sizes.append(len(args[1].body) if args[1] else 0)
        if self.loses and self.calls % 4 == 2:
            future.cancel()
            future.set_running_or_notify_cancel()
        elif self.loses and self.calls % 4 == 0:
            future.set_exception(TimeoutError("the node did not answer"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_dead_future_is_a_lost_slice(tmp_path, reference):
    pool = Pool(loses=True)
    results = run_study(small(), tmp_path, options=SHORT, executor=FuturesExecutor(pool, slots=1))
    assert_same(results, reference)
    assert pool.calls > 8


def test_a_large_experiment_is_shipped_to_who_asks_for_it(tmp_path, reference, monkeypatch):
    monkeypatch.setattr(futures, "SMALL", 0)
    pool = Pool(loses=False)
    results = run_study(small(), tmp_path, options=SHORT, executor=FuturesExecutor(pool, slots=1))
    assert_same(results, reference)
    assert [i for i, size in enumerate(pool.sizes) if size] == [1]


def test_an_error_in_a_slice_reaches_the_caller(tmp_path):
    wrong = job_of(list(small(settings=(Setting("a", "Row a", {"lr": -1.0}),)).trials())[:4])
    with ThreadPoolExecutor(1) as pool:
        executor = FuturesExecutor(pool, slots=1)
        executor.start(PopulationEngine(Toy()), FolderKeep(tmp_path))
        failed = executor.advance(wrong, 0, 0.0)
        assert wait([failed], PATIENCE).done
        with pytest.raises(PopulationError, match="lr = -1"):
            failed.result()
        executor.close()
        with pytest.raises(futures.WorkerDied, match="the study was stopped"):
            executor.advance(wrong, 0, 0.0)


def test_pools_are_checked():
    with pytest.raises(StudyError, match="or a function that makes one, not a int"):
        FuturesExecutor(4, slots=4)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="slots is 0, an int; it must be a whole number >= 1"):
        FuturesExecutor(ThreadPoolExecutor, slots=0)


# What is shipped


def test_a_shipment_is_opened_by_the_same_software_only(tmp_path, monkeypatch):
    packed = Shipment.of(PopulationEngine(Toy()), FolderKeep(tmp_path))
    engine, keep = packed.open()
    assert engine.name == "toy" and keep == FolderKeep(tmp_path)
    there = shipment.software()
    monkeypatch.setattr(shipment, "software", lambda: there | {"torch": "2.4.0"})
    with pytest.raises(StudyError, match=r"this worker has torch 2.4.0, but the study is run with"):
        packed.open()


class Unloadable(Toy):
    def __setstate__(self, state):
        raise ModuleNotFoundError("No module named 'mine'")


def test_a_shipment_that_cannot_be_loaded(tmp_path):
    packed = Shipment.of(PopulationEngine(Unloadable()), FolderKeep(tmp_path))
    with pytest.raises(StudyError, match=r"cannot load what it is to train \(ModuleNotFoundError: No mod"):
        packed.open()
