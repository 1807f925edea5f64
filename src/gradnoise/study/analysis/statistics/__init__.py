"""Rates, paired tests and intervals of a study: pure functions on numpy arrays.

Two arms of a study are compared over pairs: trials with the same seed that differ in the arm alone. Every
function that resamples takes its seed. No result depends on the order of the pairs. Exchanging the two arms
changes the sign of a difference and nothing more, not one bit.
"""

from gradnoise.study.analysis.statistics.arguments import check_margin, finite_vector
from gradnoise.study.analysis.statistics.interval import Interval, scaled
from gradnoise.study.analysis.statistics.means import bca_mean, sign_flip
from gradnoise.study.analysis.statistics.multiplicity import holm
from gradnoise.study.analysis.statistics.rates import (
    clopper_pearson,
    fisher_exact,
    mcnemar_exact,
    mcnemar_midp,
    newcombe_paired,
    wilson,
)
from gradnoise.study.analysis.statistics.restarts import BestOfK, best_of_k
from gradnoise.study.analysis.statistics.sample_size import least_pairs, pairs_to_decide_mean, pairs_to_decide_rate

__all__ = [
    "BestOfK",
    "Interval",
    "bca_mean",
    "best_of_k",
    "check_margin",
    "clopper_pearson",
    "finite_vector",
    "fisher_exact",
    "holm",
    "least_pairs",
    "mcnemar_exact",
    "mcnemar_midp",
    "newcombe_paired",
    "pairs_to_decide_mean",
    "pairs_to_decide_rate",
    "scaled",
    "sign_flip",
    "wilson",
]
