"""States of courses and goals: replicas of one population keep the same tensors."""

import pytest
import torch

from gradnoise.population import PopulationError
from gradnoise.population.states import stacked

CPU = torch.device("cpu")


def test_states_are_stacked_in_the_dtype_of_the_population():
    states = [{"x": torch.full((2,), float(i)), "n": torch.tensor(i)} for i in range(3)]
    found = stacked(states, "course", CPU, torch.float64)
    assert found["x"].dtype == torch.float64 and found["x"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert found["n"].dtype == torch.int64 and found["n"].tolist() == [0, 1, 2]
    assert stacked(states, "goal", CPU)["x"].dtype == torch.float32
    assert stacked([{}, {}], "goal", CPU) == {}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"x": 1.0}, "the course's `start` returned 'x' as a float; a state holds tensors"),
        ({}, "returned 'x' for one of the replicas 0 and 1 and not for the other"),
        (
            {"x": torch.zeros(2), "y": torch.zeros(2)},
            "returned .y. for one of the replicas 0 and 1 and not",
        ),
        ({"x": torch.zeros(3)}, r"returned 'x' of shape \[3\] for replica 1 and \[2\] for replica 0"),
    ],
)
def test_states_that_differ_are_refused(second, message):
    with pytest.raises(PopulationError, match=message):
        stacked([{"x": torch.zeros(2)}, second], "course", CPU)
