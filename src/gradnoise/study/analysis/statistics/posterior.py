"""How probable it is that an arm is better, and that no difference matters: beside the verdict, never in its place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gradnoise.study.analysis.statistics.arguments import check_margin, finite_vector, mean_and_spread

DRAWS = 20_000


@dataclass(frozen=True)
class Probabilities:
    """Posterior probabilities of the true difference, which add up to 1 with a margin."""

    above: float
    """That the difference is positive."""
    within: float | None
    """That it lies within the margin, the region of practical equivalence; None without a margin."""


def probabilities_mean(differences: ArrayLike, margin: float | None = None) -> Probabilities | None:
    """Return the posterior probabilities of a mean difference, under a flat prior of mean and log spread.

    The mean is then distributed as Student's t with n - 1 degrees of freedom around the mean seen, with scale
    s / sqrt(n).

    Args:
        differences: treatment minus baseline, one per pair, shape [n].
        margin: of practical equivalence, >= 0, or None.

    Returns:
        The probabilities; None if n < 2 or all differences are equal, where the spread is unknown.

    Source: Benavoli, Corani, Demsar, Zaffalon (2017), JMLR 18:77.
    """
    d = finite_vector(differences, "differences")
    if margin is not None:
        check_margin(margin)
    found = mean_and_spread(d)
    if found is None:
        return None
    mean, error = found[0], found[1] / math.sqrt(d.size)

    def below(value: float) -> float:
        return float(stats.t.cdf(max(min((value - mean) / error, 1e9), -1e9), d.size - 1))

    return Probabilities(1.0 - below(0.0), None if margin is None else below(margin) - below(-margin))


def probabilities_rate(gained: int, lost: int, n: int, margin: float | None = None, *, seed: int) -> Probabilities:
    """Return the posterior probabilities of a difference of paired success rates, under a flat prior.

    The shares of pairs that only the treatment, only the baseline, or neither alone solves are Dirichlet distributed.

    Args:
        gained: pairs in which the treatment alone succeeds.
        lost: pairs in which the baseline alone does.
        n: all pairs.
        margin: of practical equivalence, as a share, >= 0, or None.
        seed: seed of the draws.
    """
    if margin is not None:
        check_margin(margin)
    rng = np.random.Generator(np.random.PCG64(seed))
    shares = rng.dirichlet([gained + 1.0, lost + 1.0, n - gained - lost + 1.0], DRAWS)
    difference = shares[:, 0] - shares[:, 1]
    within = None if margin is None else float(np.mean(np.abs(difference) <= margin))
    return Probabilities(float(np.mean(difference > 0.0)), within)
