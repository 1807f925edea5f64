"""When a comparison of a script has to stop: its first pair fails, it ignores its seed, or every run fails alike."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from gradnoise.errors import StudyError
from gradnoise.study.engine import Job, JobTrial
from gradnoise.study.run.script_engine import SHOWN, ScriptWorker
from gradnoise.study.script.outcome import BROKEN, FAILED, FILE, FINISHED, TIMEOUT, Outcome
from gradnoise.study.script.pairing import Beginning
from gradnoise.study.script.sources import tail

#: Pairs whose numbers are all equal, without a fingerprint to tell, before a script is said to ignore its seed.
EQUAL_PAIRS = 3
LINES = 12


class Judge:
    """Is told how runs begin and end, and stops the study when going on makes no sense.

    Args:
        proved: whether a pair has ended well before.
        most: failures in a row that are the same, after which the study stops.
        seeded: whether the script is to heed its seed.
    """

    def __init__(self, proved: bool, most: int, seeded: bool = True) -> None:
        self.proved, self._most, self._seeded = proved, most, seeded
        self._lock = threading.Lock()
        self._begun: dict[str, dict[int, Beginning]] = {}  # arm -> seed -> how it began
        self._numbers: dict[int, tuple[Mapping[str, object], ...]] = {}
        self._alike: list[str] = []

    def know(self, arm: str, seed: int, beginning: Beginning) -> None:
        """Hear how a run of an earlier session began."""
        if beginning.optimizers:
            self._begun.setdefault(arm, {})[seed] = beginning

    def attend(self, trial: JobTrial, beginning: Beginning) -> None:
        """Hear how a run began.

        Raises:
            StudyError: it began as a run with another seed did.
        """
        if not beginning.optimizers:
            return
        with self._lock:
            begun = self._begun.setdefault(trial.config["arm"], {})
            begun[trial.seed] = beginning
            for seed, other in begun.items() if self._seeded else ():
                if seed != trial.seed and other.alike(beginning):
                    raise StudyError(
                        f"the script ignores its seed: runs with seed {seed} and seed {trial.seed} began with the same"
                        f" weights and the same first gradient ({beginning.sentence}), so that more seeds would tell"
                        " nothing more. See to it that the seed reaches the script's generators, as in"
                        " torch.manual_seed(seed); or say --no-seed if that cannot be"
                    )

    def take(self, job: Job, outcomes: Sequence[Outcome], worker: ScriptWorker) -> None:
        """Hear how the runs of a seed ended.

        Raises:
            StudyError: the study is to stop; runs that ended well are kept.
        """
        with self._lock:
            bad = [i for i, o in enumerate(outcomes) if o.status == FAILED]
            bad += [0] if outcomes[0].status in (TIMEOUT, BROKEN) else []  # a baseline that cannot even end once
            if bad and not self.proved:
                (worker.place(job.trials[bad[0]]) / FILE).unlink(missing_ok=True)  # to be made again
                raise StudyError(_first_failure(job.trials[bad[0]], outcomes[bad[0]], worker))
            self.proved = True
            self._count(job, outcomes, worker)
            self._compare(job, outcomes)

    def _count(self, job: Job, outcomes: Sequence[Outcome], worker: ScriptWorker) -> None:
        for trial, outcome in zip(job.trials, outcomes, strict=True):
            if outcome.status != FAILED:
                self._alike = []
                continue
            self._alike = [s for s in self._alike if s == outcome.signature] + [outcome.signature]
            if len(self._alike) >= self._most:
                raise StudyError(
                    f"{len(self._alike)} runs in a row failed alike; {_shown(trial, outcome, worker)}\nMend it and"
                    " repeat the command: runs that ended well are kept, those that failed are made again"
                )

    def _compare(self, job: Job, outcomes: Sequence[Outcome]) -> None:
        """Find a script that ignores its seed by its numbers, where it has no optimizer that could be watched."""
        if not self._seeded or any(o.begin or o.status != FINISHED for o in outcomes):
            return
        self._numbers[job.trials[0].seed] = tuple(o.points for o in outcomes)
        first, *others = self._numbers.values()
        if len(others) + 1 == EQUAL_PAIRS and all(other == first for other in others):
            raise StudyError(
                f"the script seems to ignore its seed: all numbers of the first {EQUAL_PAIRS} seeds are the same. See"
                " to it that the seed reaches whatever draws at random (random_state=seed in scikit-learn); or say"
                " --no-seed if that cannot be"
            )


def _first_failure(trial: JobTrial, outcome: Outcome, worker: ScriptWorker) -> str:
    shown = _shown(trial, outcome, worker)
    return f"the first pair must end well, and it did not; {shown}\nMend it and repeat the command"


def _shown(trial: JobTrial, outcome: Outcome, worker: ScriptWorker) -> str:
    """Return a failure as a person needs it: command, what happened, the last lines of its errors."""
    place = worker.place(trial)
    command = (place / "command.sh").read_text(encoding="utf-8").strip() if (place / "command.sh").exists() else ""
    errors = tail(place / "stderr.txt", SHOWN).splitlines() or tail(place / "stdout.txt", SHOWN).splitlines()
    lines = "\n".join(f"  | {line[:300]}" for line in errors[-LINES:])
    return (
        f"the run of seed {trial.seed}, arm {trial.config['arm']}: {outcome.sentence}\n  $ {command}\n"
        + (f"{lines}\n" if lines else "")
        + f"All of its output: {place}"
    )
