"""Runs functions on ranks: processes on this machine that talk to each other by gloo.

Starting processes takes seconds, so all scenarios of a test file share one group of ranks per size, and the tests
look at what they returned.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

if not dist.is_available() or not dist.is_gloo_available():
    pytest.skip("this build of PyTorch has no torch.distributed with gloo", allow_module_level=True)

SIZES = (2, 1, 4)
"""Numbers of ranks, in the order in which they run: 1 and 4 find what 2 have saved."""

PATIENCE = 300
"""Seconds after which ranks that do not end are taken for hung."""

Scenario = Callable[[], Any]
_scenarios: dict[tuple[str, int], list[Scenario]] = {}


def on_ranks(*sizes: int) -> Callable[[Scenario], Scenario]:
    """Have a function called on every rank of groups of these sizes; the fixture `ranks` gives what it returned.

    Its working directory is a folder that all ranks of all groups of a test file share. Each rank has a global seed
    of its own, as data loading and dropout want it.
    """

    def register(scenario: Scenario) -> Scenario:
        for size in sizes:
            _scenarios.setdefault((scenario.__module__, size), []).append(scenario)
        return scenario

    return register


def run_all(module: str, folder: Path) -> dict[tuple[Scenario, int], list[Any]]:
    """What each scenario of a module returned on ranks 0, 1, ... of each size."""
    outcomes = {}
    for size in SIZES:
        scenarios = _scenarios.get((module, size), [])
        by_rank = _run(scenarios, size, folder) if scenarios else []
        outcomes |= {(s, size): [outcome[i] for outcome in by_rank] for i, s in enumerate(scenarios)}
    return outcomes


def _run(scenarios: list[Scenario], size: int, folder: Path) -> list[list[Any]]:
    # The fork server has imported torch for all ranks; on macOS system libraries do not survive a fork.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    processes = [context.Process(target=_rank, args=(r, size, folder, scenarios), daemon=True) for r in range(size)]
    for process in processes:
        process.start()
    while alive := [process.sentinel for process in processes if process.is_alive()]:
        if not wait(alive, PATIENCE) or any(process.exitcode for process in processes):
            break
    for process in processes:
        process.kill()
        process.join()
    if any(process.exitcode for process in processes):
        errors = [file.read_text() for file in sorted(folder.glob(f"error-{size}-*"))]
        codes = [process.exitcode for process in processes]
        raise RuntimeError(f"of {size} ranks some failed, exit codes {codes}\n" + "\n".join(errors))
    return [torch.load(folder / f"outcome-{size}-{rank}", weights_only=False) for rank in range(size)]


def _rank(rank: int, size: int, folder: Path, scenarios: list[Scenario]) -> None:
    os.chdir(folder)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    timeout = timedelta(seconds=PATIENCE / 2)
    file = f"file://{folder}/rendezvous-{size}"  # no port that another run could want
    dist.init_process_group("gloo", init_method=file, rank=rank, world_size=size, timeout=timeout)
    try:
        torch.save([scenario() for scenario in scenarios], f"outcome-{size}-{rank}")
        dist.barrier()
    except Exception:
        Path(f"error-{size}-{rank}").write_text(f"--- rank {rank}\n{traceback.format_exc()}")
        raise
    finally:
        dist.destroy_process_group()
