"""Which figures a study has: training curves, paired differences, success rates, noise against gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

from gradnoise.study.analysis.curves import pooled
from gradnoise.study.analysis.shapes import Summary
from gradnoise.study.report.lanes import lane_panel
from gradnoise.study.report.panels import DASHES
from gradnoise.study.report.plot import Plot
from gradnoise.study.report.strips import Strips, differences, rates
from gradnoise.study.report.training import ROWS, noise_to_gradient, training_curves
from gradnoise.study.results import StudyResults

#: Name of the plot that answers the study's question.
DIFFERENCES = "paired-differences"
#: Rows of a strip chart in a file; its page has all of them.
ROWS_IN_FILE = 60


def plots(results: StudyResults, summary: Summary) -> tuple[Plot, ...]:
    """Make the plots that the results have something for.

    Rows with more settings than there are line styles are drawn as means over their settings. Of many rows those with
    the largest differences are drawn.

    Args:
        results: a study.
        summary: what `summarise` makes of it.
    """
    drawn = largest_rows(summary, ROWS)
    mine = dataclasses.replace(results, trials=tuple(t for t in results.trials if t.row in drawn))
    drawable = dataclasses.replace(results, trials=tuple(pooled(mine, len(DASHES))))
    made = (
        training_curves(drawable, len(summary.record.rows)),
        _strips(summary, DIFFERENCES, "Paired differences", differences),
        _strips(summary, "success-rates", "Success rates", rates),
        noise_to_gradient(drawable, len(summary.record.rows)),
    )
    return tuple(plot for plot in made if plot.panels)


def largest_rows(summary: Summary, most: int) -> Collection[str]:
    """Return the ids of the rows with the largest differences."""
    rows = [row for row, _ in summary.record.rows]
    if len(rows) <= most:
        return frozenset(rows)
    sizes = dict.fromkeys(rows, -1.0)
    for effect in summary.effects:
        if effect.comparison.n:
            sizes[effect.row] = max(sizes[effect.row], abs(effect.comparison.difference))
    return frozenset(sorted(rows, key=lambda row: -sizes[row])[:most])


def _strips(summary: Summary, name: str, title: str, chart: Callable[[Summary], Strips | None]) -> Plot:
    whole = chart(summary)
    if whole is None:
        return Plot(name, title, "", ())
    in_file, caption = whole, whole.caption
    if len(whole.groups) > ROWS_IN_FILE:
        titles = {summary.row_title(row) for row in largest_rows(summary, ROWS_IN_FILE)}
        in_file = dataclasses.replace(whole, groups=tuple(group for group in whole.groups if group[0] in titles))
        caption += f" Files show the {ROWS_IN_FILE} rows with the largest differences, of {len(whole.groups)}."
    arms = [arm.name for arm in summary.record.arms]
    labels = {arm.name: arm.label for arm in summary.record.arms}
    panel = lane_panel(in_file, labels, {name: i for i, name in enumerate(arms)})
    used = {strip.arm for _, strips in whole.groups for strip in strips}
    return Plot(name, title, caption, (panel,), tuple(i for i, arm in enumerate(arms) if arm in used), strips=whole)
