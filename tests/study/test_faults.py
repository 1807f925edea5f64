"""Killed at a chosen moment: before, between and after the writes that a resumed run builds upon."""

import itertools
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small import Toy, alive, assert_same, small, until

from gradnoise.population import checkpoint
from gradnoise.study import Options, Store, run_study
from gradnoise.study.run.keep import FolderKeep

OPTIONS = Options(workers=1, chunk=4, slice_seconds=0.0)
#: Imports are paid once, in the server that the runs are forked from.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["gradnoise.paper", "torch._dynamo", "numba", "sklearn.datasets"])

#: Where to die: what is called, the how manieth time, and whether before or after it does its work.
MOMENTS = {
    "before anything is written": (Store, "extend", 1, "before"),
    "when all is planned": (Store, "extend", 1, "after"),
    "before a checkpoint is written": (torch, "save", 2, "before"),
    "before a checkpoint has its name": (os, "replace", 2, "before"),
    "before an old checkpoint goes": (checkpoint, "_tidy", 3, "before"),
    "between a checkpoint and its commit": (checkpoint, "save", 2, "after"),
    "after a commit": (Store, "commit", 2, "after"),
    "before the last commit of a population": (Store, "commit", 4, "before"),
    "between a population's last commit and its clearing up": (FolderKeep, "drop", 1, "before"),
    "while its checkpoints are removed": (os, "unlink", 2, "after"),
    "between two populations": (FolderKeep, "drop", 1, "after"),
    "before the end is noted": (Store, "put_record", 1, "before"),
}


def arm(owner: Any, name: str, nth: int, when: str) -> None:
    """Make this process kill itself at the nth call of owner.name."""
    original, calls = getattr(owner, name), itertools.count(1)

    def deadly(*arguments: Any, **options: Any) -> Any:
        fatal = next(calls) == nth
        if fatal and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        value = original(*arguments, **options)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    setattr(owner, name, deadly)


def run_and_die(folder: Path, moment: str) -> None:
    torch.set_num_threads(1)
    arm(*MOMENTS[moment])
    run_study(small(Toy(poison={1: 7})), folder, options=OPTIONS)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run_study(small(Toy(poison={1: 7})), tmp_path_factory.mktemp("reference"), options=OPTIONS)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed(tmp_path, reference, moment):
    child = PROCESSES.Process(target=run_and_die, args=(tmp_path, moment))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL  # it got there
    assert_same(run_study(small(Toy(poison={1: 7})), tmp_path, options=OPTIONS), reference)
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == [".lock", "study.sqlite", "study.sqlite.bak"]


# A driver that is killed


class Endless(Toy):
    """Tells in which process it is trained, and goes on for ever."""

    def __init__(self, folder: Path, driver: int) -> None:
        super().__init__()
        self.folder, self.driver = folder, driver

    def batch(self, seed, t, config):
        if os.getpid() != self.driver:
            (self.folder / f"worker-{os.getpid()}").touch()
            time.sleep(0.05)
        return super().batch(seed, t, config)


def drive(folder: Path) -> None:
    study = small(Endless(folder, os.getpid()), steps=10**6, eval_every=10**6)
    run_study(study, folder / "study", options=Options(workers=2, chunk=4))


@pytest.mark.slow
def test_workers_end_with_their_driver(tmp_path):
    """They would go on writing checkpoints beside those of the run that is resumed."""
    driver = PROCESSES.Process(target=drive, args=(tmp_path,))
    driver.start()
    until(lambda: len(list(tmp_path.glob("worker-*"))) == 2)
    driver.kill()
    driver.join()
    workers = [int(path.name.removeprefix("worker-")) for path in tmp_path.glob("worker-*")]
    until(lambda: not any(map(alive, workers)))
    with Store(tmp_path / "study") as store:  # nobody holds the lock
        assert store.counts() == {"pending": 8}
