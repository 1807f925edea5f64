"""A try-out of a comparison: one pair, for a few updates, in a folder of its own that is removed again."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gradnoise.errors import StudyError
from gradnoise.study.engine import JobTrial
from gradnoise.study.run.script_engine import SHOWN, ScriptEngine, ScriptWorker
from gradnoise.study.script.live import duration
from gradnoise.study.script.outcome import FAILED, Outcome
from gradnoise.study.script.pairing import Beginning, Run, ignores_seed, pair_notes
from gradnoise.study.script.sources import json_lines, tail
from gradnoise.study.spec import Study, Trial

#: Updates of each run.
UPDATES = 20


def check(study: Study, console: Console) -> None:
    """Run the first seed of the baseline and of each arm for some updates, and print what there is to see.

    Raises:
        StudyError: a run failed; the message shows its last lines.
    """
    engine = study.experiment
    assert isinstance(engine, ScriptEngine)
    with tempfile.TemporaryDirectory(prefix="gradnoise-check-") as folder:
        worker = ScriptWorker(dataclasses.replace(engine, folder=Path(folder)))
        outcomes, trials = [], [t for t in study.trials() if t.seed == study.seeds[0]]
        for trial in trials:
            job = JobTrial(trial.id, trial.seed, trial.config)
            outcome = worker.run_one(job, lambda *_: None, UPDATES)
            times = json_lines(worker.place(job) / "records" / "updates.jsonl")
            stopped = bool(times) and times[-1]["updates"] == UPDATES
            if outcome.status == FAILED and not stopped:
                errors = tail(worker.place(job) / "stderr.txt", SHOWN).splitlines()[-12:]
                lines = "".join(f"\n  | {line}" for line in errors)
                raise StudyError(f"the run of arm {trial.arm!r} failed: {outcome.sentence}{lines}")
            _print(trial.arm, outcome, stopped, times[-1] if times else None, console)
            outcomes.append(outcome)
        first, *others = (
            Run(t.arm, o.beginning, "arguments" in t.config) for t, o in zip(trials, outcomes, strict=True)
        )
        for note in pair_notes(first.arm, first.beginning, others):
            console.print(Text(f"{note}."), soft_wrap=True)
        if engine.command.seeded and first.beginning.optimizers:
            console.print(Text(_another_seed(worker, trials[0], first.beginning)), soft_wrap=True)


def _another_seed(worker: ScriptWorker, trial: Trial, beginning: Beginning) -> str:
    """Run the baseline with another seed, and say whether it begins as it did before."""
    seed = trial.seed + 1
    outcome = worker.run_one(JobTrial(trial.id, seed, trial.config), lambda *_: None, UPDATES)
    if outcome.beginning.alike(beginning):
        sentence = ignores_seed(seed, trial.seed, beginning)
        return f"{sentence[0].upper()}{sentence[1:]}."
    return f"Seed {seed} began with {outcome.beginning.difference(beginning)}, as it should."


def _print(arm: str, outcome: Outcome, stopped: bool, times: dict[str, Any] | None, console: Console) -> None:
    console.print(Text(arm, style="bold"))
    console.print(Text(f"  began with: {outcome.beginning.sentence}"), soft_wrap=True)
    if times and times["each"] is not None:
        each, before = times["each"], times["before"]
        console.print(
            f"  time: {before:.1f} s from importing torch to the first update, then {1000 * each:.2f} ms for each:"
            f" {duration(before + 1000 * each)} for a run of 1,000",
            soft_wrap=True,
        )
    if outcome.source:
        console.print(Text(f"  metric: found in {outcome.source}"), soft_wrap=True)
    elif stopped:
        console.print(f"  metric: not told within {UPDATES} updates, after which the run was stopped")
    if not stopped:
        console.print(f"  the run ended by itself after {outcome.seconds:.1f} s")
