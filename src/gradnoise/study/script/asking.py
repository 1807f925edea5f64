"""From a command line to a study of a script, and what its folder holds of it already."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradnoise.errors import StudyError
from gradnoise.study.description import Arm, Metric
from gradnoise.study.results import StudyRecord
from gradnoise.study.run.script_engine import RUNS, ScriptEngine, run_folder
from gradnoise.study.script.code import Code
from gradnoise.study.script.command import Command
from gradnoise.study.script.judge import Judge
from gradnoise.study.script.outcome import Outcome
from gradnoise.study.spec import Study
from gradnoise.study.store import FILE, Store

#: Key of the recipe of such a study.
RECIPE = "script"


@dataclass(frozen=True)
class Asked:
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

    def study(self, states: Sequence[Mapping[str, str]] = ()) -> Study:
        """Return the study.

        Args:
            states: of the code that earlier runs in the folder had, in order; the first is part of trials' ids.

        Raises:
            StudyError: there are fewer than one seed, or something else is out of range.
        """
        if self.seeds < 1:
            raise StudyError(f"--seeds {self.seeds}: give 1 or more; fewer than six can decide nothing")
        now = {"fingerprint": self.code.fingerprint, "text": self.code.text}
        states = [*states, *([] if now in states else [now])]
        engine = ScriptEngine(
            self.command,
            self.folder,
            self.metric.name,
            len(self.arms),
            states[0]["fingerprint"],
            states[0]["text"],
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
            protocol=self._protocol(states),
            notes=_changed(states),
            recipe={RECIPE: {"words": list(self.command.words), "states": [dict(s) for s in states]}},
        )

    def _protocol(self, states: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
        limit = "none" if self.timeout is None else f"{self.timeout:g} s"
        return (
            ("command", self.command.text),
            ("code", "; then ".join(s["text"] for s in states)),
            ("time limit of a run", limit),
            ("a run without a finite value", "no value" if self.metric.broken is None else f"{self.metric.broken:g}"),
        )


def _changed(states: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    if len(states) < 2:
        return ()
    return (
        "The script changed while the study ran, and its owner accepted that:"
        f" {', then '.join(s['text'] for s in states)}.",
    )


def states_in(folder: Path, asked: Asked, accepted: bool) -> list[Mapping[str, str]]:
    """Return the states of the code that earlier runs in a folder had; none for a fresh one.

    A folder in which nothing has ended yet, and the command or the code is another now, is made fresh.

    Args:
        folder: of the study.
        asked: what is asked now.
        accepted: whether the code may have changed.

    Raises:
        StudyError: the code changed, and that was not accepted; or the folder holds another study.
    """
    if not (folder / FILE).exists():
        return []
    with Store(folder, readonly=True) as store:
        if store.meta("record") is None:
            return []
        record, counts = store.record(), store.counts()
    recipe = _recipe(record)
    if recipe is None:
        raise StudyError(f"{folder} holds another study, {record.title!r}; choose another folder with --out")
    states = list(recipe["states"])
    same = asked.code.fingerprint in [s["fingerprint"] for s in states] and list(asked.command.words) == recipe["words"]
    if not same and not counts.get("finished", 0) + counts.get("diverged", 0):
        for path in folder.glob(f"{FILE}*"):
            path.unlink()
        shutil.rmtree(folder / RUNS, ignore_errors=True)
        return []
    if list(asked.command.words) != recipe["words"]:
        return states  # the run itself says that it is another study, and where they differ
    if not same and not accepted:
        raise StudyError(
            f"the script changed since {folder} was begun: it was {states[-1]['text']}, it is {asked.code.text}."
            " Choose another folder with --out for a study of the new code; or say --accept-changed-code, if the change"
            " makes no difference to the runs (the report will tell)"
        )
    return states


def _recipe(record: StudyRecord) -> Mapping[str, Any] | None:
    recipe = (record.recipe or {}).get(RECIPE)
    good = isinstance(recipe, Mapping) and isinstance(recipe.get("words"), list) and recipe.get("states")
    return recipe if good else None


def judge_of(study: Study, folder: Path, most: int, seeded: bool) -> Judge:
    """Return the judge of a study, who knows how the runs in its folder began."""
    judge = Judge(_has_a_pair(folder), most, seeded)
    for trial in study.trials():
        found = Outcome.read(run_folder(folder, trial.seed, trial.config["arm"], trial.id))
        if found is not None:
            judge.know(trial.config["arm"], trial.seed, found.beginning)
    return judge


def _has_a_pair(folder: Path) -> bool:
    if not (folder / FILE).exists():
        return False
    with Store(folder, readonly=True) as store:
        return store.meta("record") is not None and any(chunk.done for chunk in store.chunks())


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
