"""A guard against seeds that change nothing: copies of one pair would be counted as many pieces of evidence.

The rule. In each row, setting and arm the pairs of all seeds are compared at the evaluation at which `inert` compares
their arms. When every pair that is evidence so far agrees with the first one, in every metric of both runs to a
millionth, the study stops. One pair that differs clears the group for good. What a script prints may be rounded, and
agree by chance: a pair is evidence only where the norm of the gradient was measured. A baseline that is the same run
for every seed is none of our business as long as its treated partners are not: noise from one starting point is a fair
question.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradnoise.errors import StudyError
from gradnoise.study.results import GRADIENT
from gradnoise.study.run.inert import Measured, Pair, equal, moved, pairs_of
from gradnoise.study.spec import Study, Trial


class EqualSeeds:
    """Looks after each commit for pairs that are copies of each other.

    Args:
        study: what is asked.
        trials: its trials.
    """

    def __init__(self, study: Study, trials: Iterable[Trial]) -> None:
        self._of_trial: dict[str, list[Pair]] = {}
        for pair in pairs_of(study, trials):
            for trial in (pair.treated, pair.baseline):
                self._of_trial.setdefault(trial.id, []).append(pair)
        self._first: dict[tuple[str, str, str], Pair] = {}
        self._cleared: set[tuple[str, str, str]] = set()

    def check(self, measured: Measured, trials: Iterable[str]) -> None:
        """Stop the study when all seeds of a group have trained the same pair.

        Args:
            measured: metrics of a trial at a step; empty when there are none (yet).
            trials: ids of those of which something was measured since the last check, or ever at the first.

        Raises:
            StudyError: they have; everything measured is in the store.
        """
        alike: dict[tuple[str, str, str], Pair] = {}
        for pair in dict.fromkeys(pair for trial in trials for pair in self._of_trial.get(trial, ())):
            if pair.group in self._cleared:
                continue
            mine = [measured(trial.id, pair.step) for trial in (pair.treated, pair.baseline)]
            evidence = all(moved(metrics) and GRADIENT in metrics for metrics in mine)
            first = self._first.setdefault(pair.group, pair) if evidence else pair
            if first is pair:
                continue
            theirs = [measured(trial.id, first.step) for trial in (first.treated, first.baseline)]
            if all(map(equal, mine, theirs)):
                alike.setdefault(pair.group, pair)
            else:
                self._cleared.add(pair.group)
        for group, pair in alike.items():
            if group not in self._cleared:
                raise StudyError(_sentence(self._first[group], pair))


def _sentence(first: Pair, other: Pair) -> str:
    treated = first.treated
    place = f"row {treated.row!r}" + (f", setting {treated.setting!r}" if treated.setting else "")
    return (
        f"seeds {treated.seed} and {other.treated.seed} are the same run, in arm {treated.arm!r} and in the baseline"
        f" {first.baseline.arm!r} ({place}): all metrics are equal after {first.step} updates, and copies are no"
        " evidence. Draw weights from the global generator, which is seeded for each replica, and minibatches with a"
        " generator made from `seed` and `t`; then choose another folder with --out. What was computed is kept"
    )
