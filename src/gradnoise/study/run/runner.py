"""From a study to its finished store: run the planned chunks slice by slice and commit what comes back."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from gradnoise.errors import MemoryFullError, StudyError
from gradnoise.files import check_within
from gradnoise.given import arguments
from gradnoise.study.analysis.power import too_few_seeds
from gradnoise.study.engine import Job, Keep, Measurement, SliceResult
from gradnoise.study.results import StudyResults
from gradnoise.study.run.changed_code import look_at_code
from gradnoise.study.run.equal_seeds import EqualSeeds
from gradnoise.study.run.executors import AUTO, LOCAL, Executor, InProcess, WorkerDied, WorkerTaken, executor_named
from gradnoise.study.run.folder import finished_record, known_trials, merged_record
from gradnoise.study.run.inert import InertArms
from gradnoise.study.run.keep import FolderKeep
from gradnoise.study.run.measured import check_slice
from gradnoise.study.run.memory import NOT_FOR_ONE
from gradnoise.study.run.options import Options
from gradnoise.study.run.planning import Plan, Remaining, count_workers, halves, make_plan, remaining
from gradnoise.study.run.resolve import Resolved, resolve
from gradnoise.study.run.taken_over import enter, has_tables_alone, take_over
from gradnoise.study.spec import Study
from gradnoise.study.store import FILE, Store

#: Where checkpoints lie within a study's folder.
CHECKPOINTS = "checkpoints"

#: A chunk whose worker dies, or whose checkpoint is lost, this often in a row ends the study with a clear message.
MOST_SETBACKS = 3
#: Seconds between two looks at the number of slots.
SLOTS_SECONDS = 1.0

#: The file that is just loaded for the study in it, while which nothing is trained; empty for none.
LOADING: ContextVar[str] = ContextVar("loading", default="")


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        replica_steps: updates done in this run, summed over trials.
        total: updates to do in this run.
        counts: trials of the folder by status.
        result: the slice that was committed last; None at the start.
    """

    replica_steps: int
    total: int
    counts: Mapping[str, int]
    result: SliceResult | None


class Observer:
    """Is told what a run does; override what you want to know."""

    def planned(self, plan: Plan) -> None:
        """Hear what will be done; called once, before training starts."""

    def progressed(self, progress: Progress) -> None:
        """Hear how far it is; called before the first slice and after every commit."""


@arguments(StudyError)
def dry_run(study: Study, folder: str | Path, options: Options | None = None, executor: str = AUTO) -> Plan:
    """Return what `run_study` would do, timed in this process; nothing is written."""
    folder, options = Path(folder), options or Options()
    chosen = _chosen(executor, options, folder)
    resolved = resolve(study, options, here=True)
    with _store_to_read(folder, resolved) as store:
        known = known_trials(resolved, store) if store else {}
        left = remaining(resolved, store, known)
        code = look_at_code(resolved, store, known, accept=options.accept_changed_code)
    worker = resolved.engine.worker(FolderKeep(folder / CHECKPOINTS))
    if isinstance(chosen, str):
        workers = count_workers(left, options, worker)
    else:
        workers = chosen.slots or resolved.engine.local_workers()
    plan = make_plan(left, options, workers, worker.measure)
    return dataclasses.replace(plan, notes=_notes(study, code.notes, plan.notes))


@arguments(StudyError)
def run_study(
    study: Study,
    folder: str | Path,
    *,
    options: Options | None = None,
    command: str = "",
    executor: Executor | str = AUTO,
    keep: Keep | None = None,
    observer: Observer | None = None,
    adds: bool = True,
) -> StudyResults:
    """Run a study to its end, or go on where an earlier run of it stopped.

    Args:
        study: what is asked.
        folder: where its store, checkpoints and report live. Finished trials in it stay finished; the same
            study with more seeds, settings or arms adds to it.
        options: how to run.
        command: the command line, for the report.
        executor: where slices run: "here", "processes", "auto" for what is faster of these, another name in
            `gradnoise.study.run.executors.EXECUTORS`, or an object.
        keep: where checkpoints lie; None for a folder within `folder`.
        observer: is told of the plan and of every commit.
        adds: whether trials of the study are added that the folder lacks; otherwise only those in it are trained on,
            and it keeps its description.

    Returns:
        All trials of the folder.

    Raises:
        StudyError: the folder holds another study, is in use, or cannot be written; or the study itself is wrong.
        PopulationError: a value is out of range, or the experiment is no experiment; the message says why.
    """
    if file := LOADING.get():
        raise StudyError(f"{file} runs a study while it is loaded; put that under `if __name__ == '__main__':`")
    folder, options = Path(folder), options or Options()
    keep = keep or _kept_in(folder)
    chosen = _chosen(executor, options, folder)
    resolved = resolve(study, options, here=executor in LOCAL)
    take_over(folder, resolved)
    with Store(folder) as store:
        known = known_trials(resolved, store)
        resolved = resolved if adds else resolved.only(known)
        left = remaining(resolved, store, known)
        code = look_at_code(resolved, store, known, accept=options.accept_changed_code)
        with _started(chosen, left, options, keep) as workers:
            plan = make_plan(left, options, workers.slots, partial(_measure, workers))
            record = merged_record(resolved, store, known, command, trains=bool(plan.chunks))
            chunks = [[t.id for t in job.trials] for job, _ in plan.chunks]
            store.extend(record, list(resolved.trials.values()), chunks)
            code.keep(store)
            for note in plan.notes:
                store.note(note)
            plan = dataclasses.replace(
                plan, notes=_notes(study, code.notes, plan.notes), finished=dict(record.provenance).get("finished", "")
            )
            if plan.chunks:
                store.copy()
            run = _Run(resolved, store, keep, workers, plan, observer or Observer())
            run.to_the_end(options.slice_seconds)
        for chunk in store.chunks():  # a run that was killed may have left checkpoints of chunks that are done
            if chunk.done:
                keep.drop(chunk.id)
        if plan.chunks or "finished" not in dict(record.provenance):
            store.put_record(finished_record(record, store.seconds()))
            store.copy()  # the whole file is checked before anybody is told that the study is finished
        return store.results()


@contextmanager
def _store_to_read(folder: Path, resolved: Resolved) -> Iterator[Store | None]:
    """Open a folder's store, or one that is made of its tables for the moment; None for a folder without either."""
    if has_tables_alone(folder):
        with TemporaryDirectory() as made:
            enter(folder, resolved, Path(made))
            with Store(Path(made), readonly=True) as store:
                yield store
    elif (folder / FILE).exists():
        with Store(folder, readonly=True) as store:
            yield store
    else:
        yield None


def _kept_in(folder: Path) -> FolderKeep:
    """Return the place of checkpoints in a study's folder, which somebody else may have made.

    Raises:
        StudyError: it leads elsewhere.
    """
    try:
        check_within(folder / CHECKPOINTS, folder)
    except OSError as error:
        raise StudyError(f"{error.filename}: {error.strerror}") from error
    return FolderKeep(folder.absolute() / CHECKPOINTS)  # a worker may stand in another folder


def _chosen(executor: Executor | str, options: Options, folder: Path) -> Executor | str:
    """Return the executor of a name; "auto" stays what it is, since it needs a look at the work."""
    if not isinstance(executor, str):
        return executor
    if executor == AUTO:
        if options.settings:
            raise StudyError(f"executor 'auto' has no setting {min(options.settings)!r}; name the executor that has it")
        return executor
    return executor_named(executor, options.workers, folder, options.settings)


def _notes(study: Study, *seen: tuple[str, ...]) -> tuple[str, ...]:
    """Return what should be known before training: that the seeds are too few, what was seen of code and timing."""
    return tuple(filter(None, (too_few_seeds(study), *chain(*seen))))


@contextmanager
def _started(executor: Executor | str, left: Remaining, options: Options, keep: Keep) -> Iterator[Executor]:
    """Start the executor for what is left, if anything is, and close it whatever happens."""
    engine = left.resolved.engine
    if not left.replica_steps:
        if not isinstance(executor, str):
            executor.close(finished=True)
        yield InProcess()
        return
    if isinstance(executor, str):  # auto
        looked = engine.worker(keep)
        workers = count_workers(left, options, looked)
        executor = executor_named("processes", workers) if workers > 1 else InProcess(worker=looked)
    finished = False
    try:
        executor.start(engine, keep)
        yield executor
        finished = True
    finally:
        executor.close(finished)


def _measure(workers: Executor, job: Job, whole: bool) -> Measurement:
    death: WorkerDied | None = None
    for _ in range(MOST_SETBACKS):
        try:
            return workers.measure(job, whole)
        except WorkerDied as error:
            death = error
    raise StudyError(
        f"the worker died while it timed {len(job.trials)} trials together, {MOST_SETBACKS} times in a row ({death});"
        " most likely memory ran out: try a smaller --chunk"
    ) from death


class _Run:
    """The loop of a run: hand out slices, commit what they bring."""

    def __init__(
        self, resolved: Resolved, store: Store, keep: Keep, workers: Executor, plan: Plan, observer: Observer
    ) -> None:
        self.study, self.store, self.keep, self.workers = resolved.study, store, keep, workers
        self.plan, self.observer = plan, observer
        self.inert = InertArms(resolved.study, resolved.trials.values())
        self.guards = self.inert, EqualSeeds(resolved.study, resolved.trials.values())
        self.total = self.left = plan.replica_steps
        self.counts = store.counts()
        self.deaths: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        #: Events that go with the first slice of a chunk.
        self.said: dict[str, tuple[str, ...]] = {}

    def to_the_end(self, slice_seconds: float) -> None:
        """Train every chunk of the plan to its end."""
        self._guard(self.store.begun())
        self.observer.planned(self.plan)
        self._tell(None)
        waiting = list(reversed(self.plan.chunks))
        running: dict[Future[SliceResult], tuple[Job, int]] = {}
        while waiting or running:
            while waiting and len(running) < self.workers.slots:
                job, step = self._next(waiting)
                running[self.workers.advance(job, step, slice_seconds)] = job, step
            more = SLOTS_SECONDS if waiting else None  # there may be more slots by then
            for future in wait(running, timeout=more, return_when=FIRST_COMPLETED).done:
                job, step = running.pop(future)
                waiting += self._take_in(job, step, future)

    def _guard(self, trials: Iterable[str]) -> None:
        for guard in self.guards:
            guard.check(self.store.measured, trials)

    def _next(self, waiting: list[tuple[Job, int]]) -> tuple[Job, int]:
        """Take the chunk that was trained last; or one that has not begun, as long as some arm may change nothing."""
        unseen = [i for i, (_, step) in enumerate(waiting) if step == 0] if self.inert.undecided else []
        return waiting.pop(unseen[-1] if unseen else -1)

    def _take_in(self, job: Job, step: int, future: Future[SliceResult]) -> list[tuple[Job, int]]:
        """Commit a slice; returns what it leaves to do: its chunk and where that stands, nothing when it is done."""
        try:
            result = future.result()
        except WorkerTaken:
            return [(job, step)]
        except WorkerDied as death:
            self._count_death(job.chunk, death)
            return [(job, step)]
        except MemoryFullError as error:
            return self._split(job, step, error)
        del self.deaths[job.chunk]
        check_slice(self.study.metric, self.study.experiment.name, result)
        lost, result = result, replace(result, events=(*self.said.pop(job.chunk, ()), *result.events))
        trials = [t.id for t in job.trials]
        self.counts -= self.store.counts(trials)
        self.store.commit(result)
        self.counts += self.store.counts(trials)
        self.left -= len(job.trials) * ((job.steps if result.done else result.step) - step)
        self._tell(result)
        self._count_losses(lost)
        self._guard(trials)
        if not result.done:
            return [(job, result.step)]
        self.keep.drop(job.chunk)
        return []

    def _split(self, job: Job, step: int, error: MemoryFullError) -> list[tuple[Job, int]]:
        """Let a chunk that is too large for the memory start over in two halves, and say so."""
        if len(job.trials) == 1:
            raise StudyError(NOT_FOR_ONE.format(error)) from error
        parts = halves(job)
        self.store.split(job.chunk, [[t.id for t in part.trials] for part in parts])
        self.counts = self.store.counts()
        self.keep.drop(job.chunk)
        self.left += len(job.trials) * step
        for part in parts:
            self.said[part.chunk] = (f"{error}: they start over in two halves",)
        return [(part, 0) for part in reversed(parts)]

    def _tell(self, result: SliceResult | None) -> None:
        done = max(self.total - self.left, 0)  # what starts over was done before
        self.observer.progressed(Progress(done, self.total, dict(self.counts), result))

    def _count_death(self, chunk: str, death: WorkerDied) -> None:
        self.deaths[chunk] += 1
        if self.deaths[chunk] >= MOST_SETBACKS:
            raise StudyError(
                f"the worker of chunk {chunk} died {MOST_SETBACKS} times in a row ({death}); most likely memory ran"
                " out: try a smaller --chunk or fewer --workers. Finished trials are kept"
            ) from death

    def _count_losses(self, result: SliceResult) -> None:
        if not result.events:
            del self.losses[result.chunk]
            return
        self.losses[result.chunk] += 1
        if self.losses[result.chunk] >= MOST_SETBACKS:
            raise StudyError(
                f"checkpoints of chunk {result.chunk} were lost {MOST_SETBACKS} times in a row"
                f" ({result.events[0]}); see to it that every worker can read and write {self.keep}."
                " Finished trials are kept"
            )
