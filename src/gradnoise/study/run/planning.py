"""What a run will do: which trials train together, in how many workers, and how long it will take."""

from __future__ import annotations

import itertools
import math
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gradnoise.errors import StudyError
from gradnoise.population import Population, best_size, plan
from gradnoise.population.chunks import CANDIDATES
from gradnoise.study.run.population_engine import Job, build, job_of, limited_threads, replica_of, shape_key
from gradnoise.study.spec import Study, Trial
from gradnoise.study.store import Chunk, Store, chunk_id

#: Below this much work, starting worker processes costs more than it saves.
WORKER_SECONDS = 20.0


@dataclass(frozen=True)
class Options:
    """How to run; none of it changes what is computed beyond rounding.

    Args:
        workers: worker processes; None measures and decides.
        device: "cpu", "cuda", ...
        compile: compile the training step.
        chunk: replicas in a population; None measures and decides.
    """

    workers: int | None = None
    device: str = "cpu"
    compile: bool = False
    chunk: int | None = None


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Args:
        chunks: jobs not finished yet, with the step that each stands at.
        trials: trials of the study; done: those finished before.
        workers: processes that will run them (1: this process).
        seconds_per_step: of one replica and update in one worker, as timed; nan when nothing was timed.
        bytes: memory of all workers, as far as the timing shows.
    """

    chunks: tuple[tuple[Job, int], ...]
    trials: int
    done: int
    workers: int
    seconds_per_step: float
    bytes: int

    @property
    def replica_steps(self) -> int:
        """Updates still to do, summed over trials."""
        return sum(len(job.trials) * (job.config["steps"] - step) for job, step in self.chunks)

    @property
    def seconds(self) -> float:
        """Estimated time; evaluations not counted."""
        return self.replica_steps * self.seconds_per_step / self.workers


def prepare(study: Study, folder: Path, store: Store | None, options: Options) -> Plan:
    """Plan a run by timing a few updates; nothing is written.

    Args:
        study: what is asked.
        folder: of the study.
        store: the open store, or None for a fresh folder.
        options: how to run.
    """
    trials = check(study, options)
    existing = store.chunks() if store else []
    taken = {t for chunk in existing for t in chunk.trials}
    known = (store.trials(study.dataclasses()) if store else {}) | trials
    begun = [c for c in existing if not c.done and any(t in trials for t in c.trials)]
    fresh = [t for t in trials.values() if t.id not in taken]
    done = sum(t in trials for c in existing if c.done for t in c.trials)
    left = sum(known[t].config["steps"] - c.step for c in begun for t in c.trials)
    left += sum(t.config["steps"] for t in fresh)
    workers, size, seconds = 1, 1, math.nan
    if left:
        first = [known[t] for t in begun[0].trials] if begun else []
        workers, size, seconds = _measure(study, fresh or first, not fresh, left, folder, options)
    new = [Chunk(chunk_id(ids), ids) for ids in (tuple(t.id for t in c) for c in _cut(study, fresh, size))]
    jobs = tuple((_job(c, [known[t] for t in c.trials], folder, options), c.step) for c in (*begun, *new))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Plan(jobs, len(trials), done, max(1, min(workers, len(jobs))), seconds, peak * workers)


def check(study: Study, options: Options) -> dict[str, Trial]:
    """Find what is wrong before anything is made or timed.

    Returns:
        The trials by id, each one that the engine takes.

    Raises:
        StudyError: the device cannot be used, or a configuration cannot be written down or comes twice.
        PopulationError: a value is out of range.
    """
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StudyError(f"device {options.device!r} cannot be used here ({reason}); use --device cpu") from error
    trials: dict[str, Trial] = {}
    for trial in study.trials():
        replica_of(trial.seed, trial.config)
        other = trials.setdefault(trial.id, trial)
        if other is not trial:  # it would be trained once and lose one of its labels
            raise StudyError(
                f"arms {other.arm!r} and {trial.arm!r} (rows {other.row!r}, {trial.row!r}) train the same"
                f" configuration {trial.setting!r}; remove one of them"
            )
    return trials


def _job(chunk: Chunk, trials: Sequence[Trial], folder: Path, options: Options) -> Job:
    """One thread on a CPU, always: sums rounded in another order would depend on how many there are."""
    return job_of(
        chunk.id,
        trials,
        folder / "checkpoints" / chunk.id,
        device=options.device,
        compile=options.compile,
        threads=1 if options.device == "cpu" else None,
    )


def _groups(study: Study, trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Trials that can train together."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(shape_key(study.experiment, trial.config), []).append(trial)
    yield from groups.values()


def _cut(study: Study, trials: Sequence[Trial], size: int) -> Iterator[list[Trial]]:
    for group in _groups(study, trials):
        by_seed = sorted(group, key=lambda t: study.seeds.index(t.seed))
        counts = [len(list(g)) for _, g in itertools.groupby(by_seed, key=lambda t: t.seed)]
        for positions in plan(counts, size):
            yield [by_seed[i] for i in positions]


def _measure(
    study: Study, trials: Sequence[Trial], planned: bool, left: int, folder: Path, options: Options
) -> tuple[int, int, float]:
    """Workers, chunk size and seconds per replica-step.

    Args:
        study: what is asked.
        trials: to be cut into chunks, or a chunk.
        planned: whether `trials` are a chunk already.
        left: replica-steps still to do.
        folder: of the study.
        options: how to run.
    """
    on_cpu = options.device == "cpu"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = options.workers or (cores if on_cpu else 1)
    largest = max(_groups(study, trials), key=len)

    def population(size: int) -> Population:
        return build(study.experiment, job_of("", largest[:size], folder, device=options.device))

    most = len(largest) if planned else options.chunk or max(1, math.ceil(len(largest) / workers))
    candidates = (most,) if planned or options.chunk or not on_cpu else CANDIDATES
    with limited_threads(1 if on_cpu else None):
        size, seconds = best_size(population, most, candidates=candidates)
    if options.workers is None and workers > 1:
        workers = workers if seconds * left > WORKER_SECONDS else 1
    return workers, size, seconds
