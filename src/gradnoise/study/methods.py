"""The statistics that a summary used, each in a sentence with its source."""

from __future__ import annotations

from dataclasses import dataclass

from gradnoise.study.scores import CHANCE_MARGINS
from gradnoise.study.summary import Summary
from gradnoise.study.verdict import Outcome


@dataclass(frozen=True)
class Method:
    """What was done, how, and who proposed it."""

    name: str
    how: str
    source: str = ""


def methods_used(summary: Summary) -> list[Method]:
    """The methods behind exactly the numbers of this summary."""
    metric, effects = summary.record.metric, [e for e in summary.effects if e.comparison.n]
    rate = metric.success is not None
    chance = any(claim.expects == "chance" for claim in summary.record.claims)
    undecided = any(e.verdict.outcome is Outcome.UNDECIDED for e in effects)
    used = [
        (bool(effects), _PAIRS),
        (bool(effects), _SIGN_FLIP),
        (any(c.final.seeds > 1 for c in summary.cells), _BCA),
        (len(effects) > 1, _HOLM),
        (bool(effects), _verdict_rule(summary)),
        (undecided, _PAIRS_NEEDED),
        (chance, _chance_rule(summary)),
        (rate, _WILSON),
        (rate and bool(effects), _MCNEMAR),
        (any(c.restarts for c in summary.cells), _BEST_OF_K),
    ]
    return [method for is_used, method in used if is_used]


_PAIRS = Method(
    "Pairs",
    "A pair is one seed: two runs that differ in the arm alone. Where a row pools several settings, values are "
    "averaged over them within the seed first, because runs of one seed are not independent.",
)
_SIGN_FLIP = Method(
    "Test of a paired difference",
    "Sign-flip permutation test of the mean, two-sided; all sign patterns up to 16 pairs that differ, 100,000 "
    "drawn ones beyond.",
    "Fisher (1935), The Design of Experiments, section 21; Phipson, Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39",
)
_BCA = Method(
    "Interval of a mean or a mean difference",
    "Bias-corrected and accelerated bootstrap (BCa) over seeds, 10,000 resamples; with few seeds it is too short.",
    "Efron (1987), J. Am. Stat. Assoc. 82:171",
)
_HOLM = Method(
    "Several comparisons",
    "p-values of all comparisons of the study are adjusted together by Holm's step-down method.",
    "Holm (1979), Scand. J. Statist. 6:65",
)
_PAIRS_NEEDED = Method(
    "Pairs that would decide",
    "Number at which the test would have power 0.8 if the differences go on as seen.",
    "Guenther (1981), Am. Stat. 35:243; Chow, Shao, Wang (2008), Sample Size Calculations in Clinical Research, 3.1",
)
_WILSON = Method(
    "Interval of a success rate",
    "Wilson's score interval, every run counting for itself.",
    "Wilson (1927), J. Am. Stat. Assoc. 22:209",
)
_MCNEMAR = Method(
    "Paired success rates",
    "McNemar's exact test with mid-p, and Newcombe's interval of the difference (method 10). They stand beside the "
    "verdict and decide nothing; settings of one seed count as pairs of their own.",
    "Fagerland, Lydersen, Laake (2013), BMC Med. Res. Methodol. 13:91; Newcombe (1998), Statist. Med. 17:2635",
)
_BEST_OF_K = Method(
    "Best of k restarts",
    "Expected best of k runs drawn without replacement from those done, k a quarter of them: what keeping the best "
    "of k buys. The best of all runs grows with their number.",
    "Dodge et al. (2019), EMNLP, section 3; Tang et al. (2020), ACL",
)


def _verdict_rule(summary: Summary) -> Method:
    margin = f"{summary.record.metric.margin:g}"
    return Method(
        "Verdicts",
        "Helps or hurts: p at most 0.05 and an interval without 0. No difference: the whole interval within "
        f"±{margin}. Undecided: neither, and always with fewer than 6 pairs.",
    )


def _chance_rule(summary: Summary) -> Method:
    metric = summary.record.metric
    width = CHANCE_MARGINS * metric.margin
    return Method(
        "Chance",
        f"An arm is at chance if the whole interval of its mean lies within {width:g} of {metric.chance:g}; a run "
        "counts as stuck if it ends no further above that."
        if metric.chance is not None
        else "The metric declares no chance level.",
    )
