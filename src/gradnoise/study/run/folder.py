"""What a study's folder holds from earlier runs, and the record that the next run writes there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from gradnoise.errors import StudyError
from gradnoise.study.canonical import canonical
from gradnoise.study.damage import damaged
from gradnoise.study.provenance import now, provenance
from gradnoise.study.results import StudyRecord
from gradnoise.study.run.measured import check_names
from gradnoise.study.run.resolve import Resolved
from gradnoise.study.spec import Config, Metric, Trial
from gradnoise.study.store import Store

#: How a sentence of a metric that decided before begins.
DECIDED = "When a verdict was read before,"


def known_trials(resolved: Resolved, store: Store) -> dict[str, Trial]:
    """Check that a folder belongs to this study, and that no label in it stands for another configuration.

    Returns:
        The trials that the folder holds, by id; none for a fresh one.

    Raises:
        StudyError: it holds another study, or the same one with other values, or is damaged.
    """
    if store.meta("record") is None:
        return {}
    check_same_study(resolved, store.record())
    told = (
        "SELECT DISTINCT metric FROM metrics WHERE trial IN (SELECT id FROM trials WHERE status = 'finished' LIMIT 8)"
    )
    if names := [name for (name,) in store.rows(told)]:
        check_names(resolved.study.metric, names, "what this folder holds")
    known = store.trials(resolved.study.dataclasses())
    asked = {_labels(t): t for t in resolved.trials.values()}
    for id, trial in known.items():
        if trial.id != id:
            raise damaged(store.folder, f"trial {id} holds the values of another, {trial.id}")
        if id not in resolved.trials and (other := asked.get(_labels(trial))):
            differing = _first_difference(trial.config, other.config)
            raise StudyError(
                f"the folder holds the same study with other values: in row {trial.row!r} ({trial.setting}),"
                f" arm {trial.arm!r}, {differing}; choose another folder with --out"
            )
    return known


def check_same_study(resolved: Resolved, old: StudyRecord) -> None:
    """Check that what a folder describes is the study that is asked.

    Raises:
        StudyError: it is another one.
    """
    new = StudyRecord.of(resolved.study)
    for what in ("name", "scale", "experiment", "steps", "study_seed"):
        mine, theirs = getattr(new, what), getattr(old, what)
        if mine != theirs:
            raise StudyError(
                f"the folder holds another study: its {what} is {theirs!r}, this one's is {mine!r};"
                " choose another folder with --out"
            )


def _labels(trial: Trial) -> tuple[object, ...]:
    return trial.row, trial.setting, trial.arm, trial.seed


def _first_difference(theirs: Config, mine: Config) -> str:
    for key in (*mine, *theirs):
        if canonical(theirs.get(key)) != canonical(mine.get(key)):
            return f"its {key} is {theirs.get(key)}, this one's is {mine.get(key)}"
    raise AssertionError("trials of one experiment and seed differ in their configuration")


def merged_record(
    resolved: Resolved, store: Store, known: Mapping[str, Trial], command: str, trains: bool
) -> StudyRecord:
    """Return the study's description, together with what the folder holds from earlier runs of it.

    Args:
        resolved: what is asked.
        store: of the folder.
        known: the trials in it by id.
        command: the command line, for the report.
        trains: whether anything is left to train; otherwise the provenance stays as it is.
    """
    engine = resolved.engine
    tell = getattr(engine, "facts", None)
    facts = tell(_of_each_group(resolved)) if tell and trains else ()
    new = StudyRecord.of(resolved.study, provenance(command, getattr(engine, "hardware", ""), facts))
    if store.meta("record") is None:
        return new
    old = store.record()
    lines = _merged_lines(old, new) if trains else old.provenance
    if not resolved.whole:
        return dataclasses.replace(old, provenance=lines)
    kept = [t for id, t in known.items() if id not in resolved.trials]
    rows, arms = {t.row for t in kept}, {t.arm for t in kept}
    named = {a.name for a in new.arms}
    fewer = set(new.seeds) < set(old.seeds)
    return dataclasses.replace(
        new,
        seeds=tuple(sorted({*old.seeds, *new.seeds})),
        arms=new.arms + tuple(a for a in old.arms if a.name in arms - named),
        rows=new.rows + tuple((r, title) for r, title in old.rows if r in rows - dict(new.rows).keys()),
        deviations=old.deviations
        if fewer
        else tuple(dict.fromkeys((*new.deviations, *_other_metrics(old, new, store)))),
        recipe=old.recipe if fewer else new.recipe,
        provenance=lines,
    )


def _other_metrics(old: StudyRecord, new: StudyRecord, store: Store) -> list[str]:
    """Say which other metrics decided when verdicts were read before."""
    said = [sentence for sentence in old.deviations if sentence.startswith(DECIDED)]
    if old.metric != new.metric and store.looks():
        said.append(
            f"{DECIDED} {_named(old.metric)} decided; {_named(new.metric)} was chosen after its results had been seen."
        )
    return said


def _named(metric: Metric) -> str:
    """Name a metric so that it differs from what it was, such as "'learned' (accuracy >= 90, at 'last')"."""
    return f"{metric.name!r} ({f'{metric.of}, ' if metric.of else ''}at {metric.at!r})"


def _of_each_group(resolved: Resolved) -> list[Trial]:
    """Return a trial of each group that trains together: those of one group share the shapes of their model."""
    of_configs = {id(t.config): t for t in resolved.trials.values()}.values()
    return list({resolved.engine.group(t.config): t for t in of_configs}.values())


def _merged_lines(old: StudyRecord, new: StudyRecord) -> tuple[tuple[str, str], ...]:
    """Return the new provenance with the time at which the study was started, and all devices that trained it."""
    then, lines = dict(old.provenance), dict(new.provenance)
    lines["started"] = then.get("started", now())
    if "device" in lines:
        earlier = then.get("device", "").split("; ")
        lines["device"] = "; ".join(dict.fromkeys(filter(None, (*earlier, lines["device"]))))
    return tuple(lines.items())


def finished_record(record: StudyRecord, seconds: float) -> StudyRecord:
    """Return the description with the time of its end and the training time in seconds."""
    lines = [(name, value) for name, value in record.provenance if name not in ("finished", "training time")]
    hours = f"{seconds / 3600:.2f} hours, summed over workers"
    return dataclasses.replace(record, provenance=(*lines, ("finished", now()), ("training time", hours)))
