"""What the report shows of language models in perplexities: a table of all runs, and curves over the epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gradnoise.data.ptb import Corpus, load_corpus
from gradnoise.study import StudyResults, TrialResult
from gradnoise.study.analysis import done_by_row
from gradnoise.study.report import Extras, Table, arm_colour, legend, style

TEST, VALID, TRAIN = (f"{part}_log_perplexity" for part in ("test", "valid", "train"))
#: Above this perplexity a curve leaves the picture.
TOP = 2000.0


def perplexities(results: StudyResults) -> Extras:
    """Make the table of perplexities and the curves over training.

    Args:
        results: of a study of language models.

    Returns:
        Nothing where no run is done.
    """
    table = _table(results)
    return [("Perplexities", table), ("Perplexity over training", _curves(results))] if table.rows else []


# --- the table ------------------------------------------------------------------------------------


def _table(results: StudyResults) -> Table:
    baseline = results.record.arms[0].name
    lines = []
    for title, cells in done_by_row(results):
        for arm in results.record.arms:
            if runs := sorted(cells.get(arm.name, ()), key=lambda t: t.seed):
                changed = "" if arm.name == baseline else _change(cells.get(baseline, ()), runs)
                lines.append((title, arm.label, *_cells(runs), changed, "  ".join(_perplexity(t, TEST) for t in runs)))
    return Table(
        ("row", "arm", "runs", "test", "valid", "train", "test against no noise", "test, seed by seed"),
        tuple(lines),
        "Geometric means over seeds of the final perplexities; train is the mean over the last epoch, with dropout"
        " where there is any. The change is the mean over pairs of one seed. The tests are on the logarithms.",
    )


def _cells(runs: Sequence[TrialResult]) -> tuple[str, ...]:
    means = []
    for metric in (TEST, VALID, TRAIN):
        values = [x for t in runs if (x := _last(t, metric)) is not None]
        means.append(_written(fmean(values)) if values else "")
    return (str(len(runs)), *means)


def _change(baseline: Sequence[TrialResult], runs: Sequence[TrialResult]) -> str:
    """Return the mean change of the perplexity over pairs of one seed, in %; where it is large, the factor."""
    without = {t.seed: x for t in baseline if (x := _last(t, TEST)) is not None}
    differences = [x - without[t.seed] for t in runs if t.seed in without and (x := _last(t, TEST)) is not None]
    if not differences:
        return ""
    ratio = math.exp(min(fmean(differences), 700.0))
    return f"{100 * (ratio - 1):+.1f} %" if ratio < 10 else f"{ratio:.2g} times"


def _last(trial: TrialResult, metric: str) -> float | None:
    """Return the value that counts, or of a measure of training its last one; None where there is none."""
    found = trial.final.get(metric)
    if found is None and metric in trial.curves and len(trial.curves[metric].values):
        found = float(trial.curves[metric].values[-1])
    return found if found is not None and math.isfinite(found) else None


def _perplexity(trial: TrialResult, metric: str) -> str:
    nats = _last(trial, metric)
    if trial.diverged_at is not None or nats is None:
        return "diverged"
    return _written(nats)


def _written(nats: float) -> str:
    """Write the perplexity of a log-perplexity with four digits.

    Example:
        >>> _written(math.log(95.04)), _written(30.0)
        ('95.0', '1.07e+13')
    """
    if nats > math.log(1e6):
        return f"{math.exp(min(nats, 700.0)):.3g}"
    value = math.exp(nats)
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


# --- the curves -----------------------------------------------------------------------------------


def _curves(results: StudyResults) -> Figure:
    """Draw test perplexity (solid) and training perplexity (dotted) of every run, by row."""
    rows = [(row, title) for row, title in results.record.rows if any(t.row == row for t in results.trials)]
    figure = Figure(figsize=(max(4.6, 3.8 * len(rows)), 3.6), layout="constrained")
    axes = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    corpus = _generated(results)
    for ax, (row, title) in zip(axes, rows, strict=True):
        for i, arm in enumerate(results.record.arms):
            for trial in results.trials:
                if (trial.row, trial.arm) == (row, arm.name):
                    _draw(ax, trial, arm_colour(i))
        if corpus is not None:
            ax.axhline(math.exp(corpus.floors["test"]), color="black", lw=1, ls="--")
        ax.set_yscale("log")
        ax.set_title(title, fontsize=9, loc="left", pad=18)
        style(ax, x="updates", y="" if ax is not axes[0] else "perplexity")
    _set_limits(axes[0])
    lines = [Line2D([], [], color=arm_colour(i), label=arm.label) for i, arm in enumerate(results.record.arms)]
    lines.append(Line2D([], [], color="grey", ls=":", label="training text"))
    if corpus is not None:
        lines.append(Line2D([], [], color="black", lw=1, ls="--", label="the chain itself: nobody scores less"))
    legend(figure, lines, columns=2 * len(rows))
    return figure


def _set_limits(ax: Axes) -> None:
    """Show perplexities up to `TOP`, and write them as plain numbers."""
    seen = [float(y) for line in ax.lines for y in np.asarray(line.get_ydata()) if 0 < float(y) < TOP]
    if seen:
        ax.set_ylim(0.9 * min(seen), 1.1 * max(seen))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw(ax: Axes, trial: TrialResult, colour: str) -> None:
    for metric, look in ((TEST, "-"), (TRAIN, ":")):
        if metric in trial.curves:
            curve = trial.curves[metric]
            values = [math.exp(min(x, 700.0)) for x in curve.values.tolist()]
            ax.plot(curve.steps, values, look, color=colour, lw=1, alpha=0.7)


def _generated(results: StudyResults) -> Corpus | None:
    """Return the generated corpus, if the study ran on it."""
    corpus = load_corpus("generated")
    return corpus if results.record.experiment.endswith(corpus.fingerprint) else None
