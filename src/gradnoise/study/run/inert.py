"""A guard against arms that change nothing: a value that nobody reads would become a verdict of "no difference".

The rule. Each pair is compared once, at the first evaluation after two updates in which the arm could act; where
parameters are updated in turns, after two rounds of them. A schedule that starts like the baseline's acts at the first
update where the two differ; anything else acts at once, and so does a schedule that never differs. A pair is evidence
when both runs were measured there, their training loss is a finite number other than 0, and their gradients were not
all zero. When every pair of an arm that is evidence so far agrees in every metric to a millionth, the study stops. One
pair that differs clears the arm for good. Arms that say `may_equal_baseline` are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gradnoise.errors import StudyError
from gradnoise.study.canonical import canonical
from gradnoise.study.results import GRADIENT, LOSS
from gradnoise.study.spec import Config, Study, Trial

#: Runs of one configuration in different populations differ by rounding.
TOLERANCE = 1e-6
#: Updates in which an arm can act before it is judged: momentum, for one, changes nothing before the second.
FEWEST_UPDATES = 2

Measured = Callable[[str, int], Mapping[str, float]]  # trial id, step -> metrics


@dataclass(frozen=True, eq=False)
class Pair:
    """A trial, that of the baseline, and the evaluation at which they are compared."""

    treated: Trial
    baseline: Trial
    step: int

    @property
    def group(self) -> tuple[str, str, str]:
        """Row, setting and arm: what pairs of all seeds have in common."""
        return self.treated.row, self.treated.setting, self.treated.arm


def pairs_of(study: Study, trials: Iterable[Trial]) -> Iterator[Pair]:
    """Yield all pairs of a study with the baseline; all seeds of a group are compared at the same evaluation."""
    by_place: dict[tuple[object, ...], dict[str, Trial]] = {}
    for t in trials:
        by_place.setdefault((t.row, t.setting, t.seed), {})[t.arm] = t
    round = max(sum(turn.updates for turn in getattr(study.experiment, "turns", ())), 1)
    steps: dict[tuple[object, ...], int] = {}
    names = [a.name for a in study.arms]
    for (row, setting, _), place in by_place.items():
        for arm in names[1:]:
            if names[0] in place and arm in place:
                treated, baseline, group = place[arm], place[names[0]], (row, setting, arm)
                if group not in steps:
                    steps[group] = _step(treated.config, baseline.config, round)
                yield Pair(treated, baseline, steps[group])


class InertArms:
    """Looks after each commit for arms that train what the baseline trains.

    Args:
        study: what is asked.
        trials: its trials.
    """

    def __init__(self, study: Study, trials: Iterable[Trial]) -> None:
        self.baseline = study.baseline.name
        watched = {a.name for a in study.arms[1:] if not a.may_equal_baseline}
        self._open: dict[str, dict[str, list[Pair]]] = {}  # arm -> trial of either kind -> its pairs
        for pair in pairs_of(study, trials):
            if (arm := pair.treated.arm) in watched:
                for trial in (pair.treated, pair.baseline):
                    self._open.setdefault(arm, {}).setdefault(trial.id, []).append(pair)

    @property
    def undecided(self) -> bool:
        """Whether some arm has not been seen to act yet."""
        return bool(self._open)

    def check(self, measured: Measured, trials: Iterable[str]) -> None:
        """Stop the study when an arm has done nothing.

        Only pairs with something new are looked at: what the others showed was seen before.

        Args:
            measured: metrics of a trial at a step; empty when there are none (yet).
            trials: ids of those of which something was measured since the last check, or ever at the first.

        Raises:
            StudyError: an arm trains what the baseline trains; everything measured is in the store.
        """
        trials = list(trials)
        for arm, of_trial in list(self._open.items()):
            pairs = dict.fromkeys(pair for trial in trials for pair in of_trial.get(trial, ()))
            alike = _alike(pairs, measured)
            if alike is None:
                del self._open[arm]
            elif alike:
                raise StudyError(self._sentence(alike[0], len(alike)))

    def _sentence(self, pair: Pair, pairs: int) -> str:
        treated = pair.treated
        differing = ", ".join(
            f"{key} = {treated.config.get(key)!r}" for key in _differing(treated.config, pair.baseline.config)
        )
        place = f"row {treated.row!r}" + (f", setting {treated.setting!r}" if treated.setting else "")
        return (
            f"arm {treated.arm!r} trains exactly what the baseline {self.baseline!r} trains: in {pairs} of {pairs}"
            f" pairs (the first in {place}) all metrics are equal after {pair.step} updates, although it sets"
            f" {differing}. If that may be, say Arm({treated.arm!r}, ..., may_equal_baseline=True) and repeat the"
            " command; otherwise correct the arm and choose another folder with --out. What was computed is kept"
        )


def _step(treated: Config, baseline: Config, round: int) -> int:
    """Return the evaluation at which two configurations of a pair are compared."""
    steps, every = treated["steps"], treated["eval_every"]
    acted = (_first_act(treated, baseline, steps) + FEWEST_UPDATES) * round
    return min(-(-acted // every) * every, steps)


def _first_act(a: Config, b: Config, steps: int) -> int:
    """Return the first update at which two configurations can differ; 0 when only schedules do, and never will."""
    keys = _differing(a, b)
    timed = [(a.get(k), b.get(k)) for k in keys if callable(a.get(k)) or callable(b.get(k))]
    if len(timed) < len(keys):
        return 0
    return next((t for t in range(steps) if any(_at(x, t) != _at(y, t) for x, y in timed)), 0)


def _at(value: Any, t: int) -> Any:
    """Return what a schedule, a constant or nothing at all is worth at update `t`."""
    return (value(t) if callable(value) else value) or 0.0


def _differing(a: Config, b: Config) -> list[str]:
    return [key for key in dict.fromkeys((*a, *b)) if canonical(a.get(key)) != canonical(b.get(key))]


def _alike(pairs: Iterable[Pair], measured: Measured) -> list[Pair] | None:
    """Return the pairs of which both trials have moved, all of them measuring the same; None once one does not."""
    found = []
    for pair in pairs:
        mine, theirs = measured(pair.treated.id, pair.step), measured(pair.baseline.id, pair.step)
        if not (moved(mine) and moved(theirs)):
            continue
        if not equal(mine, theirs):
            return None
        found.append(pair)
    return found


def moved(metrics: Mapping[str, float]) -> bool:
    """Say whether what was measured of a run can be compared: it trained, and its numbers are finite."""
    return math.isfinite(metrics.get(LOSS, math.nan)) and metrics[LOSS] != 0 and metrics.get(GRADIENT, 1.0) != 0


def equal(mine: Mapping[str, float], theirs: Mapping[str, float]) -> bool:
    """Compare all metrics, but for those that are nan in both."""
    if mine.keys() != theirs.keys():
        return False
    pairs = [(mine[name], theirs[name]) for name in mine]
    return all(math.isclose(x, y, rel_tol=TOLERANCE) or (math.isnan(x) and math.isnan(y)) for x, y in pairs)
