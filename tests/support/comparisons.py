"""Comparisons made up for the tests of verdicts and of their wording."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from gradnoise.study.analysis.comparison import Comparison
from gradnoise.study.analysis.verdict import Verdict, decide

pairs = st.lists(st.tuples(st.integers(-4, 4).map(float), st.integers(-4, 4).map(float)), max_size=9)

# Ten pairs, percent accuracy: the treatment is better in nine.
BASELINE = np.array([31.0, 48.5, 22.0, 90.0, 35.5, 41.0, 60.0, 28.5, 33.0, 50.0])
TREATMENT = np.array([78.0, 91.5, 60.5, 88.0, 95.0, 70.0, 97.5, 64.0, 45.0, 89.5])


def say(comparison: Comparison, margin: float | None = 1.0, **options: Any) -> Verdict:
    words: dict[str, Any] = {
        "treatment": "noise",
        "baseline": "no noise",
        "metric": "test accuracy",
        "unit": "points",
    } | options
    return decide(comparison, margin=margin, **words)


def columns(rows: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in rows], [b for _, b in rows]
