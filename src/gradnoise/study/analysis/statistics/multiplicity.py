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


def gated_holm(pvalues: ArrayLike, gate: float) -> Vector:
    """Adjust p-values behind a gate: one test of all hypotheses together comes first.

    Closed testing with the gate for the hypothesis that all of the family hold, and Bonferroni's test for all other
    intersections: no claim stands unless the gate passes, and what passes is adjusted by Holm's method as if the
    family had one member fewer, since not all can hold any more.

    Args:
        pvalues: raw p-values of one family, shape [m], each in [0, 1].
        gate: p-value of the test of all m hypotheses at once, chosen before the data.

    Returns:
        Adjusted p-values in the order given, shape [m], none below the gate.

    Source: Marcus, Peritz, Gabriel (1976), Biometrika 63:655; Shaffer (1986), JASA 81:826.
    """
    p = finite_vector([*finite_vector(pvalues, "pvalues"), gate], "pvalues")
    if not 0.0 <= p.min() <= p.max() <= 1.0:
        raise ValueError(f"pvalues and gate span {p.min()} to {p.max()}; each must be in [0, 1].")
    p = p[:-1]
    order = np.argsort(p, kind="stable")
    factors = np.minimum(np.arange(p.size, 0, -1), max(p.size - 1, 1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * factors)
    return np.minimum(np.maximum(adjusted, gate), 1.0)
