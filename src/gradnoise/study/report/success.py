"""What the report of a study with a success rule can add: exact tests, learning curves, dose and response.

A system calls these functions with its own titles, and puts what they return among its extras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradnoise.study.analysis.curves import last_value, mean_curve
from gradnoise.study.analysis.scores import succeeded
from gradnoise.study.analysis.statistics import wilson
from gradnoise.study.analysis.successes import Against, success_counts, success_curve
from gradnoise.study.report.extras import Table
from gradnoise.study.report.panels import arm_colour, legend, style
from gradnoise.study.results import Curve, StudyResults, TrialResult

TESTS_CAPTION = (
    "Clopper-Pearson intervals in %; seeds that succeed in this arm alone (gained) and in the baseline alone (lost);"
    " exact two-sided McNemar test over shared seeds, Fisher's test over all, neither adjusted for the number of tests."
)


def exact_tests(
    results: StudyResults, *, succeeds: str = "succeeded", caption: str = TESTS_CAPTION, pool_by: str | None = None
) -> Table:
    """Make a table of the runs of every arm that succeed, tested against the baseline.

    Args:
        results: a study whose primary metric has a success rule.
        succeeds: heading of the column of successes, such as "solved".
        caption: how to read the table.
        pool_by: key of the configuration by which rows are pooled, see `success_counts`.
    """
    labels = {arm.name: arm.label for arm in results.record.arms}
    rows = []
    for count in success_counts(results, pool_by=pool_by):
        low, high = 100 * count.interval.low, 100 * count.interval.high
        line = (count.row, labels[count.arm], f"{count.successes}/{count.n}", f"{low:.1f} to {high:.1f}")
        rows.append((*line, *_tests(count.against)))
    headings = ("row", "arm", succeeds, "95 %, exact", "gained", "lost", "p, McNemar", "p, Fisher")
    return Table(headings, tuple(rows), caption)


def _tests(against: Against | None) -> tuple[str, str, str, str]:
    if against is None:
        return "", "", "", ""
    return str(against.gained), str(against.lost), f"{against.mcnemar:.3g}", f"{against.fisher:.3g}"


def evaluated_rows(results: StudyResults) -> list[tuple[str, str]]:
    """Return the rows, (id, title), in which the baseline was evaluated at least once.

    Args:
        results: a study.
    """
    record = results.record
    return [(row, title) for row, title in record.rows if _evaluated(results, row, record.arms[0].name)]


def learning_curves(results: StudyResults, metric: str, *, y: str, y_success: str) -> Figure:
    """Draw, by row, the mean of a metric over runs, and the share of runs that have succeeded by then.

    A run that ended counts on with its last value. Runs that still train end the mean.

    Args:
        results: a study whose primary metric has a success rule.
        metric: name of the metric to average, one of the curves of every trial.
        y: name of the upper axis.
        y_success: name of the lower axis.
    """
    rows, arms = evaluated_rows(results), results.record.arms
    figure = Figure(figsize=(3.6 * len(rows), 4.8), layout="constrained")
    axes = figure.subplots(2, len(rows), sharex="col", sharey="row", squeeze=False)
    drawn: dict[int, None] = {}
    for (row, title), (above, below) in zip(rows, axes.T, strict=True):
        for i, arm in enumerate(arms):
            if runs := [t for t in _evaluated(results, row, arm.name) if metric in t.curves]:
                drawn[i] = None
                _draw_mean(above, runs, [t.curves[metric] for t in runs], i)
                _draw_mean(below, runs, [success_curve(t, results.record.metric) for t in runs], i)
        above.set_title(title, fontsize=9, loc="left", pad=16)
        style(above, y=y)
        style(below, x="updates", y=y_success)
    legend(figure, [Line2D([], [], color=arm_colour(i), lw=1.8, label=arms[i].label) for i in drawn])
    return figure


def _draw_mean(axes: Axes, runs: Sequence[TrialResult], curves: Sequence[Curve], arm: int) -> None:
    ended = [t.status in ("finished", "diverged") for t in runs]
    mean = mean_curve(curves, [last_value(c) if end else None for c, end in zip(curves, ended, strict=True)])
    axes.plot(mean.steps, mean.values, color=arm_colour(arm), lw=1.8)


def dose_response(results: StudyResults, doses: Mapping[str, str], *, x: str, y: str) -> Figure:
    """Draw, by row, the share of runs that succeed against the strength of the treatment.

    Intervals are Wilson's. Doses stand at equal distances, since 0 may be one of them.

    Args:
        results: a study whose primary metric has a success rule.
        doses: name of an arm -> how the axis calls its dose, in ascending order.
        x: name of the axis of doses.
        y: name of the axis of shares.
    """
    rows = evaluated_rows(results)
    figure = Figure(figsize=(3.6 * len(rows), 2.6), layout="constrained")
    panels = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    for axes, (row, title) in zip(panels, rows, strict=True):
        for i, arm in enumerate(results.record.arms):
            runs = [t for t in results.trials if (t.row, t.arm) == (row, arm.name) and t.done]
            if arm.name in doses and runs:
                hits = sum(succeeded(t, results.record.metric) for t in runs)
                _draw_rate(axes, list(doses).index(arm.name), hits, len(runs), arm_colour(i))
        axes.set_xticks(range(len(doses)), list(doses.values()))
        axes.set_xlim(-0.4, len(doses) - 0.4)
        axes.set_ylim(-4, 104)
        axes.set_title(title, fontsize=9, loc="left", pad=16)
        style(axes, x=x, y=y)
    return figure


def _draw_rate(axes: Axes, x: int, hits: int, n: int, colour: str) -> None:
    interval, share = wilson(hits, n), 100 * hits / n
    axes.plot([x, x], [100 * interval.low, 100 * interval.high], color=colour, lw=2)
    axes.plot(x, share, "o", color=colour, ms=6)
    axes.annotate(f"{hits}/{n}", (x, share), (7, 0), textcoords="offset points", fontsize=8, va="center")


def _evaluated(results: StudyResults, row: str, arm: str) -> list[TrialResult]:
    name = results.record.metric.name
    found = (t for t in results.trials if (t.row, t.arm) == (row, arm))
    return [t for t in found if name in t.curves and t.curves[name].steps.size]
