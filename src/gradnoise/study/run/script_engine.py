"""The engine that runs a script: one process for each trial, the trials of a seed one after the other.

Everything of the study lab that knows scripts stands in this file and in `gradnoise.study.script`.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradnoise.errors import StudyError
from gradnoise.study.canonical import canonical
from gradnoise.study.damage import is_full
from gradnoise.study.engine import Job, JobTrial, Keep, Measurement, Probed, SliceResult
from gradnoise.study.script.code import NO_CODE, Code
from gradnoise.study.script.command import Command, pasteable, whole_environment
from gradnoise.study.script.loaded import Loaded, named
from gradnoise.study.script.outcome import BROKEN, FAILED, FINISHED, TIMEOUT, Outcome, status_of
from gradnoise.study.script.pairing import Beginning
from gradnoise.study.script.process import Ended, run_to_the_end
from gradnoise.study.script.sources import Places, find, json_lines, tail
from gradnoise.study.script.telling import result_of
from gradnoise.study.spec import Config

RUNS = "runs"
#: Bytes of an output of which the last lines are shown.
SHOWN = 1 << 14
#: A disk with less room than this is full: what failed on it tells nothing of the script.
ROOM = 1 << 24

Attend = Callable[[JobTrial, Beginning, bool], None]
"""Is told of each run how it began, while it runs, and with True when it has ended well; may raise, to end the run."""


@dataclass(frozen=True, eq=False)
class ScriptEngine:
    """Runs a command for each trial.

    Args:
        command: what to run.
        folder: of the study; runs have their folders in it.
        metric: that decides.
        arms: names of the arms, the baseline first.
        code: the state of the code that the command runs. It is no part of a trial's id: `run_study` compares it with
            that of the folder.
        timeout: seconds after which a run is killed; None for no limit.
        pattern: regular expression for the metric in the output; None for none.
    """

    command: Command
    folder: Path
    metric: str
    arms: tuple[str, ...]
    code: Code = NO_CODE
    timeout: float | None = None
    pattern: str | None = None
    stand_in: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """Name of the script."""
        return self.command.name

    @property
    def fingerprint(self) -> str:
        """Hash of the command."""
        content = {"words": self.command.words, "seed_env": self.command.seed_env}
        return hashlib.sha256(canonical(content).encode()).hexdigest()[:12]

    @property
    def loaded(self) -> Loaded:
        """The files that its runs loaded."""
        return Loaded(self.folder.absolute() / RUNS)

    @property
    def running(self) -> str:
        """Fingerprint of the code that runs are made with now: another one after each change that was accepted."""
        accepted = self.loaded.accepted
        return f"{self.code.fingerprint}.{accepted}" if accepted else self.code.fingerprint

    @property
    def data_title(self) -> str:
        """The command, and the code that it runs."""
        return f"{self.command.text}{f', {self.code.text}' if self.code.text else ''}"

    def keys(self) -> frozenset[str]:
        """Return the keys of a configuration: the arm's name, what it adds to the command, its noise."""
        return frozenset({"arm", "arguments", "noise"})

    def check(self, seed: int, config: Config) -> None:
        """Check nothing: what the script takes, it knows itself."""

    def group(self, config: Config) -> str:
        """Return the same for all trials: those of a seed run one after the other in one place."""
        return ""

    def local_workers(self) -> int:
        """Return 1: how many runs a machine bears, its owner says."""
        return 1

    def probe(self, configs: Sequence[Config], known: Collection[str]) -> Probed:
        """Tell the state of the code, see `Probing`."""
        return Probed({"the script": {"its code": self.code.text}} if self.code.text else {})

    def worker(self, keep: Keep) -> ScriptWorker:
        """Make a worker; runs keep what they need in their own folders."""
        return ScriptWorker(self)


class ScriptWorker:
    """Runs the command for one trial after the other.

    Args:
        engine: what is run.
        variables: of the environment, such as the GPU that its runs see. Runs of a pair have the same.
    """

    def __init__(self, engine: ScriptEngine, variables: Mapping[str, str] | None = None) -> None:
        self.engine, self.variables = engine, dict(variables or {})
        self.stop = threading.Event()

    def measure(self, job: Job, whole: bool) -> Measurement:
        """Say that the arms of a seed go together; how long they take is not known before one has ended."""
        return Measurement(0, math.nan, 0)

    def advance(self, job: Job, step: int, seconds: float) -> SliceResult:
        """Run what is left of a chunk, whole; runs that ended before a driver was killed are found in their folders."""
        return result_of(job, self.run(job), self.engine)

    def run(self, job: Job, attend: Attend = lambda trial, beginning, ended: None) -> list[Outcome]:
        """Return what becomes of each trial of a chunk; one that stands already is not run again.

        A run that took place elsewhere, as on a GPU that was retired, is no pair with what is run here; nor is one of
        other code.
        """
        before = [Outcome.read(self.place(trial)) for trial in job.trials]
        limit, code = self.engine.timeout, self.engine.running
        kept = [o if o and o.code == code and o.stands(limit) and not o.tells_twice else None for o in before]
        if None in kept:
            kept = [o if o is not None and o.variables == self.variables else None for o in kept]
        outcomes = []
        for trial, found in zip(job.trials, kept, strict=True):
            outcome = self.run_one(trial, attend) if found is None else found
            attend(trial, outcome.beginning, outcome.status in (FINISHED, BROKEN))
            outcomes.append(outcome)
        return outcomes

    def place(self, trial: JobTrial) -> Path:
        """Return the folder of a run."""
        return run_folder(self.engine.folder, trial.seed, trial.config["arm"], trial.id)

    def run_one(self, trial: JobTrial, attend: Attend, stop_after: int = 0) -> Outcome:
        """Run one trial now, in a fresh folder, and keep what became of it.

        Raises:
            Stopped: the worker was told to stop.
            StudyError: its folder cannot be written, code or configuration was changed, or the run cannot mean what it
                should.
        """
        _refuse_changed(trial, self.engine.loaded.changed())
        place = self.place(trial)
        records, folder = place / "records", place / "dir"
        try:
            shutil.rmtree(place, ignore_errors=True)
            for made in (records, folder):
                made.mkdir(parents=True)
        except OSError as error:
            raise StudyError(
                f"cannot write to {place}: {error.strerror}; make room, then repeat the command"
            ) from error
        words = self.engine.command.of(trial.seed, trial.config, folder)
        variables = self.engine.command.environment(trial.seed, trial.config, folder, records, stop_after)
        variables |= self.variables
        (place / "command.sh").write_text(pasteable(words, variables) + "\n", encoding="utf-8")
        files = named(words, place)
        ended = run_to_the_end(
            words,
            whole_environment(variables),
            stdout=place / "stdout.txt",
            stderr=place / "stderr.txt",
            timeout=self.engine.timeout,
            stop=self.stop,
            attend=lambda: attend(trial, Beginning.of(json_lines(records / "begin.jsonl")), False),
        )
        outcome = self._outcome(place, ended)
        if outcome.status == FAILED and is_full(place, ROOM):
            raise StudyError(
                f"the disk of {place} is full, and a run failed on it ({outcome.sentence}); make room, then repeat the"
                " command (finished runs are kept)"
            )
        _check_noise(trial, outcome)
        well = outcome.status in (FINISHED, BROKEN)
        _refuse_changed(trial, self.engine.loaded.take(files, words, place, well))
        outcome.write(place)
        return outcome

    def _outcome(self, place: Path, ended: Ended) -> Outcome:
        limit, records = self.engine.timeout, place / "records"
        begin = tuple(json_lines(records / "begin.jsonl"))
        updates = sum(r["updates"] for r in json_lines(records / "updates.jsonl")[-1:])
        known = Outcome(
            FAILED,
            ended.sentence,
            ended.seconds,
            limit,
            updates=updates,
            begin=begin,
            variables=self.variables,
            code=self.engine.running,
        )
        places = Places(records, place / "dir", place / "stdout.txt", place / "stderr.txt", self.engine.pattern)
        if ended.code is None:
            return _with(known, status=TIMEOUT)
        if ended.code:
            last = last_line(place / "stderr.txt")
            return _with(known, sentence=f"{ended.sentence}{f': {last}' if last else ''}")
        found, why = find(places, self.engine.metric)
        if found is None:
            return _with(known, sentence=why)
        status = status_of(found.final, self.engine.metric)
        sentence = "" if status == FINISHED else f"{self.engine.metric} is {found.final[self.engine.metric]}"
        points = dict(found.points)
        return _with(known, status=status, sentence=sentence, source=found.source, points=points, counted=found.counted)


def _with(outcome: Outcome, **changes: object) -> Outcome:
    import dataclasses

    return dataclasses.replace(outcome, **changes)  # type: ignore[arg-type]


def _refuse_changed(trial: JobTrial, files: Sequence[str]) -> None:
    """Check that a run has the code and the configuration of those before it.

    Raises:
        StudyError: it has not.
    """
    if files:
        raise StudyError(
            f"{files[0]}{f' and {len(files) - 1} more' if files[1:] else ''} was changed while the study runs, and the"
            f" run of arm {trial.config['arm']!r} and seed {trial.seed} would be one of other code than those before;"
            " finished runs are kept. Undo the change and repeat the command; or choose another folder with --out; or,"
            " if the change does not matter, say --accept-changed-code"
        )


def _check_noise(trial: JobTrial, outcome: Outcome) -> None:
    """Check that the noise of an arm was there, and was that of the arm.

    Raises:
        StudyError: it was not; a verdict would be about nothing.
    """
    noise = trial.config.get("noise")
    if outcome.status not in (FINISHED, BROKEN):
        return
    added = [b["schedule"] for b in outcome.begin if "schedule" in b]
    if noise is not None and not added:
        seen = "an optimizer was seen and got none" if outcome.begin else "no update of a torch optimizer was seen"
        raise StudyError(
            f"the run of arm {trial.config['arm']!r} and seed {trial.seed} had no noise: {seen}. Noise reaches what"
            " calls torch's optimizer.step() in a Python that heeds PYTHONPATH (python -I and -E do not); compare"
            " scripts without torch by arguments, as in --arm wide='--hidden 512'"
        )
    if wrong := [text for text in added if text != repr(noise)]:
        raise StudyError(
            f"the script itself adds the noise {wrong[0]}, in arm {trial.config['arm']!r} too; call"
            " gradnoise.attach(optimizer) without a schedule there, which takes that of the arm"
        )


def run_folder(folder: Path, seed: int, arm: str, trial: str) -> Path:
    """Return the folder of a run, whose name a person can read."""
    plain = "".join(c if c.isalnum() or c in "._+-" else "-" for c in arm)
    return folder.absolute() / RUNS / f"seed-{seed}-{plain}-{trial[:6]}"


def last_line(path: Path) -> str:
    """Return the last line of an output that says something."""
    lines = [line.strip() for line in tail(path, SHOWN).splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
