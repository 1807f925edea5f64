"""The sentences that state a verdict."""

import math

import numpy as np
import pytest
from support.comparisons import BASELINE, TREATMENT, say
from support.samples import rng

from gradnoise.study.analysis.comparison import Comparison, Outcome, compare
from gradnoise.study.analysis.statistics import Interval, holm
from gradnoise.study.analysis.verdict import Verdict


def seen(difference: float, low: float, high: float, p: float) -> Comparison:
    """Twenty pairs with these figures."""
    return Comparison(
        n=20,
        mean_baseline=30.0,
        mean_treatment=30.0 + difference,
        difference=difference,
        interval=Interval(low, high, 0.95),
        p=p,
        differences=tuple(difference + 40.0 * rng(0).permutation(np.linspace(-1.0, 1.0, 20))),
        seed=0,
    )


def test_helps():
    said = say(seen(41.3, 22.0, 58.1, 0.0002))
    assert said == Verdict(
        Outcome.HELPS,
        "Noise helps: +41.3 points of test accuracy against no noise "
        "(95% interval +22.0 to +58.1, 20 pairs, p = 0.0002).",
        None,
    )


def test_hurts():
    said = say(seen(-0.0413, -0.0581, -0.022, 0.00001), margin=0.05, unit="")
    assert said == Verdict(
        Outcome.HURTS,
        "Noise hurts: -0.0413 in test accuracy against no noise "
        "(95% interval -0.0581 to -0.0220, 20 pairs, p < 0.0001).",
        None,
    )


def test_test_and_interval_must_agree():
    assert say(seen(10.0, -0.1, 20.0, 0.04)).outcome is Outcome.UNDECIDED
    assert say(seen(10.0, 0.1, 20.0, 0.06)).outcome is Outcome.UNDECIDED
    assert say(seen(10.0, 0.1, 20.0, 0.05)).outcome is Outcome.HELPS


def test_real_numbers_decide():
    assert say(compare(BASELINE, TREATMENT)).outcome is Outcome.HELPS
    assert say(compare(TREATMENT, BASELINE)).outcome is Outcome.HURTS


def test_lower_can_be_better():
    loss = BASELINE / 1000
    said = say(compare(loss, loss - 0.012), metric="test loss", unit="", higher_is_better=False)
    assert said.sentence == (
        "Noise helps, but within the margin of ±1: -0.0120 in test loss against no noise "
        "(lower is better, 95% interval -0.0120 to -0.0120, 10 pairs, p = 0.002)."
    )


def test_no_difference():
    d = np.array([0.3, -0.2, 0.1, -0.4, 0.25, -0.1, 0.05, 0.2])
    said = say(compare(BASELINE[:8], BASELINE[:8] + d))
    assert said.outcome is Outcome.NO_DIFFERENCE
    assert said.sentence.startswith("No difference that matters: +0.025 points of test accuracy against no noise (95%")
    assert said.sentence.endswith("8 pairs, p = 0.83), all of it within the margin of ±1 points.")
    assert say(compare(BASELINE[:8], BASELINE[:8] + d), margin=0.1).outcome is Outcome.UNDECIDED


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_identical_arms(margin):
    said = say(compare(BASELINE, BASELINE), margin=margin)
    assert said.outcome is Outcome.NO_DIFFERENCE
    assert said.sentence == "No difference: noise and no noise are identical in every pair (10 pairs)."
    said = say(compare(BASELINE[:3], BASELINE[:3]), margin=margin)
    assert (said.outcome, said.pairs_needed) == (Outcome.UNDECIDED, 6)
    assert said.sentence == (
        "Undecided at n = 3 pairs: noise and no noise are identical in every pair so far. "
        "Fewer than 6 pairs cannot decide anything at the 95% level. "
        "About 6 pairs would decide if the true difference is as seen."
    )


def test_no_pairs():
    said = say(compare([], [], success_baseline=[], success_treatment=[]))
    assert said == Verdict(
        Outcome.UNDECIDED,
        "Undecided: there are no pairs of noise and no noise yet. "
        "Fewer than 6 pairs cannot decide anything at the 95% level.",
        None,
        "Success rates: no pairs yet.",
    )


def test_one_pair():
    said = say(compare([10.0], [60.0], level=0.99))
    assert said == Verdict(
        Outcome.UNDECIDED,
        "Undecided at n = 1 pair: +50.0 points of test accuracy against no noise (p = 1). "
        "Fewer than 8 pairs cannot decide anything at the 99% level. "
        "One pair shows no spread, so the number that would decide cannot be told.",
        None,
    )


def test_undecided_names_the_number_of_pairs():
    said = say(compare(BASELINE[:8], BASELINE[:8] + np.array([9.0, -4, 6, -3, 11, 2, -5, 1])))
    assert (said.outcome, said.pairs_needed) == (Outcome.UNDECIDED, 66)
    assert said.sentence.startswith("Undecided at n = 8 pairs: +2.12 points of test accuracy against no noise (95%")
    assert said.sentence.endswith("p = 0.38). About 66 pairs would decide if the true difference is as seen.")


def test_undecided_at_a_mean_of_zero():
    c = compare([0.0] * 6, [1.0, -1.0, 2.0, -2.0, 3.0, -3.0])
    said = say(c, margin=0.0)
    assert said.pairs_needed is None
    assert said.sentence.endswith("The mean difference is 0, so no number of pairs that would decide can be told.")
    assert (say(c, margin=1.0).pairs_needed or 0) > 6  # enough to see that none matters


def test_success_rates_stand_beside():
    # The rates differ clearly, the primary metric does not: only the primary metric decides.
    won = [True] * 9 + [False]
    metric = np.tile([1.0, -1.0], 5)
    said = say(compare(metric * 0, metric, success_baseline=[False] * 10, success_treatment=won), margin=0.0)
    assert said.outcome is Outcome.UNDECIDED
    assert said.rates == (
        "Success rates: noise 9 of 10 (90%), no noise 0 of 10 (0%); "
        "difference +90 points (95% interval +49 to +98, p = 0.002)."
    )


def test_holm_adjusted_p_decides():
    c = compare(BASELINE, TREATMENT)
    assert say(c, p_adjusted=c.p).outcome is Outcome.HELPS
    said = say(c, p_adjusted=float(holm([c.p] * 20)[0]))
    assert said.outcome is Outcome.UNDECIDED
    assert "Holm-adjusted p = 0.078)" in said.sentence
    assert said.pairs_needed == 11
    for p in (c.p / 2, 1.5, math.nan):
        with pytest.raises(ValueError, match="p_adjusted is"):
            say(c, p_adjusted=p)


@pytest.mark.parametrize("margin", [-1.0, math.nan, math.inf])
def test_bad_margin_is_refused(margin):
    with pytest.raises(ValueError, match="margin is"):
        say(compare(BASELINE, TREATMENT), margin=margin)
