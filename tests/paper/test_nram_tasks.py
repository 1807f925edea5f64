"""Generators, hand-written programs at zero error, and the curriculum."""

import numpy as np
import pytest
import torch
from scipy import stats

from gradnoise.paper.nram import TASKS, Curriculum, Lesson, NRAMExperiment, run_hard
from gradnoise.paper.nram.watch.oracles import PROGRAMS, listk_machine, run_program
from gradnoise.population import Draws, PopulationError

COUNT = 1000


def problems(task, n, seed=0):
    draws = Draws([seed], 0)
    return task.make(torch.full((COUNT,), n), lambda name, k: draws.uniform(name, COUNT, k)[0])


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("n", [2, 5])
def test_problems_are_well_formed(name, n):
    task = TASKS[name](14, 5)
    made = problems(task, n)
    for x in (made.memory, made.target):
        assert x.shape == (COUNT, 14)
        assert x.dtype == torch.int64
        assert ((x >= 0) & (x < 14)).all()
    assert made.mask.any(-1).all()
    outside = made.mask.clone()
    outside[:, task.outputs()] = False
    assert not outside.any()
    assert ((made.kind >= 0) & (made.kind < task.kinds)).all()


def plain(name, cells, n):
    """The right answer by ordinary list code: {cell: value}."""
    match name:
        case "access":
            return {0: cells[cells[0]]}
        case "increment":
            return {i: cells[i] + 1 for i in range(n)}
        case "copy":
            return {cells[0] + i: cells[1 + i] for i in range(n)}
        case "reverse":
            return {cells[0] + i: cells[n - i] for i in range(n)}
        case "swap":
            p, q = cells[:2]
            return {i: cells[q if i == p else p if i == q else i] for i in range(2, n + 2)}
        case "permutation":
            return {1 + i: cells[cells[0] + cells[1 + i]] for i in range(n)}
    node, seen = cells[0], []
    while node:
        seen.append(node)
        node = cells[node]
    assert len(set(seen)) == n
    assert all(a % 2 == 1 and a >= 3 for a in seen)
    return {2: cells[seen[cells[1]] + 1]}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_targets_are_right(name, n):
    made = problems(TASKS[name](15, 5), n)
    for cells, target, mask in zip(*(x.tolist() for x in (made.memory, made.target, made.mask)), strict=True):
        assert {i: v for i, v in enumerate(target) if mask[i]} == plain(name, cells, n)


def test_listk_covers_slots_hops_and_values_evenly():
    made = problems(TASKS["listk"](12, 4), 4)
    for x, low, high in (
        (made.memory[:, 1], 0, 4),
        ((made.memory[:, 0] - 3) // 2, 0, 4),
        (made.target[:, 2] - 1, 0, 11),
    ):
        counts = x.bincount(minlength=high - low)
        assert len(counts) == high
        assert stats.chisquare(counts.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_programs_solve_their_tasks(name, n):
    names, program = PROGRAMS[name]
    made = problems(TASKS[name](13, 6), n)
    moments = list(run_program(program, names, made.memory, n))
    assert ((moments[-1].memory == made.target) | ~made.mask).all()
    expected = {"access": 2, "increment": n, "copy": n + 1, "reverse": n + 1, "swap": 5, "permutation": 2 * n + 1}
    assert len(moments) == expected[name]
    assert [bool(x.stops.all()) for x in moments] == [False] * (len(moments) - 1) + [True]


def test_each_task_has_a_program():
    assert {*PROGRAMS, "listk"} == set(TASKS)


@pytest.mark.parametrize(("cells", "n"), [(8, 2), (16, 6), (24, 10), (32, 14)])
def test_the_listk_program_as_weights_makes_no_error(cells, n):
    exam = NRAMExperiment(Lesson.of("listk", cells, n, n + 2, evaluated=300, confirmed=10))
    with torch.no_grad():
        scores = exam.evaluate(listk_machine(), (), NRAMExperiment.Config())
    assert scores["solved"] == 100
    assert scores["error"] == scores["stopped_error"] == scores["hard_error"] == 0
    assert scores["ties"] == 0


@pytest.mark.parametrize(("sharpness", "most"), [(10, 2e-2), (20, 2e-6), (30, 1e-7)])
def test_likelihood_of_the_listk_program(sharpness, most):
    experiment = NRAMExperiment(Lesson.of("listk", 24, 10, 12, evaluated=10, confirmed=10))
    config = experiment.Config()
    state = experiment.course.start(config) | {"level": torch.tensor(9)}
    made = experiment.course.batch(Draws([0], 0), {name: x[None] for name, x in state.items()}, config)
    with torch.no_grad():
        loss, observed = experiment.loss(listk_machine(sharpness), ({n: x[0] for n, x in made.items()}, state), config)
    assert loss / 50 < most
    assert observed["error"] == 0


def test_the_golden_example_step_by_step():
    memory = torch.tensor([[5, 2, 2, 0, 2, 13, 11, 0, 0, 3, 5, 0, 0, 9, 2, 0]])
    moments = list(run_hard(listk_machine(), memory, 5))
    assert [m.registers[0].tolist() for m in moments[:4]] == [[5, 6, 0, 1], [5, 6, 2, 0], [13, 14, 1, 0], [9, 10, 0, 0]]
    assert [m.stops.item() for m in moments] == [False] * 4 + [True]
    assert moments[4].memory[0, 2] == 5


@pytest.mark.parametrize(
    ("name", "cells", "most", "message"),
    [("listk", 12, 5, "needs at least 13 cells"), ("access", 8, 0, "n_max = 0"), ("swap", 8, 1, "at least 2")],
)
def test_tasks_that_do_not_fit(name, cells, most, message):
    with pytest.raises(PopulationError, match=message):
        TASKS[name](cells, most)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"task": "lisk"}, "did you mean 'listk'"), ({"steps": 0}, "steps T = 0")]
)
def test_lessons_that_are_none(arguments, message):
    with pytest.raises(PopulationError, match=message):
        Lesson.of(**arguments)


def difficulties(level, on, count):
    u = Draws([7], 0).uniform("d", 3, count)
    curriculum = Curriculum()
    state = {name: x[None] for name, x in (curriculum.start(10, on) | {"level": torch.tensor(level)}).items()}
    return curriculum.difficulties(state, u[:, 0], u[:, 1], u[:, 2])[0].bincount(minlength=11)[1:]


def test_without_curriculum_all_difficulties_come_alike():
    assert stats.chisquare(difficulties(1, False, 50_000).numpy()).pvalue > 1e-4


def test_difficulties_follow_the_published_mixture():
    level, count = 3, 200_000
    found = difficulties(level, True, count)
    near = np.array([0.0] * level + [2.0**-k for k in range(1, 7)] + [2.0**-6])  # P(min(D + e, 10) = d)
    expected = 0.65 * near + 0.10 / 10
    for top in range(1, 11):
        expected[:top] += 0.25 * near[top - 1] / top
    assert stats.chisquare(found.numpy(), expected * count).pvalue > 1e-4


def test_the_level_rises_with_a_gap_and_never_too_far():
    curriculum = Curriculum(gap=10)
    state = {name: x[None] for name, x in curriculum.start(3).items()}
    levels = []
    for t in range(80):
        state = curriculum.updated(state, torch.zeros(1), torch.tensor(t))
        levels.append(state["level"].item())
    rises = [t for t in range(1, 80) if levels[t] > levels[t - 1]]
    assert levels[-1] == 3
    assert rises[0] == 31  # 0.95^32 is the first below 0.2
    assert rises[1] - rises[0] == 10


@pytest.mark.parametrize("arguments", [{"threshold": 0.0}, {"threshold": 1.5}, {"gap": 0}])
def test_a_curriculum_out_of_range(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Curriculum(**arguments)
