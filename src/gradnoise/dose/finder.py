"""The dose finder: a short paired pilot over doses of noise, like a learning-rate finder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from gradnoise.dose.found import LEVEL, Found, judge
from gradnoise.dose.pilots import Train, by_function, by_population
from gradnoise.noise import Relative, Schedule
from gradnoise.population import Experiment
from gradnoise.study.analysis.statistics import least_pairs

DOSES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def find(
    train: Train | Experiment,
    config: Mapping[str, Any] | None = None,
    *,
    doses: Sequence[float] = DOSES,
    seeds: int | Sequence[int] = 6,
    steps: int | None = None,
    metric: str | None = None,
    better: str = "lower",
    margin: float | None = None,
    schedule: Callable[..., Schedule] = Relative,
    device: str = "cpu",
) -> Found:
    """Train briefly with every dose of noise and name the largest one that does no harm.

    Every dose trains the same seeds, and is compared with no noise seed by seed. It does no harm if the upper end of
    the 90 % interval of the mean difference is within the margin.

    Args:
        train: (schedule, seed) -> score: a function that builds its model from the seed, attaches noise of this
            schedule, trains for a while and returns one number, such as the mean of its last losses. Or an
            `Experiment`, whose runs are then trained as populations.
        config: settings of an experiment, such as {"lr": 0.1, "clip": 1.0}.
        doses: what to try; 0 is always tried.
        seeds: how many, or which; at least 5.
        steps: updates of a run of an experiment.
        metric: the experiment's metric that is the score; None for the mean training loss of the last tenth.
        better: whether "lower" or "higher" scores are better.
        margin: how much worse a score may be, in its own unit; None for 5 % of the mean score without noise.
        schedule: dose -> schedule; `Relative`, or for example `lambda eta: Annealed(eta)`.
        device: where an experiment is trained.

    Returns:
        The doses with scores and verdicts: print it, `.rho` is the answer and `.plot("dose.svg")` the picture.

    Raises:
        ValueError: an argument is unusable, or runs without noise diverged.

    Example:
        >>> found = find(Parity(), {"lr": 0.5}, steps=300)
        >>> print(found)
    """
    tried = sorted({0.0, *_doses(doses)})
    numbers = _seeds(seeds)
    _check(tried, numbers, better, margin)
    _check_schedule(schedule, tried)
    if isinstance(train, Experiment):
        if steps is None or steps < 1:
            raise ValueError(f"steps must be a number of updates >= 1 for an experiment, got {steps!r}")
        if config and "noise" in config:
            raise ValueError("config sets the noise, which is what is to be found; leave it out")
        if metric is None and train.turns:
            raise ValueError(
                f"{train.name} has a loss for each turn, and none of them is a score; name a metric of its `evaluate`,"
                ' as metric="distance"'
            )
        scores = by_population(train, config or {}, tried, numbers, schedule, steps=steps, metric=metric, device=device)
        what = metric or "train_loss"
    else:
        if config is not None or steps is not None or metric is not None:
            raise ValueError("config, steps and metric are for an Experiment; a training function has its own")
        scores, what = by_function(train, tried, numbers, schedule), "score"
    return judge(scores, numbers, margin, better, what)


def _doses(doses: Any) -> list[float]:
    if isinstance(doses, (str, Mapping)) or not isinstance(doses, Iterable):
        raise ValueError(f"doses must be numbers, such as (0.03, 0.1, 0.3), got {doses!r}")
    given = list(doses)
    try:
        return list(map(float, given))
    except (TypeError, ValueError):
        raise ValueError(f"doses must be numbers, such as (0.03, 0.1, 0.3), got {given!r}") from None


def _seeds(seeds: Any) -> tuple[int, ...]:
    given = range(seeds) if isinstance(seeds, int) else seeds
    if isinstance(given, Iterable) and not isinstance(given, (str, Mapping)):
        found = tuple(given)
        if all(isinstance(seed, Integral) for seed in found):
            return found
    raise ValueError(f"seeds must be an integer, how many, or integers, which, got {seeds!r}")


def _check_schedule(schedule: Any, doses: Sequence[float]) -> None:
    wanted = "schedule must be a function that makes one of a dose, as Relative and lambda eta: Annealed(eta) are"
    if not callable(schedule):
        raise ValueError(f"{wanted}, got {schedule!r}")
    for dose in doses:
        made = schedule(dose)
        if not (isinstance(made, Relative) or callable(made)):
            raise ValueError(f"{wanted}; {schedule!r} made {made!r} of the dose {dose:g}")


def _check(doses: Sequence[float], seeds: Sequence[int], better: str, margin: float | None) -> None:
    if bad := [dose for dose in doses if not (math.isfinite(dose) and dose >= 0)]:
        raise ValueError(f"a dose is a finite number >= 0, got {bad[0]!r}")
    if len(doses) < 2:
        raise ValueError("there is no dose to try beside 0; give some, such as (0.1, 1)")
    if len(set(seeds)) < least_pairs(1 - LEVEL) or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"seeds must be at least {least_pairs(1 - LEVEL)} different ones, of which fewer can show nothing, got"
            f" {list(seeds)}"
        )
    if better not in ("lower", "higher"):
        raise ValueError(f"better must be 'lower' or 'higher', got {better!r}")
    if margin is not None and not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin must be a finite number >= 0, got {margin!r}")
