"""Training a chunk of trials a slice at a time: the unit of work that runners hand out, retry and resume."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from gradnoise.population import SGD, Experiment, Population, Replica, checkpoint
from gradnoise.study.spec import Config, Trial
from gradnoise.study.store import MetricRow, Report

#: Configuration keys that decide what a chunk computes together; all others of a trial are the experiment's.
ENGINE_KEYS = frozenset({"lr", "noise", "clip", "dropout", "early_stop", "noise_first", "weight_noise"})


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
        early_stop=config.get("early_stop", True),
        noise_first=config.get("noise_first", False),
        weight_noise=config.get("weight_noise"),
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
        before = set(population.diverged)
        rows, final = _train(job, population, started + seconds)
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
        finished={job.trials[i][0]: t for i, t in population.finished.items()},
        final=final | {job.trials[i][0]: experiment.broken() for i in population.diverged.keys() - before},
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


def _train(job: Job, population: Population, deadline: float) -> tuple[list[MetricRow], dict[str, dict[str, float]]]:
    """Train up to the first evaluation after the deadline.

    Returns:
        All metric rows, and the metrics that count of the trials that are done: those of their last evaluation.
    """
    steps, every = job.config["steps"], job.config["eval_every"]
    rows: list[MetricRow] = []
    final: dict[str, dict[str, float]] = {}
    while population.alive and population.t < steps:
        population.step()
        if population.alive and (population.t % every == 0 or population.t == steps):
            names, metrics = _measure(job, population)
            rows += [
                (trial, metric, population.t, value)
                for metric, values in metrics.items()
                for trial, value in zip(names, values, strict=True)
            ]
            left = set() if population.t == steps else {job.trials[i][0] for i in population.alive}
            final |= {
                trial: {metric: values[row] for metric, values in metrics.items()}
                for row, trial in enumerate(names)
                if trial not in left
            }
            if time.monotonic() > deadline:
                break
    return rows, final


def _measure(job: Job, population: Population) -> tuple[list[str], dict[str, list[float]]]:
    """Evaluate, and let finished replicas go: ids of the trials that were evaluated, and their metrics."""
    metrics = population.evaluate()
    measured = metrics | population.telemetry()
    ids = [job.trials[i][0] for i in population.alive]
    population.forget()
    if metrics:
        population.retire(metrics)
    return ids, {name: value.detach().double().tolist() for name, value in measured.items()}
