import dataclasses
import math

import numpy as np
import pytest
from support.report_fakes import METRIC, helpful, paired, study, trial

from gradnoise.study.analysis.comparison import Outcome
from gradnoise.study.analysis.headline import conclusions
from gradnoise.study.analysis.scores import at_chance, best_value, final_value, seed_means, short_settings
from gradnoise.study.analysis.statistics import joint_sign_flips, scaled, sign_flip, sign_flip_interval, wilson
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.report.methods import methods_used
from gradnoise.study.spec import Arm, Claim, Metric, StudyError

#: Without a success rule, so that few seeds may prove that there is no difference.
FREE = dataclasses.replace(METRIC, success=None)


def claim(expects: str, treatment: str = "noise", row: str = "a") -> Claim:
    return Claim("C", row, "A claim.", "Paper", treatment, expects)


def status(results, expects: str) -> str:
    record = dataclasses.replace(results.record, claims=(claim(expects),))
    return summarise(dataclasses.replace(results, record=record)).findings[0].status


class TestCells:
    def test_a_cell_by_hand(self):
        trials = [trial("none", 0, 90.0), trial("none", 1, 10.0), trial("none", 2, 9.8, status="diverged")]
        cell = summarise(study(trials)).cell("a", "none")
        assert cell is not None
        assert (cell.asked, cell.n, cell.final.seeds) == (3, 3, 3)
        assert cell.final.best == 90.0
        assert cell.final.mean == pytest.approx((90.0 + 10.0 + 9.8) / 3)
        assert cell.final.sd == pytest.approx(np.std([90.0, 10.0, 9.8], ddof=1))
        assert cell.final.interval == sign_flip_interval([90.0, 10.0, 9.8], seed=3)
        fates = cell.fates
        assert (fates.done, fates.stuck, fates.learning, fates.diverged, fates.successes) == (3, 1, 1, 1, 1)
        assert fates.interval == wilson(1, 3)

    def test_the_second_reading_takes_the_best_of_each_runs_evaluations(self):
        curves = {0: [10.0, 95.0, 60.0], 1: [10.0, math.nan, 20.0]}
        trials = [trial("none", s, c[-1], curve=c) for s, c in curves.items()]
        cell = summarise(study(trials)).cell("a", "none")
        assert cell is not None
        assert (cell.final.best, cell.final.mean) == (60.0, 40.0)
        assert (cell.second.best, cell.second.mean) == (95.0, 57.5)

    @pytest.mark.filterwarnings("ignore:metric 'accuracy'. you say that less of it is better")
    def test_lower_is_better_turns_best_around(self):
        metric = dataclasses.replace(METRIC, higher_is_better=False, chance=50.0, success=5.0)
        trials = [trial("none", 0, 4.0, curve=[50.0, 2.0, 4.0]), trial("none", 1, 60.0)]
        cell = summarise(study(trials, metric=metric)).cell("a", "none")
        assert cell is not None
        assert (cell.final.best, cell.second.best) == (4.0, 2.0)
        assert (cell.fates.stuck, cell.fates.successes) == (1, 1)

    def test_the_mean_of_a_rate_has_the_interval_of_a_rate(self):
        metric = dataclasses.replace(METRIC, chance=None, success=100.0, rate=True)
        trials = [trial("none", s, 100.0) for s in range(8)] + [trial("noise", s, 100.0 * (s < 3)) for s in range(8)]
        summary = summarise(study(trials, metric=metric))
        cells = [summary.cell("a", arm) for arm in ("none", "noise")]
        for cell, hits in zip(cells, (8, 3), strict=True):
            assert cell.final.interval == scaled(wilson(hits, 8), 100.0)
        assert summary.effects[0].comparison.rate
        assert [m.name for m in methods_used(summary)].count("Paired success rates") == 1
        assert not any("Sign-flip" in m.how or "bootstrap" in m.how for m in methods_used(summary))

    @pytest.mark.parametrize("options", [{}, {"success": 0.0}, {"success": 1.0, "higher_is_better": False}])
    def test_a_rate_without_a_success_is_refused(self, options):
        with pytest.raises(StudyError, match="a rate needs success > 0"):
            Metric("solved", "solved", rate=True, **options)

    def test_settings_weigh_equally_and_seeds_that_lack_one_wait(self):
        trials = [
            trial("none", 0, 90.0),
            trial("none", 0, 10.0, setting="lr=0.01"),
            trial("none", 1, 80.0),
            trial("none", 1, None, setting="lr=0.01", status="pending"),
        ]
        cell = summarise(study(trials)).cell("a", "none")
        assert cell is not None
        assert (cell.n, cell.final.seeds, cell.final.mean, cell.final.best) == (3, 1, 50.0, 90.0)
        assert [(f.setting, f.done) for f in cell.by_setting] == [("lr=0.1", 2), ("lr=0.01", 1)]

    def test_a_diverged_run_without_a_score_leaves_no_verdict(self):
        trials = [*paired(lambda arm, seed: 50.0 + seed + 9.0 * (arm == "noise"), 7), trial("noise", 7, 60.0)]
        trials.append(trial("none", 7, None, status="diverged"))
        summary = summarise(study(trials))
        cell = summary.cell("a", "none")
        assert cell is not None and (cell.n, cell.fates.done, cell.fates.diverged) == (7, 8, 1)
        said = summary.effects[0].verdict
        assert said.outcome is Outcome.UNDECIDED and said.sentence.startswith(
            "No verdict: 1 run (1 of no noise) diverged"
        )
        assert any("1 diverged runs have no score" in note for note in conclusions(summary)[1:])
        assert status(study(trials), "helps") == "undecided"
        assert status(study([trial("noise", 9, None, status="diverged"), *trials]), "chance") == "undecided"

    def test_a_diverged_run_never_succeeds(self):
        cell = summarise(study([trial("none", 0, 99.0, status="diverged")])).cell("a", "none")
        assert cell is not None and cell.fates.successes == 0

    def test_best_of_k_needs_eight_runs(self):
        few, enough = ([trial("none", s, float(s)) for s in range(n)] for n in (7, 8))
        assert summarise(study(few)).cells[0].restarts is None
        restarts = summarise(study(enough)).cells[0].restarts
        assert restarts is not None and (restarts.k, restarts.n, restarts.mean) == (2, 8, 3.5)


class TestEffects:
    def test_the_seed_is_the_unit(self):
        def one(arm: str, seed: int) -> float:
            return 20.0 + 3.0 * seed + (arm == "noise") * (seed + 1.0)

        def other(arm: str, seed: int) -> float:
            return 10.0 - (arm == "noise") * 0.5

        trials = [*paired(one), *paired(other, setting="lr=0.01")]
        effect = summarise(study(trials)).effects[0]
        expected = [(seed + 1.0 - 0.5) / 2 for seed in range(8)]
        assert effect.seeds == tuple(range(8))
        assert effect.comparison.differences == pytest.approx(expected)
        assert effect.comparison.p == sign_flip(expected, seed=3)
        assert effect.comparison.interval.low == pytest.approx(sign_flip_interval(expected, seed=3).low)

    def test_successes_count_every_pair_of_runs(self):
        def one(arm: str, seed: int) -> float:
            return 90.0 if arm == "noise" and seed < 5 else 20.0

        trials = [*paired(one), *paired(lambda arm, seed: 20.0, setting="lr=0.01")]
        success = summarise(study(trials)).effects[0].comparison.success
        assert success is not None
        assert (success.n, success.baseline, success.treatment) == (16, 0, 5)

    def test_p_values_are_adjusted_over_the_claims(self):
        summary = summarise(helpful())
        flips = joint_sign_flips(
            [dict(zip(e.seeds, e.comparison.differences, strict=True)) for e in summary.effects], seed=3
        )
        # Four claims are declared and three run: the fourth counts too.
        assert [e.p_adjusted for e in summary.effects] == pytest.approx(np.minimum(flips * 4 / 3, 1.0).tolist())
        assert all(e.primary and e.evidence.family == 4 for e in summary.effects)
        assert [e.verdict.outcome for e in summary.effects] == [
            Outcome.HELPS,
            Outcome.UNDECIDED,  # nothing excludes a success that 8 pairs have not shown
            Outcome.UNDECIDED,
        ]

    def test_only_settings_that_both_arms_run_are_compared(self):
        trials = [*paired(lambda arm, seed: 50.0 + (arm == "noise")), trial("none", 0, 99.0, setting="lr=9")]
        effect = summarise(study(trials)).effects[0]
        assert effect.comparison.n == 8
        assert effect.comparison.mean_baseline == 50.0

    def test_an_arm_without_baseline_in_its_row_has_no_effect(self):
        assert summarise(study([trial("noise", 0, 50.0)])).effects == ()

    @pytest.mark.parametrize("shuffle", [1, 2, 3])
    def test_the_order_of_trials_changes_nothing(self, shuffle):
        gains = [3.1, -0.2, 7.7, 0.0, 4.3, 1.9, 2.2]
        trials = paired(lambda arm, seed: 40.1 + seed / 7 + (arm == "noise") * gains[seed], len(gains))
        order = np.random.Generator(np.random.PCG64(shuffle)).permutation(len(trials))
        assert summarise(study(trials)) == summarise(study([trials[i] for i in order]))


class TestFamilies:
    ROWS = tuple("abcdefgh")

    @staticmethod
    def value(gain: float):
        return lambda arm, seed: 30.0 + 7.0 * (seed * 3 % 5) + (arm == "noise") * (gain + 0.5 * (seed % 3))

    def results(self, rows=ROWS, seeds: int = 6, **options):
        trials = [t for row in rows for t in paired(self.value(40.0), seeds, row=row)]
        return study(trials, rows=rows, metric=FREE, **options)

    def test_six_seeds_decide_a_table_of_eight_rows(self):
        effects = summarise(self.results()).effects
        assert [e.verdict.outcome for e in effects] == [Outcome.HELPS] * 8
        assert {(e.p_adjusted, e.evidence.family, e.evidence.method) for e in effects} == {(2 / 64, 8, "max-T")}

    def test_the_claims_are_the_family_whatever_rows_were_run(self):
        claims = [claim("helps", row=row) for row in "abcd"]
        whole, part = (summarise(self.results(rows, claims=claims)) for rows in (self.ROWS, tuple("ab")))
        assert [e.primary for e in whole.effects] == [True] * 4 + [False] * 4
        assert [e.evidence.family for e in whole.effects] == [4] * 8
        assert [e.p_adjusted for e in part.effects] == [2 * 2 / 64] * 2  # two of the four are missing
        assert [e.evidence.family for e in part.effects] == [4] * 2

    def test_proof_of_no_difference_is_adjusted_as_well(self):
        def one(rows):
            trials = [
                t for row in rows for t in paired(lambda arm, seed: 50.0 + seed + 0.2 * (arm == "noise"), 6, row=row)
            ]
            return summarise(
                study(trials, rows=tuple("ab"), metric=FREE, claims=[claim("helps"), claim("helps", row="b")])
            )

        assert [e.evidence.p_within for e in one("ab").effects] == [2 / 64] * 2
        assert [e.evidence.p_within for e in one("a").effects] == [2 * 2 / 64]

    def test_rates_pass_a_gate_where_all_claims_expect_the_same(self):
        metric = dataclasses.replace(METRIC, chance=None, success=100.0, rate=True)

        def won(share: int):
            return lambda arm, seed: 100.0 * (arm == "noise" and seed % share == 0)

        trials = [*paired(won(3), 30), *paired(won(5), 30, row="b"), *paired(won(5), 30, row="c")]
        rows, claims = tuple("abc"), [claim("helps", row=row) for row in "abc"]
        gated = summarise(study(trials, rows=rows, claims=claims, metric=metric)).effects
        mixed = [*claims[:2], claim("hurts", row="c")]
        holms = summarise(study(trials, rows=rows, claims=mixed, metric=metric)).effects
        raw = [e.comparison.p for e in holms]
        assert [e.p_adjusted for e in holms] == pytest.approx([3 * raw[0], 2 * raw[1], 2 * raw[2]])
        assert [e.p_adjusted for e in gated] == pytest.approx([2 * raw[0], 2 * raw[1], 2 * raw[2]])
        assert {e.evidence.method for e in gated} == {"pooled gate and Holm"}

    def test_the_test_of_a_rate_is_chosen_by_the_study_and_not_by_the_data(self):
        metric = dataclasses.replace(METRIC, chance=None, success=100.0, rate=True)

        def won(arm: str, seed: int) -> float:
            return 100.0 * (arm == "noise")

        trials = [*paired(won), *paired(won, setting="lr=0.01")]  # every mean over both settings is 0 or 100
        (effect,) = summarise(study(trials, metric=metric)).effects
        assert not effect.comparison.rate and effect.comparison.p == sign_flip([100.0] * 8, seed=3)
        assert effect.comparison.success is not None and effect.comparison.success.seeds == 8
        with pytest.raises(StudyError, match="metric 'accuracy' cannot be compared: treatment holds 50"):
            summarise(study(paired(lambda arm, seed: 50.0 * (arm == "noise")), metric=metric))


class TestMargins:
    @staticmethod
    def fractions(**changes: object):
        def value(arm: str, seed: int) -> float:
            return 0.5 + 0.01 * seed + 0.25 * (arm == "noise") + 0.01 * (seed % 2) * (arm == "noise")

        return study(paired(value), metric=dataclasses.replace(METRIC, success=None, **changes))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"chance": None}, "is not used: the metric is declared in %, and all its values lie between 0 and 1"),
            ({"chance": 0.1, "unit": ""}, "is not used: no two runs differ by more than 0.73"),
        ],
    )
    def test_a_margin_that_no_run_could_exceed_is_not_used(self, changes, said):
        summary = summarise(self.fractions(**changes))
        assert said in summary.cautions[0] and any(said in note for note in conclusions(summary))
        assert summary.effects[0].verdict.outcome is Outcome.HELPS and not summary.effects[0].verdict.within
        results = self.fractions(**changes)
        assert status(results, "no difference") == "not reproduced" and status(results, "chance") == "not tested"

    def test_a_margin_larger_than_the_spread_of_the_baseline_is_said(self):
        results = study(paired(lambda arm, seed: 97.0 + 0.1 * (seed % 3) + 0.01 * (arm == "noise") * seed), metric=FREE)
        summary = summarise(results)
        assert "larger than all that runs of no noise differ by (0.2 points)" in summary.cautions[0]
        assert summary.effects[0].verdict.within
        assert summarise(helpful()).cautions == ()

    @pytest.mark.parametrize("margin", [-1.0, math.inf, math.nan])
    def test_a_margin_that_is_none_is_refused(self, margin):
        with pytest.raises(StudyError, match="margin is"):
            Metric("accuracy", "accuracy", margin=margin)


class TestClaims:
    @pytest.mark.parametrize(
        ("gain", "expects", "found"),
        [
            (9.0, "helps", "reproduced"),
            (9.0, "hurts", "not reproduced"),
            (9.0, "no difference", "not reproduced"),
            (-9.0, "hurts", "reproduced"),
            (0.0, "no difference", "reproduced"),
            (0.0, "helps", "not reproduced"),
            (0.5, "helps", "reproduced"),
            (0.5, "no difference", "reproduced"),  # it helps, and by less than what matters
        ],
    )
    def test_statuses(self, gain, expects, found):
        def value(arm: str, seed: int) -> float:
            return 50.0 + seed + (arm == "noise") * gain * (1.0 + 0.01 * seed)

        assert status(study(paired(value), metric=FREE), expects) == found

    def test_few_pairs_leave_a_claim_undecided(self):
        few = study(paired(lambda arm, seed: 50.0 + 9.0 * (arm == "noise"), 4))
        assert status(few, "helps") == "undecided"

    @pytest.mark.parametrize(
        ("values", "found"),
        [
            ([10.0, 11.35, 9.8, 10.0, 11.35, 9.8], "reproduced"),
            ([10.0, 11.35, 9.8, 10.0, 11.35], "undecided"),  # fewer seeds than a verdict needs
            ([40.0, 45.0, 42.0, 41.0, 44.0, 43.0], "not reproduced"),
            ([2.0, 2.0, 3.0, 2.0, 3.0, 2.0], "not reproduced"),
            ([10.0, 10.0, 10.0, 10.0, 10.0, 90.0], "undecided"),
        ],
    )
    def test_chance(self, values, found):
        assert status(study([trial("noise", s, v) for s, v in enumerate(values)], metric=FREE), "chance") == found

    def test_chance_with_a_success_rule_needs_enough_runs_to_exclude_a_success(self):
        def found(n: int) -> str:
            return status(study([trial("noise", s, 10.0 + 0.1 * (-1) ** s) for s in range(n)]), "chance")

        # A success lies 70 points off, and 1.5 points count as chance: 2 (1 - 1.5 / 70.1)^n <= 0.05 from n = 171 on.
        assert (found(6), found(160), found(180)) == ("undecided", "undecided", "reproduced")

    def test_chance_cannot_be_tested_without_a_level(self):
        metric = dataclasses.replace(METRIC, chance=None)
        assert status(study([trial("noise", 0, 10.0)], metric=metric), "chance") == "not tested"

    def test_unknown_expectation_is_refused(self):
        with pytest.raises(StudyError, match="claim C expects 'wins'; it must be one of helps, hurts"):
            summarise(study([], claims=[claim("wins")]))

    def test_claims_of_rows_that_did_not_run_are_not_tested(self):
        assert [f.status for f in summarise(helpful()).findings] == [
            "reproduced",
            "undecided",
            "undecided",
            "not tested",
        ]


class TestHeadline:
    def test_one_line_on_all_rows_then_the_claims(self):
        assert conclusions(summarise(helpful())) == [
            "Noise helps in 1 of 3 rows; 2 undecided.",
            "1 of 4 published claims are reproduced, 2 are undecided, 1 was not tested.",
        ]

    @pytest.mark.parametrize(
        ("gain", "seeds", "said"),
        [
            (9.0, 8, "Noise helps in all 2 rows."),
            (-9.0, 8, "Noise hurts in all 2 rows."),
            (0.0, 8, "Noise makes no difference in all 2 rows."),
            (9.0, 4, "Nothing is decided: all 2 comparisons with no noise are undecided."),
        ],
    )
    def test_rows_that_agree(self, gain, seeds, said):
        def value(arm: str, seed: int) -> float:
            return 50.0 + seed + gain * (arm == "noise") * (1.0 + 0.01 * seed)

        trials = [*paired(value, seeds), *paired(value, seeds, row="b")]
        assert conclusions(summarise(study(trials, rows=("a", "b"), metric=FREE)))[0] == said

    @pytest.mark.parametrize(
        ("gain", "said"),
        [
            (9.0, "Noise helps: +9 points of test accuracy."),
            (0.0, "Noise makes no difference that matters."),
            (None, "Undecided: 8 pairs do not tell noise from no noise."),
        ],
    )
    def test_a_single_comparison_speaks_for_itself(self, gain, said):
        def value(arm: str, seed: int) -> float:
            shift = (-1.0) ** seed * 9.0 if gain is None else gain
            return 50.0 + seed + shift * (arm == "noise")

        assert conclusions(summarise(study(paired(value), metric=FREE))) == [said]

    @pytest.mark.parametrize(
        ("gains", "said"),
        [
            ({"muon": 9, "eta": -9, "cos": -9, "drop": None}, "Muon helps; eta and cos hurt; 1 undecided."),
            ({"muon": 9, "a, b": 8, "c": 7}, "All 3 arms help."),
            ({"muon": 9, "a, b": 8, "c": -7}, "Muon and “a, b” help; c hurts."),
            ({**dict.fromkeys("abcd", 8), "muon": 9, "x": -5}, "Muon and 4 more arms help; x hurts."),
            ({"same": 0, "eta": -9}, "Eta hurts; same makes no difference."),
        ],
    )
    def test_arms_of_one_outcome_are_named_together(self, gains, said):
        arms = (Arm("none"), *(Arm(name) for name in gains))
        trials = [trial("none", s, 50.0 + s) for s in range(10)]
        for name, gain in gains.items():
            shift = [(-1.0) ** s * 9.0 if gain is None else gain for s in range(10)]
            trials += [trial(name, s, 50.0 + s + shift[s]) for s in range(10)]
        assert conclusions(summarise(study(trials, arms=arms, metric=FREE)))[0] == said

    def test_before_any_pair_is_whole(self):
        trials = [trial("none", 0, 50.0), trial("noise", 0, None, status="running")]
        summary = summarise(study(trials, claims=[claim("helps")]))
        assert conclusions(summary) == ["No verdict yet: 1 of 2 trials are done, and no pair is whole."]
        assert summary.findings[0].status == "not tested"

    def test_a_partial_study_says_so(self):
        trials = [
            *paired(lambda arm, seed: 50.0 + (arm == "noise")),
            trial("none", 8, None, status="pending"),
        ]
        said = conclusions(summarise(study(trials)))
        assert any(note.startswith("So far 16 of 17 trials are done.") for note in said)

    def test_an_arm_of_one_row_is_named_beside_one_of_all(self):
        arms = (Arm("none", title="no noise"), Arm("noise"), Arm("drop", title="dropout"))
        trials = [
            *paired(lambda arm, seed: 50.0 + seed + 9.0 * (arm == "noise")),
            *paired(lambda arm, seed: 50.0 + seed - 9.0 * (arm == "noise"), row="b"),
            *(trial("drop", s, 10.0) for s in range(8)),
        ]
        said = conclusions(summarise(study(trials, rows=("a", "b"), arms=arms)))[0]
        assert said == "Noise helps in 1 of 2 rows and hurts in 1; dropout hurts."


class TestScores:
    def test_short_settings_keep_what_differs(self):
        labels = ["init=he, dims=(50, 50), lr=0.1", "init=he, dims=(50, 50), lr=0.01"]
        assert list(short_settings(labels).values()) == ["lr=0.1", "lr=0.01"]
        assert short_settings(["lr=0.1"]) == {"lr=0.1": ""}
        assert short_settings(["lr 0.1", "lr 0.01"]) == {"lr 0.1": "lr 0.1", "lr 0.01": "lr 0.01"}
        assert short_settings([]) == {}

    def test_chance_is_one_sided_and_follows_the_direction(self):
        assert at_chance(11.5, METRIC) and at_chance(3.0, METRIC) and not at_chance(11.6, METRIC)
        loss = Metric("loss", "loss", higher_is_better=False, chance=2.3, margin=0.1)
        assert at_chance(2.2, loss) and at_chance(9.0, loss) and not at_chance(2.1, loss)
        assert not at_chance(10.0, dataclasses.replace(METRIC, chance=None))

    def test_values_whose_squares_overflow_count_as_broken(self):
        metric = dataclasses.replace(METRIC, success=None, chance=None)
        blown = paired(lambda arm, seed: 1.7e308 * (-1 if arm == "noise" else 1) if seed == 2 else 50.0 + seed)
        (effect,) = summarise(study(blown, metric=metric)).effects
        assert effect.verdict.refused and "2 runs (1 of no noise and 1 of noise) diverged" in effect.verdict.sentence
        (effect,) = summarise(study(blown, metric=dataclasses.replace(metric, broken=0.0))).effects
        assert effect.comparison.n == 8 and effect.comparison.difference == 0.0

    def test_scores_of_trials_that_are_not_done_or_not_finite_are_nan(self):
        for case in (trial("none", 0, None, status="pending"), trial("none", 0, math.inf)):
            assert math.isnan(final_value(case, METRIC)) and math.isnan(best_value(case, METRIC))

    def test_seed_means_are_sorted_and_whole(self):
        trials = [trial("none", s, v, setting=f"lr={lr}") for s, lr, v in [(2, 1, 4.0), (2, 2, 6.0), (1, 1, 9.0)]]
        assert seed_means(trials, final_value, METRIC) == {2: 5.0}
