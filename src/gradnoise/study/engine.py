"""What trains a study's trials, and where their checkpoints lie: three contracts that name no framework.

The driver (`run_study`) alone knows the store. It hands out slices: train this chunk of trials from update `step` for
some seconds. A worker answers with a `SliceResult`, by value. A slice that is lost is handed out again and brings the
same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from gradnoise.study.spec import Config, Subject

MetricRow = tuple[str, str, int, float]


class JobTrial(NamedTuple):
    """A trial as a worker needs it."""

    id: str
    seed: int
    config: Config


@dataclass(frozen=True)
class Job:
    """A chunk of trials that train together; plain values, so that it travels to another process or machine.

    Args:
        chunk: id of the chunk; empty for one that is only timed.
        trials: its trials, in the order of the rows of the population.
    """

    chunk: str
    trials: tuple[JobTrial, ...]

    @property
    def config(self) -> Config:
        """The configuration of the first trial; what a chunk must agree on is the same in all of them."""
        return self.trials[0].config

    @property
    def steps(self) -> int:
        """Updates per trial."""
        return self.config["steps"]


@dataclass(frozen=True)
class SliceResult:
    """What a slice of training brought: committed as one transaction.

    Args:
        chunk: id of the chunk.
        step: updates done; a checkpoint of this step is kept unless `done`.
        done: whether the chunk needs no more training.
        rows: (trial id, metric, step, value).
        diverged: trial id -> update at which it stopped being finite.
        final: trial id -> metrics that count, for trials that ended.
        seconds: time that the slice took.
        finished: trial id -> updates done, for trials that ended before the last update.
        events: what went wrong without harm to the numbers, such as a lost checkpoint; one sentence each.
        notes: what a reader of verdicts must know of these trials, such as how they are paired; a sentence each,
            without its full stop. The same sentence of several chunks is said once, with their number.
    """

    chunk: str
    step: int
    done: bool
    rows: Sequence[MetricRow]
    diverged: Mapping[str, int]
    final: Mapping[str, Mapping[str, float]]
    seconds: float
    finished: Mapping[str, int] = field(default_factory=dict)
    events: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """What a worker found out by timing some updates.

    Args:
        size: trials to train together; 0 for those of one seed, however many they are.
        seconds: per trial and update at that size, evaluations included.
        bytes: most memory that the worker has used so far.
        start: seconds until a chunk makes its first update.
    """

    size: int
    seconds: float
    bytes: int
    start: float = 0.0


#: What a configuration measures before it is trained: a name and a number, or a text such as a hash of the code.
Behaviour = Mapping[str, float | str]

#: Ends the name of a configuration's behaviour in later updates, which folders of older versions have not.
LATER = " later"


@dataclass(frozen=True)
class Probed:
    """What an engine found out about its code before training, see `Probing`.

    Args:
        behaviours: what is measured, under the name of what it belongs to, such as a part of a configuration.
        notes: what makes training slow, or else should be known before it; one sentence each.
        measured: names of everything that an evaluation measures in all of them; empty where that is not known.
    """

    behaviours: Mapping[str, Behaviour]
    notes: tuple[str, ...] = ()
    measured: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Kept:
    """The newest checkpoint that could be read.

    Args:
        state: what was saved; None when there is nothing, and the chunk starts over.
        losses: each newer checkpoint that should be there and is not, or cannot be read; one sentence each.
        older: reads the one before it, for a state that turns out to be of something else.
    """

    state: Mapping[str, Any] | None
    losses: tuple[str, ...] = ()
    older: Callable[[], Kept] = lambda: Kept(None)


@runtime_checkable
class Keep(Protocol):
    """Where checkpoints lie: a folder, an object store. It is pickled to workers."""

    def save(self, chunk: str, step: int, state: Mapping[str, Any]) -> None:
        """Keep the state after `step` updates, and the one before it; whole or not at all.

        Raises:
            CheckpointError: it cannot be written; older checkpoints stay as they are.
        """
        ...

    def latest(self, chunk: str, step: int) -> Kept:
        """Read the newest state of at most `step` updates; what is missing or damaged on the way is told of."""
        ...

    def drop(self, chunk: str) -> None:
        """Remove all checkpoints of a chunk; what cannot be removed does no harm."""
        ...


class Worker(Protocol):
    """Trains chunks, in one process. It owns what it trains between two slices of the same chunk."""

    def measure(self, job: Job, whole: bool) -> Measurement:
        """Time some updates where training will run.

        Args:
            job: trials that can train together, as many as a chunk may have.
            whole: whether they are a chunk; otherwise the worker chooses how many of them train best together.
        """
        ...

    def advance(self, job: Job, step: int, seconds: float) -> SliceResult:
        """Train a chunk from `step` for about `seconds`, up to an evaluation, and keep a checkpoint of it.

        The numbers depend on the job alone; how long a slice is decides only how much of the run it covers.

        Args:
            job: the chunk.
            step: updates done so far, as the store knows it.
            seconds: stop at the first evaluation after this time.

        Raises:
            GradnoiseError: it cannot be trained; the message says why.
        """
        ...


@runtime_checkable
class Engine(Subject, Protocol):
    """What trains trials. It is pickled to where its workers run."""

    def keys(self) -> Collection[str] | None:
        """Return all keys that a configuration may have; None when that is not known."""
        ...

    def check(self, seed: int, config: Config) -> None:
        """Check the values of a configuration, before anything is made; called with the first of its seeds.

        Raises:
            GradnoiseError: a value is out of range.
        """
        ...

    def group(self, config: Config) -> Hashable:
        """Return what trials must agree on to train together."""
        ...

    def local_workers(self) -> int:
        """Return how many workers pay on this machine: its cores, or one for an accelerator.

        Raises:
            StudyError: this machine cannot train at all; the message says what it lacks.
        """
        ...

    def worker(self, keep: Keep) -> Worker:
        """Make a worker in the process that calls."""
        ...


@runtime_checkable
class Probing(Protocol):
    """An engine that can tell what its code does. Code is no part of a trial's id.

    What it finds is kept in the study's store and compared whenever the study is run again: finished trials of other
    code would otherwise be taken for those of today's.
    """

    def probe(self, configs: Sequence[Config], known: Collection[str]) -> Probed:
        """Measure what decides how trials of these configurations train, in the driver's process and in seconds.

        Numbers are compared to a part in a thousand, so that other machines agree; texts must be equal.

        Args:
            configs: of the trials, each once.
            known: names of behaviours that were found fit in an earlier run; new ones are examined more closely.

        Raises:
            GradnoiseError: they cannot be trained as a study needs it; the message says why.
        """
        ...
