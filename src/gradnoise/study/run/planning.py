"""What a run will do: which trials train together, with how many workers, and how long it will take."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gradnoise.errors import MemoryFullError, StudyError
from gradnoise.study.damage import damaged
from gradnoise.study.engine import Engine, Job, JobTrial, Measurement, Worker
from gradnoise.study.run.options import Options
from gradnoise.study.run.resolve import Resolved
from gradnoise.study.spec import Trial
from gradnoise.study.store import Chunk, Store, chunk_id

#: Trials in a quick look at the time that a study will take.
LOOK = 8

Measure = Callable[[Job, bool], Measurement]  # see `Worker.measure`


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Args:
        chunks: jobs not finished yet, with the step that each stands at.
        arms: names of the arms of the study's trials, by the trials' ids.
        done: trials of the study that were finished before.
        workers: how many will train at once.
        seconds_per_step: of one trial and update in one worker, evaluations included, as timed; nan when nothing was
            timed.
        bytes: memory of all workers, as far as the timing shows.
        rows: rows of the study's trials, by the trials' ids.
        start: seconds until a chunk makes its first update.
        notes: what should be known before training, one sentence each; what the timing found out comes last.
        finished: when an earlier run of the folder came to its end; "" where none did.
    """

    chunks: tuple[tuple[Job, int], ...]
    arms: Mapping[str, str]
    done: int
    workers: int
    seconds_per_step: float
    bytes: int
    rows: Mapping[str, str] = field(default_factory=dict)
    start: float = 0.0
    notes: tuple[str, ...] = ()
    finished: str = ""

    @property
    def trials(self) -> int:
        """Number of trials of the study."""
        return len(self.arms)

    @property
    def replica_steps(self) -> int:
        """Updates still to do, summed over trials."""
        return sum(len(job.trials) * (job.steps - step) for job, step in self.chunks)

    @property
    def seconds(self) -> float:
        """Estimated time: of the worker that is busy longest, where each takes the next chunk when it is free."""
        free = [0.0] * self.workers
        for job, step in reversed(self.chunks):  # as the runner hands them out
            heapq.heapreplace(free, free[0] + self.start + len(job.trials) * (job.steps - step) * self.seconds_per_step)
        return max(free)


@dataclass(frozen=True)
class Remaining:
    """What is left of a study.

    Args:
        resolved: the study.
        begun: chunks of earlier runs that hold one of its trials and are not done.
        fresh: trials that are in no chunk yet.
        done: number of its trials that are done.
        known: all trials of the study and of the folder, by id.
    """

    resolved: Resolved
    begun: tuple[Chunk, ...]
    fresh: tuple[Trial, ...]
    done: int
    known: Mapping[str, Trial]

    @property
    def replica_steps(self) -> int:
        """Updates still to do, summed over trials."""
        begun = sum(self.known[t].config["steps"] - c.step for c in self.begun for t in c.trials)
        return begun + sum(t.config["steps"] for t in self.fresh)

    @property
    def sample(self) -> list[Trial]:
        """Trials to be timed: all that can train together with most others, or a chunk that is begun."""
        trials = list(self.fresh) or [self.known[t] for t in self.begun[0].trials]
        return max(_groups(self.resolved.engine, trials), key=len)


def remaining(resolved: Resolved, store: Store | None, known: Mapping[str, Trial]) -> Remaining:
    """Find what is left to train.

    Args:
        resolved: what is asked.
        store: of the folder; None for a fresh one.
        known: the trials in it by id.
    """
    chunks = store.chunks() if store else []
    taken = {t for chunk in chunks for t in chunk.trials}
    trials = {**known, **resolved.trials}
    if store and (lost := taken - known.keys()):
        raise damaged(store.folder, f"a chunk has an unknown trial {min(lost)}")
    return Remaining(
        resolved,
        begun=tuple(c for c in chunks if not c.done and any(t in resolved.trials for t in c.trials)),
        fresh=tuple(t for id, t in resolved.trials.items() if id not in taken),
        done=sum(t in resolved.trials for c in chunks if c.done for t in c.trials),
        known=trials,
    )


def make_plan(left: Remaining, options: Options, workers: int, measure: Measure) -> Plan:
    """Plan a run by timing a few updates; nothing is written.

    Args:
        left: what is to be trained.
        options: how to run.
        workers: how many may train at once.
        measure: times some updates where training will run.
    """
    arms = {id: trial.arm for id, trial in left.resolved.trials.items()}
    rows = {id: trial.row for id, trial in left.resolved.trials.items()}
    if not (left.begun or left.fresh):
        return Plan((), arms, left.done, 1, math.nan, 0, rows)
    sample = left.sample
    whole = not left.fresh or options.chunk is not None
    if left.fresh:
        sample = sample[: options.chunk or math.ceil(len(sample) / workers)]
    found, notes = timed(measure, sample, whole)
    jobs = [(_job(c.id, [left.known[t] for t in c.trials]), c.step) for c in left.begun]
    for trials in _cut(left.resolved, left.fresh, found.size):
        jobs.append((_job(chunk_id([t.id for t in trials]), trials), 0))
    workers = min(workers, len(jobs))
    memory = found.bytes * workers
    return Plan(tuple(jobs), arms, left.done, workers, found.seconds, memory, rows, found.start, notes)


def timed(measure: Measure, sample: Sequence[Trial], whole: bool) -> tuple[Measurement, tuple[str, ...]]:
    """Time some trials together, or half of them where memory runs out, and so on; it is told by a sentence.

    Raises:
        StudyError: it runs out with one trial, too.
    """
    notes: list[str] = []
    while True:
        try:
            return measure(_job("", sample), whole), tuple(notes)
        except MemoryFullError as error:
            if len(sample) == 1:
                raise StudyError(f"{error}: it does not suffice for one; train on a machine with more") from error
            sample = sample[: -(-len(sample) // 2)]
            notes.append(f"{error}: {len(sample)} are tried")


def halves(job: Job) -> list[Job]:
    """Cut the trials of a job into two jobs."""
    middle = -(-len(job.trials) // 2)
    parts = (job.trials[:middle], job.trials[middle:])
    return [Job(chunk_id([t.id for t in part]), part) for part in parts]


def count_workers(left: Remaining, options: Options, worker: Worker) -> int:
    """Return how many workers to use on this machine: those asked for, or as many as pay.

    Args:
        left: what is to be trained.
        options: how to run.
        worker: one in this process, for a quick look at how long it will take.
    """
    if options.workers is not None or not left.replica_steps:
        return options.workers or 1
    most = left.resolved.engine.local_workers()
    if most == 1:
        return 1
    seconds = timed(worker.measure, left.sample[:LOOK], True)[0].seconds
    return most if seconds * left.replica_steps > options.worker_seconds else 1


def _job(chunk: str, trials: Sequence[Trial]) -> Job:
    return Job(chunk, tuple(JobTrial(t.id, t.seed, t.config) for t in trials))


def _groups(engine: Engine, trials: Sequence[Trial]) -> list[list[Trial]]:
    """Sort trials by what can train together."""
    configs = {id(trial.config): trial.config for trial in trials}  # seeds share theirs
    keys = {id: engine.group(config) for id, config in configs.items()}
    groups: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(keys[id(trial.config)], []).append(trial)
    return list(groups.values())


def _cut(resolved: Resolved, trials: Sequence[Trial], size: int) -> Iterator[list[Trial]]:
    """Cut trials into chunks of about `size` that can train together; of one seed each where `size` is 0."""
    place = {seed: i for i, seed in enumerate(resolved.study.seeds)}
    for group in _groups(resolved.engine, trials):
        by_seed = sorted(group, key=lambda t: place[t.seed])
        counts = [len(list(g)) for _, g in itertools.groupby(by_seed, key=lambda t: t.seed)]
        if not size:
            yield from (list(seed) for _, seed in itertools.groupby(by_seed, key=lambda t: t.seed))
            continue
        for positions in cut_seeds(counts, size):
            yield [by_seed[i] for i in positions]


def cut_seeds(counts: Sequence[int], size: int) -> list[list[int]]:
    """Cut seeds into chunks of about `size` trials, whole seeds together where they fit.

    Trials of one seed share their minibatches, which makes a chunk of one seed cheaper; and whole
    seeds mean that a half-finished study holds whole pairs.

    Args:
        counts: trials of each seed, in order.
        size: trials wanted in a chunk, >= 1.

    Returns:
        Chunks of positions 0..sum(counts)-1, in order.
    """
    chunks: list[list[int]] = []
    current: list[int] = []
    position = 0
    for count in counts:
        seed = list(range(position, position + count))
        position += count
        if current and len(current) + count > size:
            chunks.append(current)
            current = []
        if count <= 1.5 * size:
            current += seed
            continue
        pieces = -(-count // size)
        for i in range(pieces):
            chunks.append(seed[i * count // pieces : (i + 1) * count // pieces])
    if current:
        chunks.append(current)
    return chunks
