"""From a command line to a study of a script, and what its folder holds of it already."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradnoise.errors import StudyError
from gradnoise.study.description import Arm, Metric
from gradnoise.study.engine import JobTrial
from gradnoise.study.results import StudyRecord
from gradnoise.study.run.script_engine import RUNS, ScriptEngine, run_folder
from gradnoise.study.script.code import Code
from gradnoise.study.script.command import Command
from gradnoise.study.script.judge import Judge
from gradnoise.study.script.outcome import Outcome
from gradnoise.study.spec import Study
from gradnoise.study.store import ACCEPTED, FILE, Store

#: Key of the recipe of such a study.
RECIPE = "script"


@dataclass(frozen=True)
class ScriptStudy:
    """What a comparison asks.

    Args:
        command: what to run.
        arms: the first is the baseline.
        metric: that decides.
        seeds: how many.
        folder: of the study.
        code: the state of the code that the command runs.
        max_seeds: see `Study`.
        timeout, pattern: see `ScriptEngine`.
        options: of the command line, from which the same is asked again.
    """

    command: Command
    arms: tuple[Arm, ...]
    metric: Metric
    seeds: int
    folder: Path
    code: Code
    max_seeds: int | None = None
    timeout: float | None = None
    pattern: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def study(self) -> Study:
        """Return the study.

        Raises:
            StudyError: there are fewer than one seed, or something else is out of range.
        """
        if self.seeds < 1:
            raise StudyError(f"--seeds {self.seeds}: give 1 or more; fewer than six can decide nothing")
        engine = ScriptEngine(
            self.command,
            self.folder,
            self.metric.measured,
            tuple(arm.name for arm in self.arms),
            self.code,
            self.timeout,
            self.pattern,
        )
        labels = [arm.label for arm in self.arms]
        return Study(
            name=f"compare-{self.command.name}",
            title=f"{self.command.name}: {', '.join(labels[1:])} against {labels[0]}",
            experiment=engine,
            arms=self.arms,
            metric=self.metric,
            seeds=tuple(range(self.seeds)),
            steps=1,
            eval_every=1,
            max_seeds=self.max_seeds,
            protocol=self._protocol(),
            recipe={RECIPE: {"words": self.command.words, "options": self.options}},
        )

    def _protocol(self) -> tuple[tuple[str, str], ...]:
        limit = "none" if self.timeout is None else f"{self.timeout:g} s"
        return (
            ("command", self.command.text),
            ("code", self.code.text),
            ("time limit of a run", limit),
            ("a run without a finite value", "no value" if self.metric.broken is None else f"{self.metric.broken:g}"),
        )


def clear_stale(asked: ScriptStudy) -> None:
    """Make a folder fresh in which nothing has ended yet, and of which the command is another now.

    Raises:
        StudyError: the folder holds a study of another kind, or another process runs it.
    """
    folder = asked.folder
    if not (folder / FILE).exists():
        return
    with Store(folder) as store:  # which keeps other processes out of it
        if store.meta("record") is None:
            return
        record, counts = store.record(), store.counts()
        recipe = recipe_of(record)
        if recipe is None:
            raise StudyError(f"{folder} holds another study, {record.title!r}; choose another folder with --out")
        if list(asked.command.words) == recipe["words"] or counts.get("finished", 0) + counts.get("diverged", 0):
            return
        for path in folder.glob(f"{FILE}*"):
            path.unlink()
        shutil.rmtree(folder / RUNS, ignore_errors=True)


def recipe_of(record: StudyRecord) -> Mapping[str, Any] | None:
    """Return the words and options of a comparison; None for a study of another kind."""
    recipe = (record.recipe or {}).get(RECIPE)
    good = isinstance(recipe, Mapping) and isinstance(recipe.get("words"), list)
    return recipe if good else None


def judge_of(study: Study, folder: Path, most: int, seeded: bool) -> Judge:
    """Return the judge of a study, who knows how the runs in its folder began."""
    judge = Judge(_has_a_pair(folder), most, seeded)
    for trial in study.trials():
        found = Outcome.read(run_folder(folder, trial.seed, trial.config["arm"], trial.id))
        if found is not None:
            judge.know(JobTrial(trial.id, trial.seed, trial.config), found)
    return judge


def _has_a_pair(folder: Path) -> bool:
    if not (folder / FILE).exists():
        return False
    with Store(folder, readonly=True) as store:
        return store.meta("record") is not None and any(chunk.done for chunk in store.chunks())


def settle_changed(study: Study, folder: Path, accept: bool) -> None:
    """Check that the files which the runs of a folder loaded are what they were; where nothing has ended, forget them.

    Raises:
        StudyError: they are not, and that is not accepted.
    """
    engine = study.experiment
    assert isinstance(engine, ScriptEngine)
    changed = engine.loaded.changed()
    if not changed:
        return
    more = f" and {len(changed) - 1} more" if changed[1:] else ""
    if _has_a_pair(folder):
        with Store(folder) as store:
            known = dict(store.record().protocol).get("code") == engine.code.text
        if not accept and not known:
            return  # the revision tells it, and the study is refused with that
        if not accept:
            raise StudyError(
                f"the code of {engine.name} is not that of this folder: {changed[0]}{more} was changed since its runs."
                " Finished runs would be taken for runs of the new code, so nothing was run. Choose another folder with"
                " --out; or, if the change does not matter, say --accept-changed-code, and the report will say so, too"
            )
        with Store(folder) as store:
            store.note(f"{ACCEPTED}{changed[0]}{more} was another when earlier runs loaded it")
    engine.loaded.forget(changed)


def reopen_failed(study: Study, folder: Path, timeout: float | None) -> int:
    """Have runs made again that failed, or ran into a time limit that is longer now; returns of how many seeds."""
    if not (folder / FILE).exists():
        return 0
    trials = {trial.id: trial for trial in study.trials()}
    with Store(folder) as store:
        again = []
        for chunk in store.chunks():
            places = [run_folder(folder, t.seed, t.config["arm"], t.id) for i in chunk.trials if (t := trials.get(i))]
            found = [Outcome.read(place) for place in places]
            if chunk.done and any(o is not None and not o.stands(timeout) for o in found):
                again.append(chunk)
        for chunk in again:
            store.reopen(chunk)
    return len(again)
