"""How often verdicts are wrong, by simulation through the path that reports use.

Reduced sizes; docs/statistics.md has the full ones. Limits are the promised rate + 4 standard errors: a false alarm
about once in 30000 seeds for each, and the seeds are fixed.
"""

import math

import numpy as np
import pytest
from support.error_rates import PLAIN, SOLVES, TYPES, Table4, coverage, equivalence, familywise, judged, stuck
from support.report_fakes import study, trial

from gradnoise.study.analysis import summarise


def at_most(rate: float, studies: int) -> float:
    return rate + 4.0 * math.sqrt(rate * (1.0 - rate) / studies)


@pytest.mark.parametrize("kind", TYPES)
def test_equal_arms_are_rarely_told_apart(kind):
    assert familywise(kind, 120, seed=1) <= at_most(0.05, 120)


@pytest.mark.parametrize("kind", ["normal", "bimodal"])
def test_equal_arms_are_rarely_told_apart_in_any_of_six_rows(kind):
    assert familywise(kind, 40, seed=2, rows=6) <= at_most(0.05, 40)


@pytest.mark.parametrize("kind", TYPES)
def test_a_difference_of_the_margin_is_rarely_called_none(kind):
    assert equivalence(kind, 100, seed=3) <= at_most(0.05, 100)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("seeds", [6, 10])
def test_the_interval_of_a_difference_holds_the_truth(kind, seeds):
    assert coverage(kind, 400, seed=4, seeds=seeds) >= 0.95 - 4.0 * math.sqrt(0.05 * 0.95 / 400)


def test_a_treatment_that_solves_one_in_ten_is_not_called_the_same():
    assert stuck(40, 6) == stuck(10, 20) == 0.0


def test_the_mirror_image_a_treatment_that_breaks_one_in_ten_is_not_called_the_same_either():
    rng, same = np.random.default_rng(5), 0
    for _ in range(40):
        values = 95.0 + rng.normal(0.0, 0.3, (1, 2, 8))
        values[0, 1, rng.random(8) < 0.1] = 10.0
        same += judged(SOLVES, values).effects[0].verdict.outcome == "no difference"
    assert same == 0


def test_diverged_runs_that_no_one_scored_help_nobody():
    """Equal arms, and the treatment loses its bad half to divergence: it would look better in most studies."""
    rng, decided = np.random.default_rng(6), 0
    for _ in range(40):
        trials = []
        for seed in range(16):
            before, after = rng.normal(50.0, 10.0, 2)
            trials.append(trial("none", seed, before))
            lost = after < 50.0
            trials.append(trial("noise", seed, None if lost else after, status="diverged" if lost else "finished"))
        decided += summarise(study(trials, metric=PLAIN)).effects[0].verdict.outcome != "undecided"
    assert decided == 0


def test_a_clear_effect_is_found_in_eight_rows_with_six_seeds():
    rng = np.random.default_rng(7)
    for _ in range(20):
        values = rng.normal(30.0, 3.0, (8, 2, 6))
        values[:, 1] += 40.0
        assert [e.verdict.outcome for e in judged(PLAIN, values).effects] == ["helps"] * 8


def test_the_success_test_beside_a_verdict_takes_the_seed_as_its_unit():
    """Two settings of a seed succeed together: 8 seeds are 8 pairs, and not 16."""
    rng, found = np.random.default_rng(8), 0
    for _ in range(100):
        won = np.where(rng.random((2, 8)) < 0.5, 95.0, 10.0)
        trials = [
            trial(arm, seed, float(won[a, seed]), setting=setting)
            for setting in ("lr=0.1", "lr=0.01")
            for a, arm in enumerate(("none", "noise"))
            for seed in range(8)
        ]
        success = summarise(study(trials, metric=SOLVES)).effects[0].comparison.success
        assert success is not None
        found += success.p <= 0.05
    assert found / 100 <= at_most(0.05, 100)


def test_a_table_of_rates_is_found_as_a_whole():
    some, _ = Table4().power(2)
    assert some == 1.0
