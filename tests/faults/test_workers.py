"""Workers and drivers that are killed, frozen, out of disk or out of reach: the tables are those of an undisturbed run.

All with real processes, which are forked from a server that has imported what they need. Every run of the tests harms
them a few times; `pytest -m faults tests/faults` in every way and often.
"""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from support.small import PATIENCE, Toy, small, until

from gradnoise.study import Options, Store, StudyError, run_study
from gradnoise.study.report.export import curves_csv_gz, trials_csv
from gradnoise.study.run.spool.executor import SpoolExecutor
from gradnoise.study.run.spool.folder import LEASED, Spool
from gradnoise.study.run.spool.worker import SpoolWorker

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["gradnoise.paper", "torch._dynamo", "numba", "sklearn.datasets"])
#: Seconds of a lease: short, so that many run out; and longer, where a busy machine must not make a worker look dead.
LEASE, LONG = 1.0, 4.0
STEPS, EVERY = 60, 3
OPTIONS = Options(chunk=4, slice_seconds=0.0)


class Slow(Toy):
    """Takes some time for a minibatch, so that there are many moments to be killed at."""

    def __init__(self, seconds: float = 0.02) -> None:
        super().__init__(poison={1: 7})
        self.seconds = seconds

    def batch(self, seed, t, config):
        time.sleep(self.seconds)
        return super().batch(seed, t, config)


def study(seconds: float = 0.02):
    return small(Slow(seconds), seeds=(0, 1, 2), steps=STEPS, eval_every=EVERY)


def pull(folder: Path) -> None:
    """What a worker process does."""
    import torch

    torch.set_num_threads(1)
    worker = SpoolWorker(folder)
    signal.signal(signal.SIGTERM, lambda *_: worker.leave())
    worker.work()


def drive(folder: Path, lease: float = LEASE) -> None:
    """What a driver process does."""
    run_study(study(), folder, options=OPTIONS, executor=SpoolExecutor(2, folder=folder, lease=lease))


def started(what, *arguments) -> multiprocessing.Process:
    process = PROCESSES.Process(target=what, args=arguments)
    process.start()
    return process


class Workers:
    """Two worker processes; one that is killed is replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = [started(pull, folder) for _ in range(2)]

    def kill(self, which: int) -> None:
        self.processes[which].kill()
        self.processes[which].join()
        self.processes[which] = started(pull, self.folder)


@contextmanager
def workers(folder: Path):
    two = Workers(folder)
    try:
        yield two
    finally:
        for process in two.processes:
            process.kill()
            process.join()


def tables(folder: Path) -> tuple[bytes, bytes]:
    with Store(folder, readonly=True) as store:
        results = store.results()
    return trials_csv(results), curves_csv_gz(results)


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run_study(study(seconds=0.0), folder, options=OPTIONS, executor="here")
    return tables(folder)


def begun(folder: Path, process: multiprocessing.Process | None = None) -> bool:
    """Whether a worker has a slice; any, or the one in a process."""
    try:
        workers = [name.partition("@")[2] for name in Spool(folder).names(LEASED)]
    except FileNotFoundError:
        return False
    return any(process is None or worker.split(".")[-2] == str(process.pid) for worker in workers)


def meanwhile(harm) -> threading.Thread:
    thread = threading.Thread(target=harm, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("most", "lease"), [(4, LONG), (20, LEASE)])
def test_workers_killed_at_random_moments(tmp_path, expected, most, lease):
    moments, kills = random.Random(most), 0
    with workers(tmp_path) as two:
        driver = started(drive, tmp_path, lease)
        until(lambda: begun(tmp_path))
        while kills < most and driver.is_alive():
            time.sleep(moments.uniform(0.0, 1.5 * LEASE))
            two.kill(kills % 2)
            kills += 1
        driver.join(PATIENCE)
        assert driver.exitcode == 0 and kills >= most // 2
    assert tables(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 6])
def test_a_driver_killed_again_and_again(tmp_path, expected, kills):
    moments = random.Random(kills)
    with workers(tmp_path) as two:
        for _ in range(kills):
            driver = started(drive, tmp_path)
            driver.join(moments.uniform(0.5, 2.5))
            driver.kill()
            driver.join()
        pids = [process.pid for process in two.processes]
        drive(tmp_path)
        assert [process.pid for process in two.processes] == pids
        for process in two.processes:
            process.join(PATIENCE)
            assert process.exitcode == 0  # they waited for each driver, and left with the last
    assert tables(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 4])
def test_workers_frozen_past_their_lease(tmp_path, expected, times):
    """Their slices are run by others; when they come back they disturb nobody, and work on."""
    spool = Spool(tmp_path)
    with workers(tmp_path) as two:

        def harm() -> None:
            for process in (two.processes * 2)[:times]:
                until(partial(begun, tmp_path, process))
                os.kill(process.pid, signal.SIGSTOP)
                time.sleep(2.5 * LEASE)
                os.kill(process.pid, signal.SIGCONT)
                time.sleep(LEASE)

        thread = meanwhile(harm)
        executor = SpoolExecutor(2, folder=tmp_path, lease=LEASE)
        run_study(study(seconds=0.02 * (1 + times)), tmp_path, options=OPTIONS, executor=executor)
        thread.join(PATIENCE)
        lost = spool.driver().lost
    assert tables(tmp_path) == expected
    assert lost >= 1
    with Store(tmp_path, readonly=True) as store:
        assert store.events() == []  # no checkpoint was lost


def test_a_worker_that_is_told_to_leave_ends_its_slice_first(tmp_path, expected):
    with workers(tmp_path) as two:

        def harm() -> None:
            until(lambda: begun(tmp_path, two.processes[0]))
            two.processes[0].terminate()
            two.processes[0].join(PATIENCE)

        thread = meanwhile(harm)
        drive(tmp_path, 60.0)  # none runs out, however busy the machine is
        thread.join(PATIENCE)
        assert two.processes[0].exitcode == 0 and Spool(tmp_path).driver().lost == 0
    assert tables(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2.5, 10.0])
def test_the_folder_is_away(tmp_path, expected, seconds):
    """For longer than a lease."""
    folder, away = tmp_path / "study", tmp_path / "away"
    folder.mkdir()
    with workers(folder) as two:

        def harm() -> None:
            until(lambda: begun(folder))
            folder.rename(away)
            time.sleep(seconds)
            away.rename(folder)

        thread = meanwhile(harm)
        drive(folder)
        thread.join(PATIENCE)
        assert Spool(folder).driver().lost == 0  # their leases did not run out meanwhile
        for process in two.processes:
            process.join(PATIENCE)
            assert process.exitcode == 0
    assert tables(folder) == expected


@contextmanager
def small_disk(folder: Path):
    """A file system of two megabytes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root on Linux")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_for_a_while(tmp_path, expected):
    folder = tmp_path / "study"
    with small_disk(folder), workers(folder):
        driver = started(drive, folder)
        until(lambda: begun(folder))
        ballast = folder / "ballast"
        with pytest.raises(OSError), open(ballast, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        time.sleep(3 * LEASE)
        ballast.unlink()
        driver.join(PATIENCE)
        if driver.exitcode:  # its store could not be written either: it said so, and the command is repeated
            drive(folder)
        assert tables(folder) == expected


UNSHARE = ["unshare", "--net", "--uts", "--pid", "--fork", "--mount-proc"]


@pytest.mark.slow
def test_two_hosts_with_nothing_in_common_but_the_folder(tmp_path, expected):
    """Two namespaces without a network, with process ids and a host name of their own."""
    if not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("network and process namespaces take root on Linux")
    path = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    command = f"hostname host-$0; exec {sys.executable} -m gradnoise worker --study {tmp_path}"
    hosts = [
        subprocess.Popen(
            [*UNSHARE, "sh", "-c", command, str(number)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    try:
        until(lambda: all(host.poll() is None for host in hosts))
        drive(tmp_path)
        for number, host in enumerate(hosts, start=1):
            told, _ = host.communicate(timeout=PATIENCE)
            assert f"worker host-{number}." in told and "the study is finished" in told
    finally:
        for host in hosts:
            host.kill()
    assert tables(tmp_path) == expected


def test_a_chunk_that_no_worker_survives_ends_the_study(tmp_path):
    """Three leases in a row run out: more likely its memory than the machines."""
    spool, done = Spool(tmp_path), threading.Event()

    def take_and_die() -> None:
        while not done.wait(0.05):
            for name in spool.names("waiting") if (spool.root / "waiting").exists() else ():
                spool.take(name, "dying")

    thread = meanwhile(take_and_die)
    try:
        with pytest.raises(StudyError, match=r"3 times in a row \(no sign of life from dying for 0.2 s\)"):
            run_study(study(), tmp_path, options=OPTIONS, executor=SpoolExecutor(folder=tmp_path, lease=0.2))
    finally:
        done.set()
        thread.join()


def test_the_reference_is_not_empty(expected):
    trials, curves = expected
    assert trials.count(b"\n") == 13 and len(curves) > 500
    assert b"diverged" in trials
