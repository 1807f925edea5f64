import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnoise.study.analysis.statistics import (
    Interval,
    bca_mean,
    holm,
    mcnemar_midp,
    newcombe_paired,
    sign_flip,
    wilson,
)
from gradnoise.study.analysis.verdict import Comparison, Outcome, Success, Verdict, compare, verdict

quick = settings(max_examples=40, deadline=None)
pairs = st.lists(st.tuples(st.integers(-4, 4).map(float), st.integers(-4, 4).map(float)), max_size=9)

# Ten pairs, percent accuracy: the treatment is better in nine.
BASELINE = np.array([31.0, 48.5, 22.0, 90.0, 35.5, 41.0, 60.0, 28.5, 33.0, 50.0])
TREATMENT = np.array([78.0, 91.5, 60.5, 88.0, 95.0, 70.0, 97.5, 64.0, 45.0, 89.5])


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def say(comparison: Comparison, margin: float = 1.0, **options: Any) -> Verdict:
    words: dict[str, Any] = {
        "treatment": "noise",
        "baseline": "no noise",
        "metric": "test accuracy",
        "unit": "points",
    } | options
    return verdict(comparison, margin=margin, **words)


def columns(rows: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in rows], [b for _, b in rows]


# compare


def test_compare_reports_what_the_statistics_say():
    won_a, won_b = BASELINE > 60, TREATMENT > 60
    c = compare(BASELINE, TREATMENT, success_baseline=won_a, success_treatment=won_b, level=0.9, seed=7)
    d = TREATMENT - BASELINE
    assert (c.n, c.seed, c.differences) == (10, 7, tuple(d))
    assert c.mean_baseline == pytest.approx(BASELINE.mean())
    assert c.mean_treatment == pytest.approx(TREATMENT.mean())
    assert c.difference == pytest.approx(d.mean())
    assert c.interval == bca_mean(d, 0.9, seed=7)
    assert c.p == sign_flip(d, seed=7)
    assert c.success == Success(
        n=10,
        baseline=1,
        treatment=9,
        interval_baseline=wilson(1, 10, 0.9),
        interval_treatment=wilson(9, 10, 0.9),
        difference=0.8,
        interval=newcombe_paired(1, 8, 0, 1, 0.9),
        p=mcnemar_midp(8, 0),
    )


@quick
@given(pairs, st.randoms(use_true_random=False))
def test_order_of_pairs_changes_nothing(rows, shuffler):
    shuffled = shuffler.sample(rows, len(rows))
    once, again = compare(*columns(rows)), compare(*columns(shuffled))
    assert sorted(once.differences) == sorted(again.differences)
    same = dataclasses.replace(again, differences=once.differences)
    assert repr(once) == repr(same)  # by repr, as nan is not equal to itself
    assert say(once) == say(again)


@quick
@given(pairs)
def test_swapping_the_arms_mirrors_everything(rows):
    a, b = columns(rows)
    one, other = compare(a, b), compare(b, a)
    assert one.p == other.p
    assert (one.interval.low, one.interval.high) == (-other.interval.high, -other.interval.low)
    mirrored = {Outcome.HELPS: Outcome.HURTS, Outcome.HURTS: Outcome.HELPS}
    said, opposite = say(one), say(other)
    assert opposite.outcome is mirrored.get(said.outcome, said.outcome)
    assert opposite.pairs_needed == said.pairs_needed
    assert say(other, higher_is_better=False).outcome is said.outcome


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"baseline": [1.0, math.nan], "treatment": [1.0, 2.0]}, r"baseline\[1\] is nan"),
        ({"baseline": [1.0, 2.0], "treatment": [math.inf, 2.0]}, r"treatment\[0\] is inf"),
        ({"baseline": [1.0, 2.0], "treatment": [1.0]}, "treatment has 1 entries, baseline 2"),
        ({"baseline": [1.0], "treatment": [1.0], "success_baseline": [True]}, "give both or neither"),
        (
            {"baseline": [1.0], "treatment": [1.0], "success_baseline": [1], "success_treatment": [0.5]},
            r"success_treatment\[0\] is 0.5",
        ),
        (
            {"baseline": [1.0], "treatment": [1.0], "success_baseline": [1, 0], "success_treatment": [1, 0]},
            "success_baseline has 2 entries",
        ),
        ({"baseline": [1.0], "treatment": [1.0], "level": 95}, "level is 95"),
    ],
)
def test_compare_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(**arguments)


# Sentences


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
    assert said.beside == (
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


# Promises


@quick
@given(pairs.filter(lambda rows: len(rows) < 6), st.floats(0.0, 100.0))
def test_nothing_is_decided_below_six_pairs(rows, margin):
    said = say(compare(*columns(rows)), margin=margin)
    assert said.outcome is Outcome.UNDECIDED
    assert "Fewer than 6 pairs cannot decide anything" in said.sentence
    assert said.pairs_needed is None or said.pairs_needed >= 6


@quick
@given(pairs, st.floats(0.0, 100.0), st.floats(1.0, 50.0))
def test_every_verdict_can_be_read(rows, margin, family):
    c = compare(*columns(rows))
    said = say(c, margin=margin, p_adjusted=min(1.0, family * c.p))
    assert said.sentence.endswith(".") and said.sentence[0].isupper()
    assert "nan" not in said.sentence and "inf " not in said.sentence and "-0.0 " not in said.sentence
    assert said.pairs_needed is None or (said.outcome is Outcome.UNDECIDED and said.pairs_needed > c.n)


def test_equal_arms_are_rarely_told_apart():
    # 200 studies of 8 pairs of equal arms: a claim in at most 5% + 4 standard errors, whatever the shape.
    generator = rng(1)
    for draw in (generator.normal, generator.exponential):
        data = draw(size=(200, 2, 8))
        claims = [say(compare(a, b), margin=0.0).outcome in (Outcome.HELPS, Outcome.HURTS) for a, b in data]
        assert np.mean(claims) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 200)


def test_a_difference_of_the_margin_is_rarely_called_small():
    # 400 studies of 8 pairs whose true difference is the margin itself: the sentence says that it is
    # within it in 2.5% + 4 standard errors. The interval alone would say so in about 6%.
    data = 1.0 + 0.5 * rng(2).normal(size=(400, 8))
    claims = ["within the margin" in say(compare(np.zeros(8), d)).sentence for d in data]
    assert 0.0 < np.mean(claims) <= 0.025 + 4 * math.sqrt(0.025 * 0.975 / 400)


def test_a_clear_difference_is_found():
    # 100 studies of 10 pairs, effect twice the spread of differences: all but a few find it.
    data = 2.0 + rng(3).normal(size=(100, 10))
    outcomes = [say(compare(np.zeros(10), d)).outcome for d in data]
    assert outcomes.count(Outcome.HELPS) >= 95
    assert Outcome.HURTS not in outcomes


def test_interval_in_question():
    assert 0.0 in Interval(0.0, 1.0, 0.95)
    assert 0.0 not in Interval(1e-9, 1.0, 0.95)


# rates


def rate(both: int, gained: int, lost: int, neither: int, top: float = 100.0) -> Comparison:
    """A comparison of 0s and `top`s with these pairs."""
    rows = [(top, top)] * both + [(0.0, top)] * gained + [(top, 0.0)] * lost + [(0.0, 0.0)] * neither
    return compare(*columns(rows), rate_of=top)


def test_a_rate_is_judged_by_mcnemar_and_newcombe():
    c, expected = rate(10, 14, 3, 73), newcombe_paired(10, 14, 3, 73)
    assert c.rate and c.difference == pytest.approx(11.0)
    assert (c.interval.low, c.interval.high) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert c.p == mcnemar_midp(14, 3)
    assert say(c).outcome is Outcome.HELPS and say(rate(10, 3, 14, 73)).outcome is Outcome.HURTS


@given(st.tuples(*[st.integers(0, 12)] * 4), st.sampled_from([1.0, 100.0]))
@quick
def test_the_unit_of_a_rate_changes_nothing(counts, top):
    c = rate(*counts, top=top)
    n = sum(counts)
    assert c.p == mcnemar_midp(counts[1], counts[2])
    assert c.difference == pytest.approx(top * (counts[1] - counts[2]) / n if n else math.nan, nan_ok=True)
    assert -top <= c.interval.low <= c.interval.high <= top


@pytest.mark.parametrize("counts", [(8, 0, 0, 0), (0, 0, 0, 8), (4, 0, 0, 4)])
def test_eight_equal_successes_are_no_proof_that_rates_are_equal(counts):
    said = say(rate(*counts), margin=2.0)
    assert said.outcome is Outcome.UNDECIDED and "identical in every pair so far" in said.sentence


def test_many_equal_successes_are():
    said = say(rate(5000, 0, 0, 0), margin=2.0)
    assert said.outcome is Outcome.NO_DIFFERENCE and "within the margin" in said.sentence


def test_fewer_than_six_pairs_decide_nothing_of_a_rate():
    assert rate(0, 5, 0, 0).p < 0.05
    assert say(rate(0, 5, 0, 0)).outcome is Outcome.UNDECIDED
    assert say(rate(0, 6, 0, 0)).outcome is Outcome.HELPS


def test_pairs_that_would_decide_a_rate():
    said = say(rate(1, 3, 1, 15))
    assert said.outcome is Outcome.UNDECIDED and said.pairs_needed is not None and said.pairs_needed > 20
    assert say(rate(1, 2, 2, 15)).pairs_needed is None


def test_means_over_settings_are_no_rate():
    c = compare([0.0, 50.0, 100.0], [0.0, 100.0, 100.0], rate_of=100.0)
    assert not c.rate and c.p == sign_flip([0.0, 50.0, 0.0], seed=0)
