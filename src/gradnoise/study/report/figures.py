"""Which figures a study has: training curves, paired differences, success rates, noise against gradient."""

from __future__ import annotations

import dataclasses

from gradnoise.study.analysis.curves import pooled
from gradnoise.study.analysis.shapes import Summary
from gradnoise.study.report.lanes import paired_differences, success_rates
from gradnoise.study.report.panels import DASHES, Plot
from gradnoise.study.report.training import noise_to_gradient, training_curves
from gradnoise.study.results import StudyResults


def plots(results: StudyResults, summary: Summary) -> tuple[Plot, ...]:
    """Make the plots that the results have something for.

    Rows with more settings than there are line styles are drawn as means over their settings.

    Args:
        results: a study.
        summary: what `summarise` makes of it.
    """
    drawable = dataclasses.replace(results, trials=tuple(pooled(results, len(DASHES))))
    made = (
        training_curves(drawable),
        paired_differences(summary),
        success_rates(summary),
        noise_to_gradient(drawable),
    )
    return tuple(plot for plot in made if plot.panels)
