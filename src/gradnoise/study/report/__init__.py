"""What a person reads: the report page, its figures, the terminal table, and the CSV files beside them.

An experiment adds figures and tables of its own (`Extra`); its figures look like the report's if they are drawn
with `arm_colour` and `style`.
"""

from gradnoise.study.report.extras import Extra, Table
from gradnoise.study.report.page import write_report
from gradnoise.study.report.panels import arm_colour, style
from gradnoise.study.report.tables import markdown, print_summary

__all__ = ["Extra", "Table", "arm_colour", "markdown", "print_summary", "style", "write_report"]
