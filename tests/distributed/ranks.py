"""Runs functions on ranks: processes on this machine that talk to each other by gloo.

Importing torch takes a process seconds, so all functions of a session share one group of processes per size.
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
"""Numbers of ranks, in the order in which they run: what 2 ranks saved, 1 and 4 find."""

PATIENCE = 100
"""Seconds until a group that does not end is taken for hung."""

Scenario = Callable[[], Any]
_scenarios: dict[int, list[Scenario]] = {size: [] for size in SIZES}


def on_ranks(*sizes: int) -> Callable[[Scenario], Scenario]:
    """Have a function called on every rank of groups of these sizes; `ranks` gives its results.

    The working directory is a folder that all ranks of all groups share. Each rank has a global seed of its own,
    as data loading and dropout ask for.
    """

    def register(scenario: Scenario) -> Scenario:
        for size in sizes:
            _scenarios[size].append(scenario)
        return scenario

    return register


def run_all(folder: Path) -> dict[tuple[Scenario, int], list[Any]]:
    """What each scenario returned on ranks 0, 1, ... of each size."""
    outcomes = {}
    for size, scenarios in _scenarios.items():
        by_rank = _run(scenarios, size, folder)
        outcomes |= {(s, size): [outcome[i] for outcome in by_rank] for i, s in enumerate(scenarios)}
    return outcomes


def _run(scenarios: list[Scenario], size: int, folder: Path) -> list[list[Any]]:
    # A fork server imports torch once for all ranks; on macOS forked processes may not use system libraries.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload([__name__, "gradnoise", *(s.__module__ for s in scenarios)])
    processes = [context.Process(target=_rank, args=(r, size, folder, scenarios), daemon=True) for r in range(size)]
    for process in processes:
        process.start()
    while alive := [process.sentinel for process in processes if process.is_alive()]:
        if not wait(alive, PATIENCE) or any(process.exitcode for process in processes):
            break
    for process in processes:
        process.kill()
        process.join()
    if ends := [p.exitcode for p in processes if p.exitcode]:
        errors = [file.read_text() for file in sorted(folder.glob(f"error-{size}-*"))]
        raise RuntimeError(f"of {size} ranks some ended with exit codes {ends}\n" + "\n".join(errors))
    return [torch.load(folder / f"outcome-{size}-{rank}", weights_only=False) for rank in range(size)]


def _rank(rank: int, size: int, folder: Path, scenarios: list[Scenario]) -> None:
    os.chdir(folder)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous-{size}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=PATIENCE / 2),
    )
    try:
        torch.save([scenario() for scenario in scenarios], f"outcome-{size}-{rank}")
        dist.barrier()
    except Exception:
        Path(f"error-{size}-{rank}").write_text(f"--- rank {rank}\n{traceback.format_exc()}")
        raise
    finally:
        dist.destroy_process_group()
