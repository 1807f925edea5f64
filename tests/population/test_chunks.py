"""How many replicas train as one program, and which."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.toys import MIXED, net_experiment, only

from gradnoise.population import Population, best_size, chunks, plan


@given(counts=st.lists(st.integers(1, 40), max_size=20), size=st.integers(1, 64))
def test_a_plan_covers_every_replica_once_in_order(counts, size):
    pieces = plan(counts, size)
    assert [i for piece in pieces for i in piece] == list(range(sum(counts)))
    assert all(pieces)


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=20), size=st.integers(1, 64))
def test_chunks_are_near_the_size_and_seeds_whole(counts, size):
    pieces = plan(counts, size)
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
    assert [len(piece) for piece in plan(counts, size)] == lengths


class Timed:
    """Stands for a population whose update takes a known time per replica."""

    def __init__(self, size: int, per_replica: dict[int, float], clock: list[float]) -> None:
        self.seconds, self.clock, self.first = size * per_replica[size], clock, True

    def step(self) -> None:
        self.clock[0] += 100.0 if self.first else self.seconds  # the first update warms up and must not count
        self.first = False


def measured(monkeypatch, per_replica: dict[int, float], most: int = 1000, **options):
    clock, built = [0.0], []
    monkeypatch.setattr(chunks.time, "perf_counter", lambda: clock[0])

    def build(size: int) -> Timed:
        built.append(size)
        return Timed(size, per_replica, clock)

    return *best_size(build, most, **options), built  # type: ignore[arg-type]


def test_the_fastest_per_replica(monkeypatch):
    size, seconds, built = measured(monkeypatch, {8: 4.0, 16: 2.0, 32: 1.0, 64: 1.05})
    assert (size, built) == (32, [8, 16, 32, 64]) and seconds == pytest.approx(1.0)


def test_it_stops_when_larger_is_slower(monkeypatch):
    size, _, built = measured(monkeypatch, {8: 2.0, 16: 1.0, 32: 1.2, 64: 0.1})
    assert (size, built) == (16, [8, 16, 32])


def test_no_more_than_there_are(monkeypatch):
    size, _, built = measured(monkeypatch, {8: 2.0, 12: 1.0}, most=12)
    assert (size, built) == (12, [8, 12])
    assert measured(monkeypatch, {3: 1.0}, most=3)[2] == [3]


def test_candidates_of_ones_own(monkeypatch):
    assert measured(monkeypatch, {5: 3.0, 7: 1.0}, candidates=(5, 7))[0] == 7


def test_a_real_population():
    def build(size: int) -> Population:
        return Population(net_experiment(), only(MIXED, range(size)), trace=False)

    size, seconds = best_size(build, 3, candidates=(2, 8), steps=1)
    assert size in (2, 3) and 0 < seconds < 60
