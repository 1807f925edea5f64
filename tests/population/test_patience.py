"""Early stopping: a goal that remembers, whose memory is the replica's own and part of its checkpoints."""

import math
from typing import Any

import pytest
import torch
from support.toys import Regression, replica

from gradnoise.errors import PopulationError
from gradnoise.noise.schedule import Annealed
from gradnoise.population import Goal, Patience, Population
from gradnoise.population.checkpoint import load, save

RUNS = [replica(seed, lr=0.05, noise=Annealed(0.1)) for seed in range(3)]
#: What three replicas measure at six evaluations: one improves to the end, one to the second, one breaks.
LOSSES = [[5.0, 5.0, 5.0], [4.0, 4.0, math.nan], [3.0, 4.5, math.nan], [2.0, 4.0, math.nan], [1.0, 3.0, 9.0]]


def population(goal: Goal, runs=RUNS) -> Population:
    experiment = Regression()
    experiment.goal = goal
    return Population(experiment, runs, trace=False, dtype=torch.float64)


def ended(engine: Population, losses=LOSSES) -> list[list[int]]:
    """Who is alive after each evaluation, after an update each."""
    alive = []
    for row in losses:
        engine.step()
        engine.retire({"loss": torch.tensor([row[i] for i in engine.alive])})
        alive.append(list(engine.alive))
    return alive


def test_replicas_end_one_by_one_when_they_have_waited():
    assert ended(population(Patience("loss", 2))) == [[0, 1, 2], [0, 1, 2], [0, 1], [0], [0]]
    assert ended(population(Patience("loss", 3)))[2:] == [[0, 1, 2], [0, 1], [0, 1]]


def test_small_improvements_are_none():
    rows = [[1.0 - 0.1 * i] * 3 for i in range(4)]
    assert ended(population(Patience("min:loss", 2, least=0.15)), rows)[-1] == [0, 1, 2]  # 0.2 in two evaluations
    assert ended(population(Patience("min:loss", 1, least=0.15)), rows)[1] == []


def test_a_metric_may_be_better_when_it_is_higher():
    rising = [[float(i)] * 3 for i in range(4)]
    goal = Patience("max:score", 1)
    engine = population(goal)
    for row in rising:
        assert engine.retire({"score": torch.tensor(row)}) == [0, 1, 2]
    assert engine.retire({"score": torch.tensor([9.0, 3.0, 2.0])}) == [0]


def test_resumed_is_uninterrupted(tmp_path):
    whole = ended(population(Patience("loss", 2)))
    first, second = population(Patience("loss", 2)), population(Patience("loss", 2))
    begun = ended(first, LOSSES[:2])
    save(tmp_path, 2, first.state_dict())
    second.load_state_dict(load(tmp_path, 2))
    assert begun + ended(second, LOSSES[2:]) == whole


def test_a_replica_alone_ends_where_it_ends_in_a_population():
    together = population(Patience("loss", 2))
    ended(together)
    for i, run in enumerate(RUNS):
        alone = population(Patience("loss", 2), [run])
        ended(alone, [[row[i]] for row in LOSSES])
        assert alone.finished.get(0) == together.finished.get(i)


def test_evaluating_twice_is_no_second_evaluation():
    engine = population(Patience("max:size", 1))
    for _ in range(3):
        metrics = engine.evaluate()
    assert engine.retire(metrics) == [0, 1, 2]


def test_a_checkpoint_of_another_goal_is_refused():
    state = population(Patience("loss", 2)).state_dict()
    with pytest.raises(PopulationError, match=r"the checkpoint belongs to another population: .* goal best"):
        population(Short()).load_state_dict(state)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("loss", 0), "evaluations = 0; give a whole number >= 1"),
        (("loss", True), "evaluations = True; give a whole number"),
        (("loss", 2, -1.0), "least = -1.0; give a finite number >= 0"),
        (("size", 2), "'size' does not say which direction of 'size' is better; write min:size or max:size"),
    ],
)
def test_what_patience_cannot_be_is_refused(values, message):
    with pytest.raises(PopulationError, match=message):
        Patience(*values)


def test_a_metric_that_nobody_measures_is_named():
    with pytest.raises(PopulationError, match=r"waits for 'siez', .* there are mean, size; did you mean 'size'"):
        population(Patience("min:siez", 2)).evaluate()


class Short(Goal):
    """Ends at once; its state is wrong in the ways that are asked for."""

    def __init__(self, start: Any = None, after: Any = None) -> None:
        self.first = {"best": torch.tensor(0.0)} if start is None else start
        self.next = after

    def start(self, config):
        return self.first

    def after(self, state, metrics):
        return state if self.next is None else self.next

    def reached(self, metrics, state=None):
        assert state is not None
        return state["best"] > 1


def test_a_state_that_is_none_is_refused():
    with pytest.raises(PopulationError, match="'best' as a float; a state holds tensors"):
        population(Short(start={"best": 1.0}))
    with pytest.raises(PopulationError, match="`after` left out 'best'"):
        population(Short(after={})).evaluate()
