"""Looking at a study more than once: the tests, the store that remembers, and what a report says."""

import dataclasses
import math

import numpy as np
import pytest
from support.error_rates import PLAIN, RATE, judged
from support.report_fakes import paired, study
from support.samples import rng
from support.small import small

from gradnoise.study import Store, StudyError, StudyRecord
from gradnoise.study.analysis.headline import conclusions
from gradnoise.study.analysis.looks import monitoring
from gradnoise.study.analysis.statistics import (
    anytime_sign_flip,
    joint_sign_flips,
    least_pairs_anytime,
    sequential_sign_flips,
    sign_flip,
    spent,
)
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.results import Look
from gradnoise.study.store import note_look


def family(table: np.ndarray) -> list[dict[int, float]]:
    return [dict(enumerate(column)) for column in table.T]


def look(seeds: int, asked: int) -> Look:
    return Look("then", asked, tuple(range(seeds)))


def test_one_look_at_all_seeds_is_the_fixed_test():
    table = rng(1).normal(0.6, 1.0, size=(10, 4))
    once = sequential_sign_flips(family(table), [range(10)], 10, seed=0)
    assert once == pytest.approx(joint_sign_flips(family(table), seed=0), abs=2e-5)
    assert sequential_sign_flips([], [range(3)], 3, seed=0).size == 0


def test_alpha_is_spent_late():
    assert spent(0.05, 1.0) == 0.05 and spent(0.05, 0.0) == 0.0
    assert 0.0 < spent(0.05, 0.3) < 0.001 < spent(0.05, 0.6) < spent(0.05, 0.9) < 0.05


def test_what_was_decided_stays_decided():
    d = np.concatenate((5.0 + rng(2).normal(size=10), -30.0 * np.ones(4)))
    early = sequential_sign_flips(family(d[:10, None]), [range(10)], 14, seed=0)[0]
    late = sequential_sign_flips(family(d[:, None]), [range(10), range(14)], 14, seed=0)[0]
    assert early <= 0.05 and late <= 0.05 and sign_flip(d, seed=0) > 0.05


def test_planned_looks_keep_the_level_where_naive_ones_do_not():
    # 120 studies of equal arms, read after each seed from 6 to 14: 4 standard errors.
    generator, looks = rng(3), [range(n) for n in range(6, 15)]
    ours = naive = 0
    for _ in range(120):
        d = generator.normal(size=14)
        ours += sequential_sign_flips(family(d[:, None]), looks, 14, seed=0)[0] <= 0.05
        naive += any(sign_flip(d[:n], seed=0) <= 0.05 for n in range(6, 15))
    assert ours / 120 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 120)
    assert ours < naive


def test_an_e_process_keeps_its_level_at_any_time():
    generator = rng(4)
    for draw in (generator.normal, generator.standard_cauchy):
        found = np.mean([anytime_sign_flip(list(draw(size=60))) <= 0.05 for _ in range(800)])
        assert found <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 800)
    # the factor of one pair has mean 1 over both signs
    ones = [1.0 / anytime_sign_flip([1.0] * n) for n in (1, 5, 8)]
    assert ones == sorted(ones) and anytime_sign_flip([1.0] * 8) <= 0.05 < anytime_sign_flip([1.0] * 4)
    assert anytime_sign_flip([]) == anytime_sign_flip([0.0, 0.0]) == 1.0
    d = list(generator.normal(1.0, 1.0, size=12))
    assert anytime_sign_flip(d) == pytest.approx(anytime_sign_flip([-x for x in d]))
    assert anytime_sign_flip(d, one_sided=True) < anytime_sign_flip(d) < 1.0


class TestStudies:
    RECORD = study([], seeds=tuple(range(12))).record

    def test_a_fixed_design_is_none(self):
        assert monitoring(self.RECORD, (), range(12)) is None
        assert monitoring(self.RECORD, (look(12, 12),), range(12)) is None  # read again
        assert monitoring(self.RECORD, (), ()) is None

    def test_a_look_before_the_end_spends_alpha(self):
        now = monitoring(self.RECORD, (), range(7))
        assert now is not None and (now.planned, now.anytime, len(now.looks)) == (12, False, 1)
        declared = dataclasses.replace(self.RECORD, max_seeds=30)
        now = monitoring(declared, (look(6, 6),), range(12))
        assert now is not None and (now.planned, now.anytime, len(now.looks)) == (30, False, 2)
        assert "12 of 30 declared seeds, after looks at 6" in now.sentence

    def test_seeds_that_nobody_declared_ask_for_an_e_process(self):
        now = monitoring(self.RECORD, (look(6, 6),), range(12))
        assert now is not None and now.anytime and "added after a look at 6 of 6" in now.sentence

    def test_the_verdict_says_how_it_was_read(self):
        def value(arm: str, seed: int) -> float:
            return 50.0 + seed % 5 + (arm == "noise") * (4.0 + 0.1 * (seed % 3))

        results = study(paired(value, 12), seeds=tuple(range(12)), metric=PLAIN)
        fixed = summarise(results)
        added = summarise(dataclasses.replace(results, looks=(look(6, 6),)))
        assert fixed.cautions == () and fixed.effects[0].p_adjusted == sign_flip(
            fixed.effects[0].comparison.differences, seed=3
        )
        assert added.effects[0].evidence.method == "e-process and Holm"
        assert added.effects[0].p_adjusted > fixed.effects[0].p_adjusted
        assert any("added after a look" in note for note in conclusions(added))

    def test_pairs_that_would_decide_are_those_of_the_e_process(self):
        rows = [str(i) for i in range(8)]
        trials = [
            t for r in rows for t in paired(lambda arm, seed: 50.0 + (arm == "noise") * (4.0 + seed % 3 / 9), 7, row=r)
        ]
        results = study(trials, rows=rows, seeds=tuple(range(7)), metric=PLAIN)
        added = summarise(dataclasses.replace(results, looks=(look(6, 6),)))
        needed = [e.verdict.pairs_needed for e in added.effects]
        assert {n.low for n in needed if n} == {least_pairs_anytime(0.05 / 8)} == {11}

    @pytest.mark.parametrize("metric", [PLAIN, RATE])
    @pytest.mark.parametrize("declared", [None, 14])
    def test_looks_through_reports_keep_the_level(self, metric, declared):
        # 60 studies of equal arms, read at 6, 8, 10, 12 and 14 seeds: no more than 4 standard errors allow of 30.
        generator, found = rng(5), 0
        for _ in range(60):
            values = (
                100.0 * (generator.random((1, 2, 14)) < 0.5) if metric is RATE else generator.normal(size=(1, 2, 14))
            )
            looks: tuple[Look, ...] = ()
            said = []
            for n in (6, 8, 10, 12, 14):
                summary = judged(metric, values[:, :, :n], looks=looks, max_seeds=declared)
                said.append(summary.effects[0].verdict.outcome)
                looks = (*looks, look(n, n))
            found += any(outcome in ("helps", "hurts") for outcome in said)
        assert found / 30 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 30)


class TestStore:
    def test_every_look_is_kept_once(self, tmp_path):
        with Store(tmp_path) as store:
            store.extend(StudyRecord.of(small()), list(small().trials()), [])
            assert store.looks() == store.results().looks == ()
            note_look(tmp_path, 8, {1, 0})  # while another process trains
            note_look(tmp_path, 8, {0, 1})
            note_look(tmp_path, 12, {0, 1, 2})
            assert [(x.asked, x.seeds) for x in store.looks()] == [(8, (0, 1)), (12, (0, 1, 2))]
        with Store(tmp_path, readonly=True) as store:
            assert len(store.results().looks) == 2

    def test_a_store_of_an_older_version_has_none_and_gets_them(self, tmp_path):
        with Store(tmp_path) as store:
            store.extend(StudyRecord.of(small()), list(small().trials()), [])
            store.db.execute("DROP TABLE looks")
        with Store(tmp_path, readonly=True) as store:
            assert store.looks() == ()
        note_look(tmp_path, 2, [0])
        with Store(tmp_path) as store:
            assert len(store.looks()) == 1

    def test_a_look_that_cannot_be_kept_is_an_error(self, tmp_path):
        with pytest.raises(StudyError, match="this look at the study is not kept"):
            note_look(tmp_path / "nowhere", 2, [0])

    def test_more_seeds_than_declared_are_refused(self):
        with pytest.raises(StudyError, match="has 2 seeds and max_seeds = 1"):
            small(max_seeds=1)
        assert small(max_seeds=30).max_seeds == 30
