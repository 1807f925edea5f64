"""The sentences that state a verdict."""

import math

import numpy as np
import pytest
from support.comparisons import BASELINE, TREATMENT, say
from support.samples import rng

from gradnoise.study.analysis.comparison import Comparison, Outcome, compare
from gradnoise.study.analysis.evidence import Evidence
from gradnoise.study.analysis.statistics import Interval, Pairs, holm


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
    assert (said.outcome, said.pairs_needed, said.rates, said.detectable) == (Outcome.HELPS, None, None, None)
    assert said.sentence == (
        "Noise helps: +41.3 points of test accuracy against no noise "
        "(95% interval +22.0 to +58.1, 20 pairs, p = 0.0002)."
    )


def test_hurts():
    said = say(seen(-0.0413, -0.0581, -0.022, 0.00001), margin=0.05, unit="")
    assert said.outcome is Outcome.HURTS
    assert said.sentence == (
        "Noise hurts: -0.0413 in test accuracy against no noise "
        "(95% interval -0.0581 to -0.0220, 20 pairs, p < 0.0001)."
    )


def test_a_run_that_blew_up_does_not_fill_the_line():
    worse = np.array([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1e15])
    said = say(compare(np.zeros(8), worse), metric="test loss", unit="", higher_is_better=False)
    assert said.sentence == (
        "Noise hurts: +1.25e+14 in test loss against no noise (lower is better, 95% interval +1 to +5e+14, 8 pairs,"
        " p = 0.0078)."
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
        "(lower is better, the same in every pair, 10 pairs, p = 0.002)."
    )


def test_no_difference():
    d = np.array([0.3, -0.2, 0.1, -0.4, 0.25, -0.1, 0.05, 0.2])
    said = say(compare(BASELINE[:8], BASELINE[:8] + d))
    assert said.outcome is Outcome.NO_DIFFERENCE
    assert said.sentence.startswith("No difference that matters: +0.025 points of test accuracy against no noise (95%")
    assert said.sentence.endswith("8 pairs, p = 0.83), all of it within the margin of ±1 points.")
    assert say(compare(BASELINE[:8], BASELINE[:8] + d), margin=0.1).outcome is Outcome.UNDECIDED


def test_identical_arms():
    said = say(compare(BASELINE, BASELINE))
    assert said.outcome is Outcome.NO_DIFFERENCE
    assert said.sentence == "No difference: noise and no noise are identical in every pair (10 pairs)."
    said = say(compare(BASELINE[:3], BASELINE[:3]))
    assert (said.outcome, said.pairs_needed) == (Outcome.UNDECIDED, Pairs(6, 6))
    assert said.sentence == (
        "Undecided at n = 3 pairs: noise and no noise are identical in every pair so far. "
        "Fewer than 6 pairs cannot decide anything at the 95% level. "
        "6 pairs would decide if they go on like this."
    )
    said = say(compare(BASELINE, BASELINE), margin=0.0)  # nothing proves that there is no difference at all
    assert said.outcome is Outcome.UNDECIDED
    assert said.sentence.endswith("No number of pairs that would decide can be told.")


def test_no_pairs():
    said = say(compare([], [], success_baseline=[], success_treatment=[]))
    assert (said.outcome, said.rates, said.better) == (Outcome.UNDECIDED, "Success rates: no pairs yet.", None)
    assert said.sentence == (
        "Undecided: there are no pairs of noise and no noise yet. "
        "Fewer than 6 pairs cannot decide anything at the 95% level."
    )


def test_one_pair():
    said = say(compare([10.0], [60.0], level=0.99))
    assert (said.outcome, said.pairs_needed) == (Outcome.UNDECIDED, None)
    assert said.sentence == (
        "Undecided for noise at n = 1 pair: +50.0 points of test accuracy against no noise (p = 1). "
        "Fewer than 8 pairs cannot decide anything at the 99% level. "
        "These pairs show no spread, so the number that would decide cannot be told."
    )


def test_undecided_names_a_range_and_what_would_have_been_seen():
    said = say(compare(BASELINE[:8], BASELINE[:8] + np.array([9.0, -4, 6, -3, 11, 2, -5, 1])))
    assert (said.outcome, said.pairs_needed) == (Outcome.UNDECIDED, Pairs(14, None))
    assert said.sentence.startswith(
        "Undecided for noise at n = 8 pairs: +2.12 points of test accuracy against no noise (95%"
    )
    assert said.sentence.endswith(
        "p = 0.38). So many pairs would have shown a difference of 6.88 points (in 80 of 100 studies). "
        "It would take 14 pairs or more to decide, perhaps far more."
    )


def test_undecided_between_two_numbers():
    said = say(compare(np.zeros(20), rng(5).normal(0.8, 1.5, size=20)))
    assert said.outcome is Outcome.UNDECIDED and said.pairs_needed is not None
    assert f"Between {said.pairs_needed.low:,} and {said.pairs_needed.high:,} pairs would decide." in said.sentence


def test_success_rates_stand_beside():
    # The rates differ clearly, the primary metric does not: only the primary metric decides.
    won = [True] * 9 + [False]
    metric = np.tile([1.0, -1.0], 5)
    said = say(compare(metric * 0, metric, success_baseline=[False] * 10, success_treatment=won), margin=0.0)
    assert said.outcome is Outcome.UNDECIDED
    assert said.rates == (
        "Success rates: noise 9 of 10 (90%), no noise 0 of 10 (0%); "
        "difference +90 points (95% interval +49 to +98, p = 0.0024)."
    )


def test_adjusted_p_decides():
    c = compare(BASELINE, TREATMENT)
    assert say(c, evidence=Evidence(c.p, 1.0, 1.0)).outcome is Outcome.HELPS
    said = say(c, evidence=Evidence(float(holm([c.p] * 20)[0]), 1.0, 1.0, 20, "Holm"))
    assert said.outcome is Outcome.UNDECIDED
    assert "adjusted p = 0.078)" in said.sentence
    # What would decide is counted for the adjusted level, also where p is capped.
    capped = say(c, evidence=Evidence(1.0, 1.0, 1.0, 20, "Holm"))
    assert capped.pairs_needed == said.pairs_needed == Pairs(11, 15)
    for p in (c.p / 2, 1.5, math.nan):
        with pytest.raises(ValueError, match="the adjusted p is"):
            say(c, evidence=Evidence(p, 1.0, 1.0))


@pytest.mark.parametrize("margin", [-1.0, math.nan, math.inf])
def test_bad_margin_is_refused(margin):
    with pytest.raises(ValueError, match="margin is"):
        say(compare(BASELINE, TREATMENT), margin=margin)
