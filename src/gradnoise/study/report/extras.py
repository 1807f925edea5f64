"""What an experiment adds to the report of its study: figures, and tables such as a calibration."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table of text.

    Args:
        headings: of the columns; the first column names the lines.
        rows: cells, as many as headings in each row.
        caption: how to read it.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def csv(self) -> bytes:
        """Return the table as a CSV file."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((self.headings, *self.rows))
        return text.getvalue().encode()


Extras = Sequence[tuple[str, Figure | Table]]
"""(title, figure or table), in the order of the page."""
