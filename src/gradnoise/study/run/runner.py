"""From a study to its finished store: run the planned chunks slice by slice and commit what comes back."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

from gradnoise.errors import StudyError
from gradnoise.study.canonical import canonical
from gradnoise.study.provenance import now, provenance
from gradnoise.study.results import StudyRecord, StudyResults
from gradnoise.study.run.executors import Executor, InProcess, Processes, WorkerDied
from gradnoise.study.run.planning import Options, Plan, check, prepare
from gradnoise.study.run.population_engine import Job
from gradnoise.study.spec import Config, Study, Trial
from gradnoise.study.store import FILE, Report, Store

SLICE_SECONDS = 8.0
#: A chunk whose worker dies this often in a row takes the study down with a clear message.
MOST_DEATHS = 3


@dataclass(frozen=True)
class Progress:
    """Handed to the caller after every commit."""

    replica_steps: int
    total: int
    counts: dict[str, int]
    report: Report | None


def dry_run(study: Study, folder: str | Path, options: Options | None = None) -> Plan:
    """What `run_study` would do, timed on this machine; nothing is written."""
    folder = Path(folder)
    if not (folder / FILE).exists():
        return prepare(study, folder, None, options or Options())
    with Store(folder, readonly=True) as store:
        _check_same(store, study)
        return prepare(study, folder, store, options or Options())


def run_study(
    study: Study,
    folder: str | Path,
    *,
    options: Options | None = None,
    command: str = "",
    progress: Callable[[Progress], None] = lambda _: None,
    planned: Callable[[Plan], None] = lambda _: None,
) -> StudyResults:
    """Run a study to its end, or go on where an earlier run of it stopped.

    Args:
        study: what is asked.
        folder: where its store, checkpoints and report live. Finished trials in it stay finished; the same
            study with more seeds, settings or arms adds to it.
        options: how to run.
        command: the command line, for the report.
        progress: called after every commit.
        planned: called once, before training starts.

    Returns:
        All trials of the folder.

    Raises:
        StudyError: the folder holds another study, is in use, or cannot be written; or the study itself is wrong.
        PopulationError: a value is out of range, or the experiment is no experiment; the message says why.
    """
    folder, options = Path(folder), options or Options()
    check(study, options)
    with Store(folder) as store:
        _check_same(store, study)
        plan = prepare(study, folder, store, options)
        record = _merged(store, study, plan, command)
        store.extend(record, list(study.trials()), [[id for id, *_ in job.trials] for job, _ in plan.chunks])
        planned(plan)
        _run(study, store, plan, progress)
        _clear(store)
        if plan.chunks or "finished" not in dict(record.provenance):
            store.put_record(_finished(record, store.seconds()))
        return store.results()


def _check_same(store: Store, study: Study) -> None:
    """That the folder belongs to this study, and that no label in it stands for another configuration."""
    if store.meta("record") is None:
        return
    old, new = store.record(), describe(study)
    for what in ("name", "scale", "experiment", "steps", "study_seed"):
        mine, theirs = getattr(new, what), getattr(old, what)
        if mine != theirs:
            raise StudyError(
                f"the folder holds another study: its {what} is {theirs!r}, this one's is {mine!r};"
                " choose another folder with --out"
            )
    asked = {_labels(t): t for t in study.trials()}
    ids = {t.id for t in asked.values()}
    for known in store.trials(study.dataclasses()).values():
        if known.id not in ids and (other := asked.get(_labels(known))):
            differing = _first_difference(known.config, other.config)
            raise StudyError(
                f"the folder holds the same study with other values: in row {known.row!r} ({known.setting}),"
                f" arm {known.arm!r}, {differing}; choose another folder with --out"
            )


def _labels(trial: Trial) -> tuple[object, ...]:
    return trial.row, trial.setting, trial.arm, trial.seed


def _first_difference(theirs: Config, mine: Config) -> str:
    for key in (*mine, *theirs):
        if canonical(theirs.get(key)) != canonical(mine.get(key)):
            return f"its {key} is {theirs.get(key)}, this one's is {mine.get(key)}"
    raise AssertionError("trials of one experiment and seed differ in their configuration")


def _merged(store: Store, study: Study, plan: Plan, command: str) -> StudyRecord:
    """The study's description, together with what the folder holds from earlier runs of it."""
    new = describe(study, command)
    if store.meta("record") is None:
        return new
    old = store.record()
    asked = {t.id for t in study.trials()}
    kept = [t for i, t in store.trials(study.dataclasses()).items() if i not in asked]
    rows, arms = {t.row for t in kept}, {t.arm for t in kept}
    named = {a.name for a in new.arms}
    fewer = set(new.seeds) < set(old.seeds)
    started = dict(old.provenance).get("started", now())
    lines = tuple((name, started if name == "started" else value) for name, value in new.provenance)
    return dataclasses.replace(
        new,
        seeds=tuple(sorted({*old.seeds, *new.seeds})),
        arms=new.arms + tuple(a for a in old.arms if a.name in arms - named),
        rows=new.rows + tuple((r, title) for r, title in old.rows if r in rows - dict(new.rows).keys()),
        deviations=old.deviations if fewer else new.deviations,
        recipe=old.recipe if fewer else new.recipe,
        provenance=lines if plan.chunks else old.provenance,
    )


def describe(study: Study, command: str = "") -> StudyRecord:
    """The study's description for its store."""
    e = study.experiment
    return StudyRecord(
        name=study.name,
        title=study.title,
        scale=study.scale,
        experiment=f"{e.name}@{e.fingerprint}",
        data_title=e.data_title,
        stand_in=e.stand_in,
        rows=tuple({s.row: s.title for s in study.settings}.items()),
        arms=study.arms,
        metric=study.metric,
        claims=study.claims,
        deviations=study.deviations,
        protocol=study.protocol,
        steps=study.steps,
        seeds=study.seeds,
        study_seed=study.seed,
        provenance=provenance(command),
        selection=study.selection,
        recipe=study.recipe,
    )


def _finished(record: StudyRecord, seconds: float) -> StudyRecord:
    lines = [(name, value) for name, value in record.provenance if name not in ("finished", "training time")]
    hours = f"{seconds / 3600:.2f} hours, summed over workers"
    return dataclasses.replace(record, provenance=(*lines, ("finished", now()), ("training time", hours)))


def _executor(study: Study, plan: Plan) -> Executor:
    return Processes(study.experiment, plan.workers) if plan.workers > 1 else InProcess(study.experiment)


def _run(study: Study, store: Store, plan: Plan, progress: Callable[[Progress], None]) -> None:
    total = plan.replica_steps
    left = total
    progress(Progress(0, total, store.counts(), None))
    if not plan.chunks:
        return
    executor = _executor(study, plan)
    waiting = list(reversed(plan.chunks))
    running: dict[Future[Report], tuple[Job, int]] = {}
    deaths: dict[str, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < executor.slots:
                job, step = waiting.pop()
                running[executor.submit(job, step, SLICE_SECONDS)] = (job, step)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, step = running.pop(future)
                try:
                    report = future.result()
                except WorkerDied as death:
                    _count_death(deaths, job, death)
                    waiting.append((job, step))
                    continue
                deaths.pop(job.id, None)
                _check_metric(study, report)
                store.commit(report)
                end = job.config["steps"] if report.done else report.step
                left -= len(job.trials) * (end - step)
                progress(Progress(total - left, total, store.counts(), report))
                if report.done:
                    _clean(job)
                else:
                    waiting.append((job, report.step))
    finally:
        executor.close()


def _count_death(deaths: dict[str, int], job: Job, death: WorkerDied) -> None:
    deaths[job.id] = deaths.get(job.id, 0) + 1
    if deaths[job.id] >= MOST_DEATHS:
        raise StudyError(
            f"the worker of chunk {job.id} died {MOST_DEATHS} times in a row ({death}); most likely memory ran out:"
            " try a smaller --chunk or fewer --workers. Finished trials are kept"
        ) from death


def _check_metric(study: Study, report: Report) -> None:
    measured = sorted({name for _, name, _, _ in report.rows})
    if measured and study.metric.name not in measured:
        raise StudyError(
            f"the study's metric is {study.metric.name!r}, but {study.experiment.name}.evaluate returns no such"
            f" metric: there are {', '.join(measured)}"
        )


def _clear(store: Store) -> None:
    """Remove checkpoints that a killed run left of chunks that are done."""
    for chunk in store.chunks():
        if chunk.done:
            shutil.rmtree(store.folder / "checkpoints" / chunk.id, ignore_errors=True)


def _clean(job: Job) -> None:
    """Remove the checkpoints of a finished chunk; what cannot be removed does no harm."""
    shutil.rmtree(job.folder, ignore_errors=True)
