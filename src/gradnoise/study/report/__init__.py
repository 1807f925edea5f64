"""What a person reads: the report page, its figures, the terminal table, and the CSV files beside them.

An experiment's own figures look like the report's if they are drawn with `arm_colour` and `style`.
"""

from gradnoise.study.report.page import write_report
from gradnoise.study.report.panels import arm_colour, style
from gradnoise.study.report.tables import markdown, print_summary

__all__ = ["arm_colour", "markdown", "print_summary", "style", "write_report"]
