"""kill -9 at any moment, then the same command: the final tables are those of an undisturbed run."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from gradnoise.paper import load_system
from gradnoise.study import Options, Store, run_study
from gradnoise.study.report.export import curves_csv_gz, trials_csv

PROCESSES = multiprocessing.get_context("forkserver")


def run(folder: Path) -> None:
    """The smoke study, committing at every evaluation so that there are many moments to be killed at."""
    import torch

    torch.set_num_threads(1)
    options = Options(workers=1, chunk=4, slice_seconds=0.0)
    run_study(load_system("deep-mlp").study("smoke", "digits"), folder, options=options)


def start(folder: Path) -> multiprocessing.Process:
    process = PROCESSES.Process(target=run, args=(folder,))
    process.start()
    return process


def tables(folder: Path) -> tuple[bytes, bytes]:
    with Store(folder, readonly=True) as store:
        results = store.results()
    return trials_csv(results), curves_csv_gz(results)


def finish(folder: Path) -> float:
    """Repeat the command undisturbed; how long it took."""
    started = time.monotonic()
    process = start(folder)
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - started


@pytest.mark.parametrize("times", [3, 24])
def test_killed_at_random_moments(tmp_path, times):
    finish(tmp_path / "warm")  # compiles and caches the noise kernel
    duration = finish(tmp_path / "undisturbed")
    expected = tables(tmp_path / "undisturbed")
    moments = random.Random(0)
    kills, study = 0, 0
    while kills < times:
        folder = tmp_path / f"study-{study}"
        study += 1
        while kills < times:
            process = start(folder)
            process.join(moments.uniform(0, 1.1 * duration))
            if not process.is_alive():
                assert process.exitcode == 0
                break
            process.kill()
            process.join()
            kills += 1
        finish(folder)
        assert tables(folder) == expected
