"""What came out of a study: trials with their curves, read from the store and rendered by report and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradnoise.study.spec import Arm, Claim, Metric, Selection


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
        waiting: whether it was trained together with runs that are not done yet. A run that ends early, by success
            say, must wait for them: an unfinished study would else count its quick runs and leave out the slow.
        curves: metric name -> curve. Beside the experiment's own metrics: "train_loss" (mean over the
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

    @property
    def done(self) -> bool:
        """Whether it counts: nothing more will be computed for it, nor for those that were trained with it."""
        return self.status in ("finished", "diverged") and not self.waiting


@dataclass(frozen=True)
class StudyRecord:
    """The description of a study as kept in its store: enough to rebuild the report without its code.

    Args:
        name, title, scale: of the study.
        experiment: name of the experiment; data_title: what data it ran on; stand_in: True when that
            data only stands in for the published data set (every title then says so).
        rows: table rows in order: (id, title).
        arms: the arms, baseline first (their `values` as plain JSON).
        metric: primary metric.
        claims, deviations, protocol, selection, recipe: see `Study`; recipe is None in stores of older versions.
        steps, seeds, study_seed: how much was asked for.
        provenance: command, versions, hardware, commit, dates: (name, value) lines.
    """

    name: str
    title: str
    scale: str
    experiment: str
    data_title: str
    stand_in: bool
    rows: tuple[tuple[str, str], ...]
    arms: tuple[Arm, ...]
    metric: Metric
    claims: tuple[Claim, ...]
    deviations: tuple[str, ...]
    protocol: tuple[tuple[str, str], ...]
    steps: int
    seeds: tuple[int, ...]
    study_seed: int
    provenance: tuple[tuple[str, str], ...] = ()
    selection: Selection | None = None
    recipe: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StudyResults:
    """A record and its trials."""

    record: StudyRecord
    trials: tuple[TrialResult, ...]
