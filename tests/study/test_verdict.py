"""The rule that decides: its symmetries, its error rates, and rates."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.comparisons import BASELINE, TREATMENT, columns, pairs, say
from support.samples import rng

from gradnoise.study.analysis.comparison import Comparison, Outcome, compare
from gradnoise.study.analysis.evidence import Evidence
from gradnoise.study.analysis.statistics import Interval, mcnemar_unconditional, newcombe_paired, rates_within

quick = settings(max_examples=40, deadline=None)


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
    assert (opposite.pairs_needed, opposite.detectable) == (said.pairs_needed, said.detectable)
    assert opposite.equivalent == pytest.approx(said.equivalent)
    assert said.better is None or opposite.better == pytest.approx(1.0 - said.better)
    assert say(other, higher_is_better=False).outcome is said.outcome


@quick
@given(pairs.filter(lambda rows: len(rows) < 6), st.floats(0.0, 100.0))
def test_nothing_is_decided_below_six_pairs(rows, margin):
    said = say(compare(*columns(rows)), margin=margin)
    assert said.outcome is Outcome.UNDECIDED
    assert "Fewer than 6 pairs cannot decide anything" in said.sentence
    assert said.pairs_needed is None or said.pairs_needed.low >= 6


@quick
@given(pairs, st.none() | st.floats(0.0, 100.0), st.integers(1, 50), st.none() | st.floats(0.1, 200.0))
def test_every_verdict_can_be_read(rows, margin, family, reach):
    c = compare(*columns(rows))
    proof = Evidence(min(1.0, family * c.p), 1.0, 1.0, family, "Holm")
    said = say(c, margin=margin, evidence=proof, reach=reach)
    assert said.sentence.endswith(".") and said.sentence[0].isupper()
    assert "nan" not in said.sentence and "inf " not in said.sentence and "-0.0 " not in said.sentence
    needed = said.pairs_needed
    assert needed is None or (said.outcome is Outcome.UNDECIDED and c.n < needed.low <= (needed.high or needed.low))


def test_equal_arms_are_rarely_told_apart():
    # 200 studies of 8 pairs of equal arms: a claim in at most 5% + 4 standard errors, whatever the shape.
    generator = rng(1)
    for draw in (generator.normal, generator.exponential):
        data = draw(size=(200, 2, 8))
        claims = [say(compare(a, b), margin=0.0).outcome in (Outcome.HELPS, Outcome.HURTS) for a, b in data]
        assert np.mean(claims) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 200)


def test_a_difference_of_the_margin_is_rarely_called_small():
    # 400 studies of 8 pairs whose true difference is the margin itself: the sentence says that it is
    # within it in 2.5% + 4 standard errors.
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


# Rates


def rate(both: int, gained: int, lost: int, neither: int, top: float = 100.0) -> Comparison:
    """A comparison of 0s and `top`s with these pairs."""
    rows = [(top, top)] * both + [(0.0, top)] * gained + [(top, 0.0)] * lost + [(0.0, 0.0)] * neither
    return compare(*columns(rows), rate_of=top)


def test_a_rate_is_judged_by_mcnemar_and_newcombe():
    c, expected = rate(10, 14, 3, 73), newcombe_paired(10, 14, 3, 73)
    assert c.rate and c.difference == pytest.approx(11.0)
    assert (c.interval.low, c.interval.high) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert c.p == mcnemar_unconditional(14, 3, 100)
    assert say(c).outcome is Outcome.HELPS and say(rate(10, 3, 14, 73)).outcome is Outcome.HURTS


@given(st.tuples(*[st.integers(0, 12)] * 4), st.sampled_from([1.0, 100.0]))
@quick
def test_the_unit_of_a_rate_changes_nothing(counts, top):
    c = rate(*counts, top=top)
    n = sum(counts)
    assert c.p == mcnemar_unconditional(counts[1], counts[2], n)
    assert c.difference == pytest.approx(top * (counts[1] - counts[2]) / n if n else math.nan, nan_ok=True)
    assert -top <= c.interval.low <= c.interval.high <= top


@pytest.mark.parametrize("counts", [(8, 0, 0, 0), (0, 0, 0, 8), (4, 0, 0, 4)])
def test_eight_equal_successes_are_no_proof_that_rates_are_equal(counts):
    said = say(rate(*counts), margin=2.0)
    assert said.outcome is Outcome.UNDECIDED and "identical in every pair so far" in said.sentence


def test_many_equal_successes_are():
    said = say(rate(1000, 0, 0, 0), margin=2.0)
    assert said.outcome is Outcome.NO_DIFFERENCE and "within the margin" in said.sentence


def test_no_difference_of_a_rate_is_proved_exactly():
    assert rates_within(0, 0, 202, 0.02) <= 0.05 < rates_within(0, 0, 182, 0.02)
    assert say(rate(202, 0, 0, 0), margin=2.0).outcome is Outcome.NO_DIFFERENCE
    said = say(rate(182, 0, 0, 0), margin=2.0)
    assert said.outcome is Outcome.UNDECIDED and said.pairs_needed is not None and said.pairs_needed.high == 201


def test_fewer_than_six_pairs_decide_nothing_of_a_rate():
    assert say(rate(0, 5, 0, 0)).outcome is Outcome.UNDECIDED
    assert say(rate(0, 6, 0, 0)).outcome is Outcome.HELPS


def test_pairs_that_would_decide_a_rate():
    said = say(rate(1, 3, 1, 15))
    assert said.outcome is Outcome.UNDECIDED and said.pairs_needed is not None
    assert said.pairs_needed.low > 20 and said.pairs_needed.high is None
    assert said.detectable is not None and 20.0 < said.detectable < 60.0


# What is not proved


def test_without_a_margin_nothing_is_called_no_difference():
    d = np.array([0.3, -0.2, 0.1, -0.4, 0.25, -0.1, 0.05, 0.2])
    for differences in (d, d * 0.0):
        said = say(compare(np.zeros(8), differences), margin=None)
        assert said.outcome is Outcome.UNDECIDED and said.equivalent is None and not said.within
        assert "No margin is declared" in said.sentence
    assert say(compare(np.zeros(8), d + 9.0), margin=None).outcome is Outcome.HELPS


def test_a_success_that_no_pair_has_shown_is_not_excluded():
    # Both arms stuck in all of n pairs: 2 (1 - 1/70)^n must be at most 0.05.
    d = np.tile([0.1, -0.1], 200)
    few, enough = (compare(np.zeros(n), d[:n]) for n in (8, 260))
    assert say(few).outcome is say(enough).outcome is Outcome.NO_DIFFERENCE  # no success rule, no such pairs
    said = say(few, reach=70.0)
    assert said.outcome is Outcome.UNDECIDED and "up to 37% of pairs may differ in success" in said.sentence
    assert said.pairs_needed is not None and said.pairs_needed.high == 257
    assert say(enough, reach=70.0).outcome is Outcome.NO_DIFFERENCE


def test_a_verdict_that_is_refused_says_why():
    said = say(compare(BASELINE, TREATMENT), refused="No verdict: 6 runs diverged.")
    assert (said.outcome, said.sentence) == (Outcome.UNDECIDED, "No verdict: 6 runs diverged.")
    assert said.pairs_needed is said.detectable is None and not said.within


def test_probabilities_stand_beside():
    said = say(compare(BASELINE, TREATMENT))
    assert said.better is not None and said.better > 0.99 and said.equivalent is not None and said.equivalent < 0.01
    lower = say(compare(BASELINE, TREATMENT), higher_is_better=False)
    assert lower.better == pytest.approx(1.0 - said.better)
    even = say(rate(10, 5, 5, 10))
    assert even.better == pytest.approx(0.5, abs=0.01)
    same = say(rate(0, 0, 0, 2000), margin=2.0)
    assert same.equivalent is not None and same.equivalent > 0.99
