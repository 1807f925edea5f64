"""One metric and several thresholds of success: how many runs are below each, and how the metric is distributed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradnoise.errors import StudyError
from gradnoise.study.analysis.scores import counted_value
from gradnoise.study.analysis.successes import done_by_row, success_counts
from gradnoise.study.report.extras import Table
from gradnoise.study.report.panels import arm_colour, legend, style
from gradnoise.study.results import StudyResults, TrialResult
from gradnoise.study.spec import Metric

THRESHOLDS_CAPTION = (
    "Runs whose final value is below the threshold, with Clopper-Pearson intervals of their share in %; pairs that are"
    " below it in this arm alone (gained) and in the baseline alone (lost); two-sided p of McNemar's exact test over"
    " pairs, or of sign flips over seeds where a seed has several pairs, not adjusted for the number of tests."
)


def threshold_counts(
    results: StudyResults, metric: Metric, thresholds: Sequence[float], *, caption: str = THRESHOLDS_CAPTION
) -> Table:
    """Make a table of how many runs of every arm end below each threshold, tested against the baseline.

    Args:
        results: a study.
        metric: of which lower values are better; any that was recorded, not only the primary one.
        thresholds: one or more; a run is below one if its final value is strictly less. A nan is never below.
        caption: how to read the table.

    Raises:
        StudyError: there is no threshold, or higher values of the metric are better.
    """
    if not thresholds or metric.higher_is_better:
        raise StudyError(
            f"metric {metric.name!r} with thresholds {tuple(thresholds)}: give one threshold or more, and a metric of"
            " which lower values are better"
        )
    labels = {arm.name: arm.label for arm in results.record.arms}
    lines = []
    for threshold in thresholds:
        strict = dataclasses.replace(metric, success=math.nextafter(threshold, -math.inf), rate=False)
        record = dataclasses.replace(results.record, metric=strict)
        for count in success_counts(dataclasses.replace(results, record=record)):
            low, high = 100 * count.interval.low, 100 * count.interval.high
            tests = ("", "", "")
            if count.against is not None:
                tests = (str(count.against.gained), str(count.against.lost), f"{count.against.mcnemar:.3g}")
            below = f"< {threshold:g} {metric.unit}".rstrip()
            share = f"{count.successes}/{count.n}"
            lines.append((count.row, below, labels[count.arm], share, f"{low:.1f} to {high:.1f}", *tests))
    headings = ("row", metric.title, "arm", "runs", "95 %, exact", "gained", "lost", "p")
    return Table(headings, tuple(lines), caption)


def distribution(results: StudyResults, metric: Metric, thresholds: Sequence[float]) -> Figure:
    """Draw, by row, the share of runs of each arm whose final value is at most x, with the thresholds marked.

    Args:
        results: a study, with a run that is done.
        metric: any that was recorded.
        thresholds: where to draw lines; none for no lines.

    Raises:
        StudyError: no run is done.
    """
    rows, arms = done_by_row(results), results.record.arms
    if not rows:
        raise StudyError(f"study {results.record.name!r} has no run that is done: there is no distribution to draw")
    figure = Figure(figsize=(max(4.6, 3.6 * len(rows)), 3.2), layout="constrained")
    axes = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    drawn: dict[int, None] = {}
    for ax, (title, cells) in zip(axes, rows, strict=True):
        for i, arm in enumerate(arms):
            if runs := cells.get(arm.name):
                x = _final(runs, metric)
                ax.step([0, *x], [0, *(100 * (k + 1) / len(runs) for k in range(len(x)))], where="post",
                        color=arm_colour(i))  # fmt: skip
                drawn[i] = None
        for threshold in thresholds:
            ax.axvline(threshold, color="grey", lw=0.8, ls=":")
        ax.set_xscale("symlog", linthresh=min(thresholds, default=1.0))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlim(left=0)
        ax.set_ylim(0, 100)
        ax.set_title(title, fontsize=9, loc="left", pad=18)
        unit = f" in {metric.unit}" if metric.unit else ""
        style(ax, x=f"{metric.title}{unit}", y="% of runs with at most this" if ax is axes[0] else "")
    lines = [Line2D([], [], color=arm_colour(i), label=arms[i].label) for i in drawn]
    legend(figure, lines)
    return figure


def _final(runs: Sequence[TrialResult], metric: Metric) -> list[float]:
    """Return the final values that are finite, in order."""
    values = np.array([counted_value(t, metric) for t in runs])
    return np.sort(values[np.isfinite(values)]).tolist()
