"""How many replicas to train as one program: large enough to fill the machine, small enough for its cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from gradnoise.population.memory import is_out_of_memory
from gradnoise.population.population import Population

CANDIDATES = (8, 16, 32, 64)


def best_size(
    build: Callable[[int], Population], most: int, *, candidates: Sequence[int] = CANDIDATES, steps: int = 4
) -> tuple[int, float]:
    """Time a few updates at several sizes and take the fastest per replica.

    Args:
        build: makes a population of a given number of replicas.
        most: the largest number of replicas that there is work for.
        candidates: sizes to try, ascending; those above `most` are replaced by `most`.
        steps: updates to time, after one to warm up; rounds of them where the experiment has turns.

    Returns:
        The size, and seconds per replica and update at that size.
    """
    timings: dict[int, float] = {}
    for size in sorted({min(c, most) for c in candidates}):
        try:
            population = build(size)
            _train_round(population)
            # the fastest, as some may record a new shape
            fastest = min(_seconds(partial(_train_round, population)) for _ in range(steps))
            timings[size] = fastest / size / population.round.updates
        except Exception as error:
            if timings and is_out_of_memory(error):
                break
            raise
        if timings[size] > 1.1 * min(timings.values()):
            break  # past the cache: larger is slower still
    size = min(timings, key=timings.__getitem__)
    return size, timings[size]


def usual_seconds(population: Population, steps: int, eval_every: int, *, updates: int = 5) -> float:
    """Time some updates and an evaluation of a population that was trained a little.

    Args:
        population: it is trained on, for `updates`, whole rounds of turns, and not beyond `steps`.
        steps: updates of its runs.
        eval_every: updates between evaluations.
        updates: how many to time.

    Returns:
        Seconds per update of all replicas, with its share of the evaluations; of the latter alone if none was left.
    """
    rounds = -(-updates // population.round.updates)
    count = max(min(rounds * population.round.updates, steps - population.t), 0)
    start = time.perf_counter()
    for _ in range(count):
        population.step()
    population.settle()
    middle = time.perf_counter()
    if population.alive:
        population.evaluate()
    return (middle - start) / max(count, 1) + (time.perf_counter() - middle) / eval_every


def _train_round(population: Population) -> None:
    for _ in range(population.round.updates):
        population.step()


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
