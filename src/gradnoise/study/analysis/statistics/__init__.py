"""Rates, paired tests and intervals of a study: pure functions on numpy arrays.

Two arms of a study are compared over pairs: trials with the same seed that differ in the arm alone. Every
function that resamples takes its seed. No result depends on the order of the pairs. Exchanging the two arms
changes the sign of a difference and nothing more, not one bit.
"""

from gradnoise.study.analysis.statistics.arguments import check_margin, finite_vector, mean_and_spread
from gradnoise.study.analysis.statistics.interval import Interval, scaled
from gradnoise.study.analysis.statistics.joint import joint_sign_flips
from gradnoise.study.analysis.statistics.mcnemar import (
    mcnemar_exact,
    mcnemar_unconditional,
    rates_within,
    share_excluded,
)
from gradnoise.study.analysis.statistics.means import sign_flip, sign_flip_interval
from gradnoise.study.analysis.statistics.multiplicity import gated_holm, holm
from gradnoise.study.analysis.statistics.outlook import (
    CONFIDENCE,
    POWER,
    Pairs,
    detectable_mean,
    detectable_rate,
    effect_shown,
    outlook_mean,
    outlook_rate,
    pairs_for_effect,
)
from gradnoise.study.analysis.statistics.posterior import Probabilities, probabilities_mean, probabilities_rate
from gradnoise.study.analysis.statistics.rates import (
    clopper_pearson,
    fisher_exact,
    newcombe_paired,
    wilson,
)
from gradnoise.study.analysis.statistics.restarts import BestOfK, best_of_k
from gradnoise.study.analysis.statistics.sample_size import least_pairs, pairs_to_decide_rate
from gradnoise.study.analysis.statistics.sequential import (
    anytime_sign_flip,
    least_pairs_anytime,
    sequential_sign_flips,
    spent,
)

__all__ = [
    "CONFIDENCE",
    "POWER",
    "BestOfK",
    "Interval",
    "Pairs",
    "Probabilities",
    "anytime_sign_flip",
    "best_of_k",
    "check_margin",
    "clopper_pearson",
    "detectable_mean",
    "detectable_rate",
    "effect_shown",
    "finite_vector",
    "fisher_exact",
    "gated_holm",
    "holm",
    "joint_sign_flips",
    "least_pairs",
    "least_pairs_anytime",
    "mcnemar_exact",
    "mcnemar_unconditional",
    "mean_and_spread",
    "newcombe_paired",
    "outlook_mean",
    "outlook_rate",
    "pairs_for_effect",
    "pairs_to_decide_rate",
    "probabilities_mean",
    "probabilities_rate",
    "rates_within",
    "scaled",
    "sequential_sign_flips",
    "share_excluded",
    "sign_flip",
    "sign_flip_interval",
    "spent",
    "wilson",
]
