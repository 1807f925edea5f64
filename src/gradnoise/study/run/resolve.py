"""A study as it is run: its engine and its trials by id, every value checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping
from dataclasses import dataclass

from gradnoise.errors import StudyError
from gradnoise.study.engine import Engine
from gradnoise.study.run.options import Options
from gradnoise.study.spec import Study, Subject, Trial


@dataclass(frozen=True)
class Resolved:
    """A study whose every value was checked; made once and handed down.

    Args:
        study: what is asked.
        engine: what trains it.
        trials: all its trials by id, in the study's order; or some of them, see `only`.
        whole: whether they are all.
    """

    study: Study
    engine: Engine
    trials: Mapping[str, Trial]
    whole: bool = True

    def only(self, ids: Container[str]) -> Resolved:
        """Return the study restricted to some trials."""
        return dataclasses.replace(self, trials={i: t for i, t in self.trials.items() if i in ids}, whole=False)


def engine_of(subject: Subject, options: Options) -> Engine:
    """Return what trains a study's experiment: an engine is used as it is, an experiment trains in populations.

    Raises:
        StudyError: the options are for experiments, or `subject` is neither.
    """
    if isinstance(subject, Engine):
        if options.device != "cpu" or options.compile or not options.trace:
            raise StudyError(
                f"{subject.name} is an engine and decides itself where and how it trains;"
                " leave out --device, --compile and --no-trace"
            )
        return subject
    from gradnoise.study.run.population_engine import PopulationEngine  # needs torch, as other engines may not

    return PopulationEngine.of(subject, options.device, options.compile, options.trace)


def resolve(study: Study, options: Options, here: bool) -> Resolved:
    """Find what is wrong before anything is made or timed.

    Args:
        study: what is asked.
        options: how to run.
        here: whether it will train on this machine.

    Raises:
        StudyError: the device cannot be used, or a configuration cannot be written down or comes twice.
        PopulationError: a value is out of range.
    """
    engine = engine_of(study.experiment, options)
    if here:
        engine.local_workers()
    trials: dict[str, Trial] = {}
    good: set[int] = set()  # configurations, which all seeds of a setting and arm share
    for trial in study.trials():
        if id(trial.config) not in good:
            engine.check(trial.seed, trial.config)
            good.add(id(trial.config))
        other = trials.setdefault(trial.id, trial)
        if other is not trial:  # it would be trained once and lose one of its labels
            raise StudyError(
                f"arms {other.arm!r} and {trial.arm!r} (rows {other.row!r}, {trial.row!r}) train the same"
                f" configuration {trial.setting!r}; remove one of them"
            )
    return Resolved(study, engine, trials)
