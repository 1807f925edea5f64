"""How many replicas train as one program."""

import pytest
from support.toys import MIXED, net_experiment, only

from gradnoise.population import Population, best_size, chunks
from gradnoise.population.turns import Round


class Timed:
    """Stands for a population whose update takes a known time per replica."""

    round = Round.of(())

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
