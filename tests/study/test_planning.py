"""Which trials train together: all of them once, whole seeds where they fit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.small import Toy, small

from gradnoise.errors import StudyError
from gradnoise.study import Options, Store, Study, run_study
from gradnoise.study.engine import Measurement
from gradnoise.study.results import StudyRecord
from gradnoise.study.run.planning import cut_seeds, make_plan, remaining
from gradnoise.study.run.resolve import resolve
from gradnoise.study.spec import Trial


@given(counts=st.lists(st.integers(1, 40), max_size=20), size=st.integers(1, 64))
def test_a_plan_covers_every_replica_once_in_order(counts, size):
    pieces = cut_seeds(counts, size)
    assert [i for piece in pieces for i in piece] == list(range(sum(counts)))
    assert all(pieces)


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=20), size=st.integers(1, 64))
def test_chunks_are_near_the_size_and_seeds_whole(counts, size):
    pieces = cut_seeds(counts, size)
    assert max(map(len, pieces)) <= 1.5 * size
    chunk_of = {i: c for c, piece in enumerate(pieces) for i in piece}
    start = 0
    for count in counts:
        chunks_of_seed = {chunk_of[i] for i in range(start, start + count)}
        assert len(chunks_of_seed) == (1 if count <= 1.5 * size else math.ceil(count / size))
        start += count


@pytest.mark.parametrize(
    ("counts", "size", "lengths"),
    [
        ([], 8, []),
        ([3, 3, 3, 3, 3], 8, [6, 6, 3]),
        ([12], 8, [12]),  # half as much again is better than two small chunks
        ([13], 8, [6, 7]),
        ([5, 20, 5], 8, [5, 6, 7, 7, 5]),
        ([1] * 10, 4, [4, 4, 2]),
    ],
)
def test_plans(counts, size, lengths):
    assert [len(piece) for piece in cut_seeds(counts, size)] == lengths


def planned(study: Study, **options):
    left = remaining(resolve(study, Options(**options), here=False), None, {})
    return make_plan(left, Options(**options), 1, lambda job, whole: Measurement(len(job.trials), 1.0, 0))


def test_seeds_stand_in_the_order_in_which_they_were_asked_for():
    plan = planned(small(seeds=(5, 2, 9)), chunk=4)
    assert [{t.seed for t in job.trials} for job, _ in plan.chunks] == [{5}, {2}, {9}]


def test_a_plan_of_many_seeds_takes_no_time_for_looking_them_up():
    class Counting(tuple):
        looked_up = 0

        def index(self, *arguments):
            Counting.looked_up += 1
            return super().index(*arguments)

    plan = planned(small(seeds=Counting(range(300))), chunk=64)
    assert sum(len(job.trials) for job, _ in plan.chunks) == 1200 and not Counting.looked_up


def test_a_chunk_of_unknown_trials(tmp_path):
    """A store that somebody wrote by hand."""
    with Store(tmp_path) as store:
        store.extend(StudyRecord.of(small()), list(small().trials()), [["0123456789abcdef"]])
    with pytest.raises(StudyError, match="the store is damaged: a chunk has an unknown trial 0123456789abcdef"):
        run_study(small(), tmp_path)


def test_trials_are_enumerated_once(tmp_path, monkeypatch):
    """In a run from the start, in one that goes on, and in one that has nothing to do."""
    calls, original = [0], Study.trials

    def counted(study: Study):
        calls[0] += 1
        return original(study)

    class Stop(Toy):
        def evaluate(self, model, held_out, config):
            raise KeyboardInterrupt

    monkeypatch.setattr(Study, "trials", counted)
    for experiment, stops in ((Stop(), True), (Toy(), False), (Toy(), False)):
        calls[0] = 0
        try:
            run_study(small(experiment), tmp_path, options=Options(workers=1, chunk=4))
        except KeyboardInterrupt:
            assert stops
        assert calls == [1]


def test_an_id_is_hashed_once(monkeypatch):
    trial, texts = next(small().trials()), []
    monkeypatch.setattr("gradnoise.study.trial.canonical", lambda value: texts.append(value) or "text")
    assert trial.id == trial.id and len(texts) == 2  # the configuration, and what else there is
    assert isinstance(trial, Trial)
