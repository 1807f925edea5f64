"""The statistics that a summary used, each in a sentence with its source."""

from __future__ import annotations

from dataclasses import dataclass

from gradnoise.study.analysis.comparison import Outcome
from gradnoise.study.analysis.evidence import JOINT
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
    several = {e.evidence.method for e in effects if e.evidence.family > 1}
    used = [
        (bool(effects), _INDEPENDENT if summary.record.independent else _PAIRS),
        (bool(effects) and means, _SIGN_FLIP),
        (any(c.final.seeds > 1 for c in summary.cells) and not (metric.rate and not means), _INTERVAL),
        (JOINT in several, _JOINT),
        (bool(several - {JOINT}), _HOLM),
        (bool(effects), _verdict_rule(summary)),
        (undecided, _PAIRS_NEEDED),
        (bool(effects) and rates and means and metric.margin is not None, _UNSEEN),
        (any(e.verdict.better is not None for e in effects), _POSTERIOR),
        (metric.chance is not None and metric.margin is not None, _chance_rule(summary)),
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
_INDEPENDENT = Method(
    "Independent runs",
    "Runs of one seed share nothing here, so that they are no pairs. They are matched by their seeds nevertheless, "
    "which say nothing of them: matched so, two draws from one distribution differ as likely one way as the other, and "
    "the tests below hold. What pairing would take out of the comparison, chance, stays in it.",
    "Fisher (1935), The Design of Experiments, section 21",
)
_SIGN_FLIP = Method(
    "Test of a paired difference",
    "Sign-flip permutation test of the mean, two-sided; all sign patterns up to 16 pairs that differ, 100,000 drawn "
    "ones beyond, fewer beyond 200 pairs. The null hypothesis is that the treatment changes nothing.",
    "Fisher (1935), The Design of Experiments, section 21; Phipson, Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39",
)
_INTERVAL = Method(
    "Interval of a mean or a mean difference",
    "All means that the sign-flip test over seeds does not reject; none with too few seeds for the test to reject any.",
    "Hartigan (1969), J. Am. Stat. Assoc. 64:1303",
)
_JOINT = Method(
    "Several comparisons",
    "Signs are flipped seed by seed, for all comparisons of a family at once; p-values are adjusted by step-down "
    "max-T. The published claims are one family, fixed before the data; all other comparisons are another. Proof of a "
    "difference and proof of none are adjusted alike.",
    "Westfall, Young (1993), Resampling-Based Multiple Testing, algorithm 2.8",
)
_HOLM = Method(
    "Several comparisons",
    "p-values of success rates are adjusted by Holm's step-down method, behind a test of the pooled difference where "
    "all claims expect the same direction. The published claims are one family, fixed before the data; all other "
    "comparisons are another. Proof of a difference and proof of none are adjusted alike.",
    "Holm (1979), Scand. J. Statist. 6:65; Marcus, Peritz, Gabriel (1976), Biometrika 63:655",
)
_PAIRS_NEEDED = Method(
    "Pairs that would decide",
    "Numbers at which the test would have power 0.8, at both ends of the 80% intervals of mean and spread; and the "
    "smallest difference that the pairs at hand would have shown with that power.",
    "Guenther (1981), Am. Stat. 35:243; Chow, Shao, Wang (2008), Sample Size Calculations in Clinical "
    "Research, section 3.1; of success rates: Miettinen (1968), Biometrics 24:339",
)
_UNSEEN = Method(
    "Successes that no pair has shown",
    "No difference is proved only where the share of pairs that may differ in success without having shown it, times "
    "the largest gap between two runs, lies within the margin.",
    "Tango (1998), Statist. Med. 17:891; Sidik (2003), Statist. Med. 22:265",
)
_POSTERIOR = Method(
    "Probabilities beside a verdict",
    "Posterior probabilities that the arm is better and that the difference lies within the margin, under a flat "
    "prior. They decide nothing.",
    "Benavoli, Corani, Demsar, Zaffalon (2017), J. Mach. Learn. Res. 18:77",
)
_WILSON = Method(
    "Interval of a success rate",
    "Wilson's score interval, every run counting for itself.",
    "Wilson (1927), J. Am. Stat. Assoc. 22:209",
)
_MCNEMAR = Method(
    "Paired success rates",
    "McNemar's unconditional exact test and Newcombe's interval of the difference (method 10); where a seed has "
    "several settings, sign flips over seeds. They stand beside the verdict and decide nothing.",
    "Suissa, Shuster (1991), Biometrics 47:361; Newcombe (1998), Statist. Med. 17:2635",
)
_MCNEMAR_DECIDES = Method(
    "Paired success rates",
    "McNemar's unconditional exact test, and Newcombe's interval of the difference (method 10). Verdicts rest on them.",
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
    margin = summary.record.metric.margin
    same = "No difference: never, as no usable margin is declared."
    if margin is not None:
        same = f"No difference: an adjusted p of at most {alpha:.2g} that the difference is ±{margin:g} or more."
    return Method(
        "Verdicts",
        f"Helps or hurts: adjusted p at most {alpha:.2g} and an interval without 0. {same} Undecided: neither, and "
        f"always with fewer than {least_pairs(alpha)} pairs or with diverged runs that have no declared score.",
    )


def _chance_rule(summary: Summary) -> Method:
    metric = summary.record.metric
    chance, width = metric.chance or 0.0, CHANCE_MARGINS * (metric.margin or 0.0)
    return Method(
        "Chance",
        f"An arm is at chance if its mean is proved to lie within {chance - width:g} to {chance + width:g}, by the "
        f"rule for no difference. A finished run is stuck if it ends there or worse.",
    )
