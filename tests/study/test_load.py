"""Studies of many trials: what is the same for all seeds is done once, and what was drawn is drawn once."""

from collections import Counter

import numpy as np
import pytest
from support.small import small

from gradnoise.study import Options, Store, StudyError, run_study
from gradnoise.study import trial as trials
from gradnoise.study.analysis.statistics import draws
from gradnoise.study.analysis.statistics.draws import Places, Rows, signs
from gradnoise.study.engine import Measurement
from gradnoise.study.run.planning import make_plan, remaining
from gradnoise.study.run.population_engine import PopulationEngine
from gradnoise.study.run.resolve import resolve

SEEDS = 300
OPTIONS = Options(workers=1, chunk=4, slice_seconds=0.0)


def test_a_configuration_is_written_checked_and_grouped_once(monkeypatch):
    calls = Counter()

    def counted(owner, name):
        function = getattr(owner, name)

        def call(*args):
            calls[name] += name != "canonical" or "lr" in args[0]
            return function(*args)

        monkeypatch.setattr(owner, name, call)

    counted(trials, "canonical")
    counted(PopulationEngine, "check")
    counted(PopulationEngine, "group")
    resolved = resolve(small(seeds=SEEDS), Options(), here=False)
    left = remaining(resolved, None, {})
    plan = make_plan(left, Options(chunk=40), 1, lambda job, whole: Measurement(40, 1.0, 0))
    assert len(resolved.trials) == 4 * SEEDS and sum(len(job.trials) for job, _ in plan.chunks) == 4 * SEEDS
    configurations = 4  # two settings, two arms
    assert calls["canonical"] == calls["check"] == configurations
    assert calls["group"] <= 3 * configurations


def test_a_configuration_is_read_once(tmp_path):
    run_study(small(), tmp_path, options=OPTIONS)
    with Store(tmp_path, readonly=True) as store:
        for found in (store.results().trials, list(store.trials(small().dataclasses()).values())):
            assert len(found) == 8 and len({id(t.config) for t in found}) == 4
        assert sum(store.counts().values()) == 8 and store.counts([found[0].id, "nothing"]) == {"finished": 1}


def test_as_many_seeds_as_nobody_trains_are_refused_at_once():
    for seeds in (10**12, range(10**12), range(-(10**30), 10**30)):
        with pytest.raises(StudyError, match="a study has 1,000,000 at most"):
            small(seeds=seeds)


@pytest.mark.parametrize("kind", [Rows, Places])
def test_rows_are_the_same_however_many_are_taken(monkeypatch, kind):
    """Also when some were taken before, and where they are too many to be kept."""
    monkeypatch.setattr(draws, "BATCH", 1000)
    whole = np.concatenate(list(kind(7, 30).batches(100)))
    again = kind(7, 30)
    for rows in (10, 100, 33, 34, 1):
        assert np.array_equal(np.concatenate(list(again.batches(rows))), whole[:rows])
    monkeypatch.setattr(draws, "DRAWS", 299)
    for rows in (10, 9, 100):
        assert np.array_equal(np.concatenate(list(again.batches(rows))), whole[:rows])
    few = kind(7, 30)
    assert np.array_equal(np.concatenate(list(few.batches(100))), whole) and not few._kept


def test_signs_are_those_of_one_generator():
    """What committed results were computed with."""
    rng = np.random.Generator(np.random.PCG64(3))
    rows = 1_000_000 // 17
    drawn = [rng.integers(0, 2, size=(n, 17), dtype=np.int8) for n in (rows, 10)]
    assert np.array_equal(np.concatenate(list(signs(3, 17).batches(rows + 10))), np.concatenate(drawn))
