"""What a person reads: the report page, its figures, the terminal table, and the CSV files next to them.

An experiment adds figures and tables of its own (`Extras`). They look like the report's if they are drawn with
`arm_colour`, `style` and `legend`. For a metric with a success rule, `exact_tests`, `learning_curves` and
`dose_response` make them; `threshold_counts` and `distribution` where there are several thresholds of success.
"""

from gradnoise.study.report.extras import Extras, Table
from gradnoise.study.report.page import write_report
from gradnoise.study.report.panels import arm_colour, legend, style
from gradnoise.study.report.success import dose_response, evaluated_rows, exact_tests, learning_curves
from gradnoise.study.report.tables import markdown
from gradnoise.study.report.terminal import print_summary, print_table
from gradnoise.study.report.thresholds import THRESHOLDS_CAPTION, distribution, threshold_counts

__all__ = [
    "THRESHOLDS_CAPTION",
    "Extras",
    "Table",
    "arm_colour",
    "distribution",
    "dose_response",
    "evaluated_rows",
    "exact_tests",
    "learning_curves",
    "legend",
    "markdown",
    "print_summary",
    "print_table",
    "style",
    "threshold_counts",
    "write_report",
]
