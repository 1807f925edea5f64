"""When a comparison of a script has to stop: its first pair fails, it ignores its seed, or every run fails alike."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from gradnoise.errors import StudyError
from gradnoise.study.engine import Job, JobTrial
from gradnoise.study.run.script_engine import SHOWN, ScriptWorker
from gradnoise.study.script.outcome import BROKEN, FAILED, FILE, FINISHED, TIMEOUT, Outcome
from gradnoise.study.script.pairing import ALWAYS_ALIKE, SAME_NUMBERS, Beginning, ignores_seed
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
        self._begun: dict[str, dict[int, tuple[Beginning, bool]]] = {}  # arm -> seed -> how it began, if it has ended
        self._ended: dict[tuple[str, int], Outcome] = {}
        self._alike: list[str] = []

    def know(self, trial: JobTrial, outcome: Outcome) -> None:
        """Hear how a run ended, be it in an earlier session."""
        arm, whole = trial.config["arm"], outcome.status in (FINISHED, BROKEN)
        if outcome.status != FAILED:
            self._ended[arm, trial.seed] = outcome
        if outcome.beginning.optimizers:
            self._begun.setdefault(arm, {})[trial.seed] = outcome.beginning, whole

    def ended(self, arm: str, seed: int) -> Outcome | None:
        """Return how the run of an arm and a seed ended; None where it has not."""
        return self._ended.get((arm, seed))

    def attend(self, trial: JobTrial, beginning: Beginning, ended: bool) -> None:
        """Hear how a run began.

        Args:
            trial: what is run.
            beginning: the optimizers that have made their first update.
            ended: whether there will be no more of them.

        Raises:
            StudyError: it began as a run with another seed did.
        """
        if not beginning.optimizers:
            return
        with self._lock:
            self._begun.setdefault(trial.config["arm"], {})[trial.seed] = beginning, ended
            other = self._twin(trial.config["arm"], trial.seed) if self._seeded else None
        if other is not None:
            raise StudyError(ignores_seed(trial.seed, other, beginning))

    def _twin(self, arm: str, seed: int) -> int | None:
        """Return another seed with which a run of an arm began just as it did with this one; None for none.

        An optimizer that starts later may still tell them apart, unless the run with fewer of them has ended.
        """
        mine, mine_ended = self._begun[arm][seed]
        n = len(mine.optimizers)
        for other, (theirs, ended) in self._begun[arm].items():
            m = len(theirs.optimizers)
            known = m == n if ended and mine_ended else (ended and m <= n) or (mine_ended and n <= m)
            if other != seed and known and mine.alike(theirs):
                return other
        return None

    def notes(self, job: Job) -> list[str]:
        """Return what the runs of a seed are in view of those of others."""
        arm, seed = job.trials[0].config["arm"], job.trials[0].seed
        with self._lock:
            numbers = self._numbers(job)
            same = [other for other in numbers if other != seed and numbers[other] == numbers.get(seed)]
            begun = seed in self._begun.get(arm, {}) and self._twin(arm, seed) is not None
        if self._seeded:
            return [SAME_NUMBERS] if same else []
        return [ALWAYS_ALIKE] if begun or (same and len(same) == len(numbers) - 1) else []

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
            for trial, outcome in zip(job.trials, outcomes, strict=True):
                self.know(trial, outcome)
            self._count(job, outcomes, worker)
            numbers = list(self._numbers(job).values())
            if self._seeded and len(numbers) == EQUAL_PAIRS and all(found == numbers[0] for found in numbers):
                raise StudyError(
                    f"the script seems to ignore its seed: all numbers of the first {EQUAL_PAIRS} seeds are the same."
                    " See to it that the seed reaches whatever draws at random (random_state=seed in scikit-learn); or"
                    " say --no-seed if that cannot be"
                )

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

    def _numbers(self, job: Job) -> dict[int, list[Mapping[str, object]]]:
        """Return what runs of the arms of a job told, by seed, where no optimizer could be watched."""
        arms, found = [t.config["arm"] for t in job.trials], {}
        for seed in dict.fromkeys(seed for _, seed in self._ended):
            outcomes = [self._ended.get((arm, seed)) for arm in arms]
            if all(o is not None and not o.begin and o.status == FINISHED for o in outcomes):
                found[seed] = [o.numbers for o in outcomes if o is not None]
        return found


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
