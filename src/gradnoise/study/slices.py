"""Training a chunk of trials a slice at a time: the unit of work that runners hand out, retry and resume."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gradnoise.population import SGD, Experiment, Population, Replica, checkpoint
from gradnoise.study.spec import Config, Trial
from gradnoise.study.store import MetricRow, Report

#: Configuration keys that decide what a chunk computes together; all others of a trial are the experiment's.
ENGINE_KEYS = frozenset({"lr", "noise", "clip", "dropout"})


@dataclass(frozen=True)
class Job:
    """A chunk as a worker needs it; plain data, so that it travels to another process or machine.

    Args:
        id: of the chunk.
        trials: ids and configurations, in row order.
        folder: where the chunk's checkpoints lie.
        device: where to train.
        compile: whether to compile the training step.
        threads: torch threads to use, or None to leave them.
    """

    id: str
    trials: tuple[tuple[str, int, Config], ...]
    folder: Path
    device: str = "cpu"
    compile: bool = False
    threads: int | None = None

    @property
    def config(self) -> Config:
        """The configuration of the first trial; what is not per replica is the same in all."""
        return self.trials[0][2]


def job_of(id: str, trials: Sequence[Trial], folder: Path, **options: object) -> Job:
    """The job of some trials."""
    return Job(id, tuple((t.id, t.seed, t.config) for t in trials), folder, **options)  # type: ignore[arg-type]


def replica_of(seed: int, config: Config) -> Replica:
    """The engine's view of a trial: reserved keys of its configuration, the rest for the experiment."""
    return Replica(
        seed=seed,
        lr=config.get("lr", 0.1),
        noise=config.get("noise"),
        clip=config.get("clip"),
        dropout=config.get("dropout"),
        study_seed=config.get("study_seed", 0),
        config=config,
    )


def shape_key(experiment: Experiment, config: Config) -> tuple[tuple[str, str], ...]:
    """What trials must agree on to train as one population."""
    free = (ENGINE_KEYS - {"dropout"}) | experiment.replica_keys
    shared = {k: v for k, v in config.items() if k not in free}
    shared["dropout"] = bool(config.get("dropout"))
    return tuple(sorted((k, repr(v)) for k, v in shared.items()))


def build(experiment: Experiment, job: Job) -> Population:
    """A fresh population of a job's trials."""
    return Population(
        experiment,
        [replica_of(seed, config) for _, seed, config in job.trials],
        optimizer=job.config.get("optimizer", SGD()),
        clip_per=job.config.get("clip_per", "replica"),
        device=job.device,
        compile=job.compile,
    )


#: The population of the last slice, so that the next one need not read its checkpoint.
_resident: tuple[Experiment, Job, Population] | None = None


def advance(experiment: Experiment, job: Job, step: int, seconds: float) -> Report:
    """Train a chunk from `step` for about `seconds`, up to an evaluation, and leave a checkpoint there.

    The result depends on (experiment, job, step) alone; how long a slice is decides only how much of the
    run it covers. A slice that is lost is simply run again.

    Args:
        experiment: what is trained.
        job: the chunk.
        step: updates done so far, as the store knows it.
        seconds: stop at the first evaluation after this time.

    Returns:
        What the slice brought, to be committed.

    Raises:
        PopulationError: the experiment does not fit a population; the message says why.
        CheckpointError: the checkpoint cannot be written.
    """
    global _resident
    started = time.monotonic()
    with limited_threads(job.threads):
        population = _take(experiment, job, step)
        before = dict(population.diverged)
        rows, metrics = _train(job, population, started + seconds)
        done = not population.alive or population.t >= job.config["steps"]
        if not done:
            checkpoint.save(job.folder, population.t, population.state_dict())
            _resident = experiment, job, population
    return Report(
        chunk=job.id,
        step=population.t,
        done=done,
        rows=rows,
        diverged={job.trials[i][0]: t for i, t in population.diverged.items()},
        final=_final(experiment, job, population, metrics if done else {}, before),
        seconds=time.monotonic() - started,
    )


@contextmanager
def limited_threads(number: int | None) -> Iterator[None]:
    """Run a block with this number of torch threads; the caller may be a program with a number of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _take(experiment: Experiment, job: Job, step: int) -> Population:
    """The population at `step`: still in memory, from its checkpoint, or (if that is damaged) trained again.

    The one in memory is taken out: a slice that is interrupted in the middle of an update leaves it in pieces.
    """
    global _resident
    kept, _resident = _resident, None
    if kept and kept[0] is experiment and kept[1] == job and kept[2].t == step:
        return kept[2]
    population = build(experiment, job)
    for candidate in sorted((s for s in checkpoint.steps(job.folder) if s <= step), reverse=True):
        try:
            population.load_state_dict(checkpoint.load(job.folder, candidate, job.device))
            break
        except checkpoint.CheckpointError:
            continue  # an older one, or the start, gives the same run
    return population


def _train(job: Job, population: Population, deadline: float) -> tuple[list[MetricRow], dict[str, Tensor]]:
    """Train up to the first evaluation after the deadline; all metric rows, and the last metrics."""
    steps, every = job.config["steps"], job.config["eval_every"]
    rows: list[MetricRow] = []
    metrics: dict[str, Tensor] = {}
    while population.alive and population.t < steps:
        population.step()
        if population.alive and (population.t % every == 0 or population.t == steps):
            metrics = _measure(population)
            rows += _rows(job, population, metrics)
            if time.monotonic() > deadline:
                break
    return rows, metrics


def _measure(population: Population) -> dict[str, Tensor]:
    metrics = population.evaluate() | population.telemetry()
    population.forget()
    return {name: value.detach().double().cpu() for name, value in metrics.items()}


def _rows(job: Job, population: Population, metrics: dict[str, Tensor]) -> list[MetricRow]:
    ids = [job.trials[i][0] for i in population.alive]
    return [
        (trial, name, population.t, value)
        for name, values in metrics.items()
        for trial, value in zip(ids, values.tolist(), strict=True)
    ]


def _final(
    experiment: Experiment,
    job: Job,
    population: Population,
    metrics: dict[str, Tensor],
    before: dict[int, int],
) -> dict[str, dict[str, float]]:
    """Metrics that count: of the last evaluation for finished trials, of a broken model for those that diverged."""
    final = {job.trials[i][0]: experiment.broken() for i in population.diverged if i not in before}
    if metrics:
        for row, i in enumerate(population.alive):
            final[job.trials[i][0]] = {name: values[row].item() for name, values in metrics.items()}
    return final
