"""What came out of a study: trials with their curves, read from the store and rendered by report and tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradnoise.study.description import Description, Metric
from gradnoise.study.spec import Study

#: Measures of training that may tell runs apart: metrics that are counts, flags or rounded may agree by chance.
LOSS, GRADIENT = "train_loss", "gradient_norm"


@dataclass(frozen=True)
class Curve:
    """One metric of one trial over its training: `steps[i]` updates were done when `values[i]` was read."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class TrialResult:
    """A trial and what is known of it.

    Args:
        id: content hash.
        row, setting, arm, seed: where it stands in the study; row, setting and seed name the pair.
        config: what was trained, as plain JSON values.
        status: "pending", "running", "finished" or "diverged" (nan or inf; frozen at `diverged_at`).
        step: updates done.
        diverged_at: the update at which a loss or gradient stopped being finite; None if it never did.
        final: metrics that count: those of the last evaluation, or for a diverged trial the values
            that the experiment declares for a broken model.
        waiting: whether runs that were trained together with it have not ended yet. A run that ends early is not
            counted until they have: an unfinished study would otherwise count its quick successes and omit the
            runs still trying.
        curves: metric name -> curve. Besides the experiment's own metrics: "train_loss" (mean over the
            interval), "gradient_norm" (before the clip, mean over the interval), "noise_norm"
            (sigma_t * sqrt(N), expected norm of the noise), "clipped" (share of steps clipped).
    """

    id: str
    row: str
    setting: str
    arm: str
    seed: int
    config: Mapping[str, Any]
    status: str
    step: int
    diverged_at: int | None = None
    final: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    waiting: bool = False

    def with_rates(self, record: StudyRecord) -> TrialResult:
        """Return it with the values of metrics that are bounds on what was measured, see `Metric.of`."""
        bounds = {metric.name: metric.bound for metric in record.metrics if metric.bound is not None}
        if not bounds:
            return self
        final, curves = dict(self.final), dict(self.curves)
        for name, bound in bounds.items():
            if self.status in ("finished", "diverged"):
                final[name] = bound.share(final.get(bound.name, math.nan))
            if curve := curves.get(bound.name):
                curves[name] = Curve(curve.steps, bound.shares(curve.values))
        return dataclasses.replace(self, final=final, curves=curves)

    @property
    def done(self) -> bool:
        """Whether it counts: nothing more will be computed for it, nor for those that were trained with it."""
        return self.status in ("finished", "diverged") and not self.waiting


@dataclass(frozen=True)
class Event:
    """Something that went wrong in a run without harm to its numbers, such as a checkpoint that was lost.

    Args:
        time: when the store was told.
        chunk: id of the chunk of trials that it happened to; "" for the whole study.
        sentence: what happened.
    """

    time: str
    chunk: str
    sentence: str

    def __str__(self) -> str:
        """Return it as reports write it."""
        return f"{self.time}, {f'chunk {self.chunk}: ' if self.chunk else ''}{self.sentence}"


@dataclass(frozen=True)
class Look:
    """A time at which verdicts of a study were read.

    Args:
        time: when.
        asked: how many seeds the study had been asked for.
        seeds: those that had a pair by then.
    """

    time: str
    asked: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class StudyRecord(Description):
    """The description of a study as kept in its store: enough to rebuild the report without its code.

    See `Description` for the other arguments; `arms` have their `values` as plain JSON.

    Args:
        experiment: name and data fingerprint of the experiment.
        data_title: what data it ran on.
        stand_in: whether that data only stands in for the published data set; every title then says so.
        rows: table rows in order: (id, title).
        study_seed: seed of the study.
        provenance: command, versions, hardware, commit, dates, events: (name, value) lines.
    """

    experiment: str
    data_title: str
    stand_in: bool
    rows: tuple[tuple[str, str], ...]
    study_seed: int
    provenance: tuple[tuple[str, str], ...] = ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The primary metric, and those that are reported of chosen runs."""
        return (self.metric, *(self.selection.report if self.selection else ()))

    @classmethod
    def of(cls, study: Study, provenance: tuple[tuple[str, str], ...] = ()) -> StudyRecord:
        """Return the record of a study that starts."""
        return cls(
            **{f.name: getattr(study, f.name) for f in dataclasses.fields(Description)},
            experiment=study.subject,
            data_title=study.experiment.data_title,
            stand_in=study.experiment.stand_in,
            rows=tuple({s.row: s.title for s in study.settings}.items()),
            study_seed=study.seed,
            provenance=provenance,
        )


@dataclass(frozen=True)
class StudyResults:
    """A record, its trials, and the times at which its verdicts were read before."""

    record: StudyRecord
    trials: tuple[TrialResult, ...]
    looks: tuple[Look, ...] = ()
