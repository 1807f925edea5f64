"""The statistics that a summary used, each in a sentence with its source."""

from __future__ import annotations

from dataclasses import dataclass

from gradnoise.study.analysis.comparison import Outcome
from gradnoise.study.analysis.scores import CHANCE_MARGINS
from gradnoise.study.analysis.shapes import Summary
from gradnoise.study.analysis.statistics import least_pairs


@dataclass(frozen=True)
class Method:
    """What was done, how, and where it was published."""

    name: str
    how: str
    source: str = ""


def methods_used(summary: Summary) -> list[Method]:
    """List the methods behind the numbers of this summary, and no others."""
    metric, effects = summary.record.metric, [e for e in summary.effects if e.comparison.n]
    rates, means = metric.success is not None, not all(e.comparison.rate for e in effects)
    undecided = any(e.verdict.outcome is Outcome.UNDECIDED for e in effects)
    used = [
        (bool(effects), _PAIRS),
        (bool(effects) and means, _SIGN_FLIP),
        (any(c.final.seeds > 1 for c in summary.cells) and not (metric.rate and not means), _BCA),
        (len(effects) > 1, _HOLM),
        (bool(effects), _verdict_rule(summary)),
        (undecided, _PAIRS_NEEDED),
        (metric.chance is not None, _chance_rule(summary)),
        (rates, _WILSON),
        (rates and bool(effects), _MCNEMAR if means else _MCNEMAR_DECIDES),
        (any(c.restarts for c in summary.cells), _BEST_OF_K),
        (any(c.chosen for c in summary.cells), _CHOSEN),
    ]
    return [method for is_used, method in used if is_used]


_PAIRS = Method(
    "Pairs",
    "A pair is one seed: two runs that differ in the arm alone. Where a row pools several settings, values "
    "are averaged over them within the seed first, because runs of one seed are not independent.",
)
_SIGN_FLIP = Method(
    "Test of a paired difference",
    "Sign-flip permutation test of the mean, two-sided; all sign patterns up to 16 pairs that differ, "
    "100,000 drawn ones beyond.",
    "Fisher (1935), The Design of Experiments, section 21; Phipson, Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39",
)
_BCA = Method(
    "Interval of a mean or a mean difference",
    "Bias-corrected and accelerated bootstrap (BCa) over seeds, 10,000 resamples; with few seeds it is too short.",
    "Efron (1987), J. Am. Stat. Assoc. 82:171",
)
_HOLM = Method(
    "Several comparisons",
    "The p-values of all comparisons of the study are adjusted together by Holm's step-down method.",
    "Holm (1979), Scand. J. Statist. 6:65",
)
_PAIRS_NEEDED = Method(
    "Pairs that would decide",
    "Number at which the test would have power 0.8 if the differences go on as seen.",
    "Guenther (1981), Am. Stat. 35:243; Chow, Shao, Wang (2008), Sample Size Calculations in Clinical "
    "Research, section 3.1; of success rates: Miettinen (1968), Biometrics 24:339",
)
_WILSON = Method(
    "Interval of a success rate",
    "Wilson's score interval, every run counting for itself.",
    "Wilson (1927), J. Am. Stat. Assoc. 22:209",
)
_MCNEMAR = Method(
    "Paired success rates",
    "McNemar's exact test with mid-p, and Newcombe's interval of the difference (method 10). They stand "
    "beside the verdict and decide nothing; each setting of a seed counts as a pair of its own.",
    "Fagerland, Lydersen, Laake (2013), BMC Med. Res. Methodol. 13:91; Newcombe (1998), Statist. Med. 17:2635",
)
_MCNEMAR_DECIDES = Method(
    "Paired success rates",
    "McNemar's exact test with mid-p, and Newcombe's interval of the difference (method 10). Verdicts rest on them.",
    _MCNEMAR.source,
)
_BEST_OF_K = Method(
    "Best of k restarts",
    "Expected best of k runs drawn without replacement from those done, k a quarter of them. The best of "
    "all runs, in the first table, grows with their number.",
    "Dodge et al. (2019), EMNLP, section 3; Tang et al. (2020), ACL",
)


_CHOSEN = Method(
    "Interval of chosen runs",
    "Percentile bootstrap over restarts, 10,000 resamples, choosing anew in each. It knows no better run than those "
    "seen: the training error of a resample is never below theirs.",
    "Efron, Tibshirani (1993), An Introduction to the Bootstrap, section 13.3",
)


def _verdict_rule(summary: Summary) -> Method:
    comparison = next((e.comparison for e in summary.effects), None)
    alpha = 1.0 - comparison.interval.level if comparison else 0.05
    return Method(
        "Verdicts",
        f"Helps or hurts: p at most {alpha:.2g} and an interval without 0. No difference: the whole interval "
        f"within ±{summary.record.metric.margin:g}. Undecided: neither, and always with fewer than "
        f"{least_pairs(alpha)} pairs.",
    )


def _chance_rule(summary: Summary) -> Method:
    metric = summary.record.metric
    chance, width = metric.chance or 0.0, CHANCE_MARGINS * metric.margin
    return Method(
        "Chance",
        f"An arm is at chance if the whole interval of its mean lies within {chance - width:g} to "
        f"{chance + width:g}. A finished run is stuck if it ends there or worse.",
    )
