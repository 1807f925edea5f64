"""Several comparisons at once: adjusting the p-values of a family."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gradnoise.study.analysis.statistics.arguments import Vector, finite_vector


def holm(pvalues: ArrayLike) -> Vector:
    """Adjust p-values by Holm's method: the chance of any false claim in the family stays below the level.

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1.

    Args:
        pvalues: raw p-values of one family, shape [m], each in [0, 1].

    Returns:
        Adjusted p-values in the order given, shape [m].

    Source: Holm (1979), Scand. J. Statist. 6:65.
    """
    p = finite_vector(pvalues, "pvalues")
    if p.size and not 0.0 <= p.min() <= p.max() <= 1.0:
        raise ValueError(f"pvalues span {p.min()} to {p.max()}; each must be in [0, 1].")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
